"""Callbacks that write files, talk to servers and exchange weights, on real models."""

import http.server
import json
import math
import struct
import sys
import threading
import urllib.parse

import numpy as np
import pytest
from made_models import compiled

from nbkeras import callbacks as cb
from nbkeras import layers, models, optimizers
from nbkeras.callbacks import tensorboard
from nbkeras.utils import set_random_seed

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((16, 3)).astype(np.float32), RNG.standard_normal((16, 1)).astype(np.float32)


def make(optimizer=None):
    set_random_seed(1)
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(4, "tanh", name="hidden"), layers.Dense(1, name="out")], name="net"
    )
    model.compile(optimizer or optimizers.Adam(0.1), "mse")
    return model


def fit(model, callbacks, epochs=4, **options):
    return model.fit(X, Y, 4, epochs, 0, callbacks, shuffle=False, **options)


class Crash(cb.Callback):
    """A power cut at the start of an epoch."""

    def __init__(self, epoch):
        self.at = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if self.at == epoch:
            raise KeyboardInterrupt


class TestBackupAndRestore:
    def test_a_damaged_file(self, tmp_path):
        backup = cb.BackupAndRestore(tmp_path, double_checkpoint=True)
        wait = cb.LambdaCallback(on_epoch_begin=lambda epoch, logs: backup._folder.wait())  # so that each is saved
        with pytest.raises(KeyboardInterrupt):
            fit(make(), [backup, wait, Crash(3)])
        older, latest = sorted(tmp_path.iterdir(), key=lambda path: int(path.stem))
        latest.write_bytes(latest.read_bytes()[:100])
        with pytest.warns(UserWarning, match="is damaged and skipped"):
            assert fit(make(), cb.BackupAndRestore(tmp_path, delete_checkpoint=False)).epoch == [0, 1, 2, 3]
        for path in tmp_path.iterdir():
            path.write_bytes(b"PK")
        with (
            pytest.warns(UserWarning, match="is damaged and skipped"),
            pytest.raises(OSError, match="to start from the beginning"),
        ):
            fit(make(), cb.BackupAndRestore(tmp_path))

    def test_of_another_model(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            fit(make(), [cb.BackupAndRestore(tmp_path), Crash(1)])
        with pytest.raises(ValueError, match="belongs to another model or training"):
            fit(make("sgd"), cb.BackupAndRestore(tmp_path))
        with pytest.raises(ValueError, match="needs a folder, received an empty backup_dir"):
            cb.BackupAndRestore("")
        with pytest.raises(ValueError, match="save_freq must be 'epoch' or a positive number of batches, received 0"):
            cb.BackupAndRestore("a", save_freq=0)


def averaging(**options):
    return optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, **options)


class TestSwapEMAWeights:
    @pytest.mark.parametrize(
        "wrap", [None, optimizers.LossScaleOptimizer, lambda o: optimizers.MultiOptimizer(lambda v: o)]
    )
    def test_evaluation_uses_the_averages(self, wrap):
        seen = {}

        class Watch(cb.Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen["epoch"] = [w.copy() for w in self.model.get_weights()]

            def on_test_begin(self, logs=None):
                seen["test"] = [w.copy() for w in self.model.get_weights()]

        model, plain = make(wrap(averaging()) if wrap else averaging()), make(averaging())
        fit(model, [cb.SwapEMAWeights(), Watch()], 2, validation_data=(X, Y))
        fit(plain, None, 2)  # it ends with the averages
        weights = seen["test"], model.get_weights(), plain.get_weights(), seen["epoch"]
        for average, final, without, raw in zip(*weights, strict=True):
            np.testing.assert_allclose(average, final, rtol=1e-5)
            np.testing.assert_allclose(final, without, rtol=1e-5)
            assert np.abs(raw - average).max() > 1e-4

    def test_swapped_at_the_end_of_epochs(self, tmp_path):
        model = make(averaging())
        saving = cb.ModelCheckpoint(tmp_path / "{epoch}.keras")
        fit(model, [cb.SwapEMAWeights(swap_on_epoch=True), saving], 2)
        plain = make(averaging())
        fit(plain, None, 2)
        saved = models.load_model(tmp_path / "2.keras").get_weights()
        for a, b, c in zip(saved, plain.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
            np.testing.assert_array_equal(a, c)

    def test_predictions_use_the_averages(self):
        model = compiled(make(averaging()), averaging())
        for _ in range(3):
            model.train_on_batch(X, Y)
        before, plain = model.get_weights(), model.predict(X, verbose=0)
        averages = model.predict(X, callbacks=[cb.SwapEMAWeights()], verbose=0)
        np.testing.assert_equal(before, model.get_weights())
        model.optimizer.finalize_variable_values(model.trainable_variables)
        np.testing.assert_allclose(averages, model.predict(X, verbose=0), rtol=1e-5)
        assert np.abs(averages - plain).max() > 1e-4

    def test_without_averages(self):
        with pytest.raises(ValueError, match="optimizer that keeps averages: pass it use_ema=True"):
            make().evaluate(X, Y, callbacks=[cb.SwapEMAWeights()], verbose=0)


class TestRemoteMonitor:
    @pytest.mark.parametrize("as_json", [False, True])
    def test_what_a_server_gets(self, as_json):
        received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                received.append((self.path, self.headers["Content-Type"], self.headers["X-Key"], body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            root = f"http://127.0.0.1:{server.server_address[1]}"
            monitor = cb.RemoteMonitor(root, headers={"X-Key": "1"}, send_as_json=as_json)
            monitor.on_epoch_end(3, {"loss": np.float32(0.5), "val": 2})
            server.shutdown()
            thread.join()
        ((path, kind, key, body),) = received
        assert (path, key) == ("/publish/epoch/end/", "1")
        assert kind == ("application/json" if as_json else "application/x-www-form-urlencoded")
        body = body if as_json else urllib.parse.parse_qs(body)["data"][0]
        assert json.loads(body) == {"epoch": 3, "loss": 0.5, "val": 2}

    def test_no_server_is_a_warning(self):
        with pytest.warns(UserWarning, match="could not reach"):
            cb.RemoteMonitor("http://127.0.0.1:9").on_epoch_end(0, {})
        with pytest.raises(ValueError, match="needs an http or https address, received root='file:///tmp'"):
            cb.RemoteMonitor("file:///tmp")


def events(folder):
    """The records of a folder's event file: each a length, its checksum, the data, their checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += 16 + length
    return [(value.tag, event.step, value) for event in found for value in event.summary.value]


class TestTensorBoard:
    def test_what_is_written(self, tmp_path):
        pytest.importorskip("tensorboardX")
        board = cb.TensorBoard(
            tmp_path, histogram_freq=1, write_images=True, write_steps_per_second=True, update_freq=3
        )
        history = fit(make(), board, 2, validation_data=(X, Y)).history
        train, validation = events(tmp_path / "train"), events(tmp_path / "validation")
        train_scalars = {(tag, step): v.simple_value for tag, step, v in train if v.HasField("simple_value")}
        of_validation = {(tag, step): v.simple_value for tag, step, v in validation}
        for epoch in range(2):
            assert train_scalars["epoch_steps_per_second", epoch] > 0
            np.testing.assert_allclose(train_scalars["epoch_learning_rate", epoch], 0.1, rtol=1e-6)
            np.testing.assert_allclose(train_scalars["epoch_loss", epoch], history["loss"][epoch], rtol=1e-6)
            np.testing.assert_allclose(of_validation["epoch_loss", epoch], history["val_loss"][epoch], rtol=1e-6)
            after = of_validation["evaluation_loss_vs_iterations", 4 * (epoch + 1)]
            np.testing.assert_allclose(after, history["val_loss"][epoch], rtol=1e-6)
        assert [step for tag, step, _ in train if tag == "batch_loss"] == [3, 6]
        histograms = [value for tag, step, value in train if tag == "net/hidden/kernel/histogram"]
        assert [value.histo.num for value in histograms] == [12, 12]
        assert any(tag.startswith("net/hidden/kernel/image") for tag, _, _ in train)
        (model,) = [value for tag, _, value in train if value.metadata.plugin_data.plugin_name == "graph_keras_model"]
        assert json.loads(model.tensor.string_val[0])["class_name"] == "Sequential"

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((3,), (1, 3, 1, 1)),
            ((2, 3), (1, 2, 3, 1)),
            ((3, 2), (1, 2, 3, 1)),
            ((2, 3, 4), (4, 2, 3, 1)),
            ((2,) * 4, None),
        ],
    )
    def test_images_of_weights(self, shape, expected):
        image = tensorboard._as_image(np.arange(math.prod(shape), dtype=np.float32).reshape(shape))
        assert image is expected or (image.shape == expected and image.min() == 0 and image.max() == 1)

    def test_what_is_missing_or_not_offered(self, monkeypatch):
        with pytest.warns(UserWarning, match=r"profile_batch=2\) is not supported.*: nbkeras.profile\(model, x, y\)"):
            cb.TensorBoard(profile_batch=2)
        with pytest.raises(ValueError, match="embeddings_freq=.* is not offered"):
            cb.TensorBoard(embeddings_freq=1)
        with pytest.raises(ValueError, match="update_freq must be 'epoch', 'batch' or a number of batches, received 0"):
            cb.TensorBoard(update_freq=0)
        monkeypatch.setitem(sys.modules, "tensorboardX", None)
        with pytest.raises(ImportError, match=r"pip install 'nbkeras\[tensorboard\]'"):
            cb.TensorBoard()


def test_learning_rates_of_several_optimizers(capsys):
    by_path = optimizers.OptimizerMap(
        optimizers.SGD(0.5, name="first"), {".*bias": optimizers.Adam(0.25, name="second")}
    )
    model = make(optimizers.MultiOptimizer(by_path))
    slower = cb.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100, verbose=1)
    history = fit(
        model, [cb.LearningRateScheduler(lambda epoch, rate: rate * 2 if epoch == 0 else rate), slower], 2
    ).history
    assert history["learning_rate_first"] == [1.0, 1.0] and history["learning_rate_second"] == [0.5, 0.5]
    assert [float(optimizer.learning_rate) for optimizer in model.optimizer.optimizers] == [0.25, 0.5]
    assert "reducing first learning rate to 0.5" in capsys.readouterr().out
