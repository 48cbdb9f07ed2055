"""Scripts for Keras 2 and 3, run unmodified: `python -m nbkeras script.py`."""

import importlib.util
import operator
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from compat_scripts import SCRIPTS

import nbkeras
from nbkeras import layers, metrics, optimizers
from nbkeras.compat.modules import SHOWN
from nbkeras.compat.tensorflow.modules import INSTEAD


def test_modules_of_keras_mean_nbkeras(run):
    run("""
        import keras, keras.backend as K
        import nbkeras
        from keras import layers
        from keras.engine.topology import InputSpec, Layer
        from keras.layers import *
        from keras.layers import recurrent
        from keras.layers.core import Dense as OldDense
        from keras.legacy import interfaces
        from keras.models import Model
        from keras.preprocessing import image, timeseries_dataset_from_array
        from keras.utils.generic_utils import Progbar
        from keras.utils.np_utils import to_categorical

        assert OldDense is Dense is layers.Dense is keras.layers.core.Dense is nbkeras.layers.Dense
        assert recurrent.LSTM is LSTM is nbkeras.layers.LSTM
        assert Model is nbkeras.Model and Layer is nbkeras.Layer
        assert timeseries_dataset_from_array is nbkeras.utils.timeseries_dataset_from_array
        assert image is keras.preprocessing.image and image.load_img is not nbkeras.utils.load_img
        assert keras.__version__ == "2.3.1" and K.epsilon() == 1e-7
        assert not hasattr(layers, "NoSuchLayer") and keras.applications.vgg16.VGG16 is nbkeras.applications.VGG16
        assert "Dense" in dir(layers) and "backend" in dir(keras)
        assert interfaces.legacy_dense_support(print) is print
        assert advanced_activations.PReLU is PReLU and "recurrent" in dir(layers) and "" not in dir(keras)
        assert keras.constraints.maxnorm is keras.constraints.max_norm and keras.optimizers.sgd is nbkeras.optimizers.SGD
        keras.optimizers.Nadam(lr=0.1, schedule_decay=0.004)
        """)


def test_names_that_do_nothing_and_values_that_are_refused(run):
    run("""
        import keras, keras.backend as K
        from keras.callbacks import TensorBoard
        from keras.legacy import interfaces
        from pytest import raises

        with K.name_scope("part"):
            x = K.variable([1.0])
        assert not K.is_sparse(x) and K.to_dense(x) is x and not hasattr(interfaces, "legacy_dense")
        with raises(ValueError, match="^the learning phase must be 0 or 1, received 2$"):
            K.set_learning_phase(2)
        with raises(ValueError, match="^Nadam: schedule_decay is always 0.004, received 1.0$"):
            keras.optimizers.Nadam(schedule_decay=1.0)
        with raises(ValueError, match="^TensorBoard.write_grads=True. is not offered$"):
            TensorBoard(write_grads=True)
        """)


def test_settings_come_from_keras_json(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    settings = '{"floatx": "float64", "epsilon": 1e-05, "backend": "tensorflow", "image_data_format": "channels_first"}'
    (tmp_path / "keras.json").write_text(settings, encoding="utf-8")
    source = """
        import keras.backend as K
        assert (K.floatx(), K.epsilon(), K.image_data_format()) == ("float64", 1e-05, "channels_first")
        """
    run(source)
    (tmp_path / "keras.json").write_text("{", encoding="utf-8")
    with pytest.raises(AssertionError, match="keras.json is not valid JSON"):
        run(source)


def test_a_script_is_run_as_python_runs_it(run, tmp_path):
    (tmp_path / "beside.py").write_text("value = 7", encoding="utf-8")
    source = """
        import multiprocessing, sys
        import beside, keras

        def child(x):
            return keras.layers.Dense(x, name="d").units, __name__

        if __name__ == "__main__":
            print(sys.argv[1:], __file__ == sys.argv[0], beside.value)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(child, (3,)))
            sys.exit(5)
        """
    printed = run(source, "a", "--b", expect=5)
    assert printed.startswith("['a', '--b'] True 7\n(3, '__mp_main__')\n")


def test_an_error_is_shown_from_the_scripts_line_on(run, tmp_path):
    printed = run("import keras\nkeras.layers.Dense(-1)", expect=1, options=("--keras", "3"))
    assert printed.startswith(f'Traceback (most recent call last):\n  File "{tmp_path / "script.py"}", line 2')


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from keras.layers import FlaxLayer", "ImportError: keras.layers.FlaxLayer is not offered: .*another frame"),
        ("import keras.nothing", "ModuleNotFoundError: No module named 'keras.nothing'"),
        ("import keras; keras.layers.NoLayer", "AttributeError: module 'keras.layers' has no attribute 'NoLayer'"),
    ],
)
def test_what_is_missing_is_said(run, source, message):
    with pytest.raises(AssertionError, match=message):
        run(source)


def run_python(source, *arguments):
    """The output of a program that Python runs without nbkeras."""
    command = [sys.executable, "-P", "-c", textwrap.dedent(source), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_keras_that_was_imported_is_not_shadowed(tmp_path):
    (tmp_path / "keras.py").write_text("", encoding="utf-8")
    source = """
        import sys
        from pytest import raises
        sys.path.insert(0, sys.argv[1])
        import keras
        import nbkeras
        with raises(ImportError, match="another Keras is imported already"):
            nbkeras.install_as_keras()
        """
    run_python(source, tmp_path)


def test_the_alias_in_code():
    run_python("""
        import nbkeras
        nbkeras.install_as_keras()
        nbkeras.install_as_keras()
        from keras.layers import Dense
        assert Dense is nbkeras.layers.Dense
        """)


TENSORFLOW = """
    import multiprocessing
    import tensorflow as tf, tensorflow.keras as other
    import tensorflow.keras.models
    from tensorflow import keras
    from tensorflow.keras import backend as K, layers
    from tensorflow.keras.layers import Dense
    from tensorflow.keras.layers.experimental.preprocessing import Rescaling
    from tensorflow.keras.optimizers.legacy import Adam
    import keras as alone

    def child(units):
        from tensorflow.keras.layers import Dense
        return Dense(units).units

    if __name__ == "__main__":
        assert tf.keras is keras is other is alone and layers is alone.layers and K is alone.backend
        assert Dense is layers.Dense is tf.keras.layers.Dense and Dense.__module__ == "nbkeras.layers.core"
        assert tf.__version__.startswith("2") and tf.data.Dataset.range(3).cardinality() == 3 and not hasattr(tf, "ragged")
        model = tf.keras.Sequential([Dense(2, input_shape=(3,))])
        model.compile(Adam(0.1), "mse")
        assert model.count_params() == 8
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(child, (3,)) == 3
    """


def test_scripts_of_tf_keras(run, tmp_path, monkeypatch):
    """If TensorFlow, or a package of that name, is installed, nbkeras replaces it only with the option."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "tensorflow.py").write_text("keras = 'not ours'", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "installed"))
        run(TENSORFLOW, options=("--tensorflow",))
        run("from tensorflow import keras; import keras as k; assert keras == 'not ours' and k.layers")
    if importlib.util.find_spec("tensorflow") is None:
        run(TENSORFLOW)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tf.data.TFRecordDataset", "AttributeError: tensorflow.data.TFRecordDataset is TensorFlow's.*from_generator"),
        ("tf.signal.dct", "AttributeError: tensorflow.signal.dct is TensorFlow's, and nbkeras offers only the names"),
        ("tf.bincount", "AttributeError: tensorflow.bincount is TensorFlow's.*use keras.ops.bincount"),
        (
            "tf.nothing",
            r"tensorflow.nothing is TensorFlow's, .* that docs/coming-from-keras.md lists \(use keras.ops .*\)\n",
        ),
        ("from tensorflow import distribute", "ImportError: tensorflow.distribute is TensorFlow's"),
        (
            "tf.compat.v1.Session",
            "AttributeError: tensorflow.compat.v1.Session is TensorFlow's.*no sessions and no gra",
        ),
        ("from tensorflow.compat.v1 import Session", "ImportError: tensorflow.compat.v1.Session is TensorFlow's"),
        (
            "from tensorflow.python.keras import layers",
            "tensorflow.python.keras is TensorFlow's.*write tensorflow.keras",
        ),
        ("import tensorflow.keras.nothing", "ModuleNotFoundError: No module named 'keras.nothing'"),
    ],
)
def test_what_is_tensorflows_is_said(run, source, message):
    with pytest.raises(AssertionError, match=message):
        run(f"import tensorflow as tf\n{source}", options=("--tensorflow",))


def test_tensorflow_that_was_imported_is_not_shadowed(run, tmp_path):
    (tmp_path / "tensorflow.py").write_text("", encoding="utf-8")
    run("""
        import tensorflow, nbkeras
        from pytest import raises
        nbkeras.install_as_keras()
        with raises(ImportError, match="another TensorFlow is imported already"):
            nbkeras.install_as_keras(tensorflow=True)
        """)


def test_what_is_named_in_place_of_tensorflows_is_there():
    for text in INSTEAD.values():
        for path in re.findall(r"(?:nb)?keras((?:\.[A-Za-z_]+)+)", text):
            found = operator.attrgetter(path[1:])(nbkeras) if text != "write tensorflow.keras" else nbkeras
            assert found is not None


def test_every_module_of_the_table_is_there():
    for version, modules in SHOWN.items():
        for name, shown in modules.items():
            for each in shown:
                assert importlib.import_module(each), (version, name)


def test_importing_nbkeras_imports_no_alias():
    source = "import sys, nbkeras; print([m for m in sys.modules if m.startswith(('nbkeras.compat.', 'keras'))])"
    assert run_python(source).strip() == "['nbkeras.compat.spellings']"


def test_older_spellings_that_nbkeras_takes_itself():
    assert float(optimizers.Adamax(lr=0.5).lr) == 0.5
    assert layers.LeakyReLU(alpha=0.1).negative_slope == layers.LeakyReLU(0.1).alpha == 0.1
    metric = metrics.Mean()
    metric.update_state(np.ones(3))
    metric.reset_states()
    assert float(metric.result()) == 0
    with pytest.raises(TypeError, match="'lr' is the older spelling of 'learning_rate'"):
        optimizers.SGD(lr=0.1, learning_rate=0.2)


def test_a_subclass_keeps_its_own_argument_of_that_name():
    class Slowing(optimizers.SGD):
        def __init__(self, lr=0.5, **kwargs):
            super().__init__(lr=lr / 2, **kwargs)

    class Leaky(layers.LeakyReLU):
        def __init__(self, alpha, **kwargs):
            super().__init__(alpha * 2, **kwargs)

    assert float(Slowing(lr=1.0).learning_rate) == 0.5
    assert Leaky(alpha=0.25).negative_slope == 0.5


def test_methods_and_defaults_of_keras_2(run):
    run("""
        import numpy as np
        import keras, keras.backend as K
        from keras.callbacks import LearningRateScheduler, ReduceLROnPlateau
        from keras.layers import GRU, Dense, Dropout, Input, Layer
        from keras.models import Model, Sequential

        class Scale(Layer):
            def build(self, input_shape):
                self.w = self.add_weight("w", (input_shape[-1],), initializer="ones")
                super(Scale, self).build(input_shape)
            def call(self, x):
                return x * self.w

        model = Sequential([Dense(4, activation="hard_sigmoid", input_dim=3), Scale(), Dense(2, activation="softmax")])
        model.compile(keras.optimizers.Adadelta(), "categorical_crossentropy", metrics=["acc"])
        assert float(model.optimizer.lr) == 1.0
        x, y, other = np.ones((8, 3), dtype=np.float), np.eye(2)[np.arange(8) % 2], Input((2,))

        def batches():
            while True:
                yield x, y

        history = model.fit_generator(
            batches(), 2, 3, 0, [LearningRateScheduler(lambda epoch: 0.5), ReduceLROnPlateau("loss", epsilon=1e-3)],
            validation_data=(x, y), workers=4, max_queue_size=3)
        assert sorted(history.history) == ["acc", "loss", "lr", "val_acc", "val_loss"]
        assert history.history["lr"] == [0.5] * 3
        assert len(model.evaluate_generator(batches(), 2)) == 2
        assert model.predict_generator(batches(), 2).shape == (16, 2)
        assert model.predict_classes(x).shape == (8,) and model.predict_proba(x).shape == (8, 2)
        assert model.fit(x, y, verbose=0, workers=2).epoch == [0]
        model._make_predict_function()
        both = Model([model.input, other], keras.layers.add([model.output, other]))
        assert both.predict([x[:3], np.ones((8, 2))]).shape == (3, 2)
        assert K.get_value(keras.activations.get("hard_sigmoid")(K.constant([1.0]))) == np.float32(0.7)
        assert GRU(2, input_shape=(3, 4)).reset_after is False

        dropped = Dropout(0.5)(model.input)
        f = K.function([model.input, K.learning_phase()], [dropped])
        assert (f([x, 0])[0] == 1).all() and (f([x])[0] == 1).all() and (f([x, 1.0])[0] != 1).all()
        assert not K.learning_phase() and K.learning_phase() == 0
        assert dropped._keras_shape == (None, 3) and dropped._keras_history[0].name == "dropout"
        """)


def test_layers_and_architectures_of_keras_2(run):
    pytest.importorskip("yaml")
    run("""
        import numpy as np
        from keras import backend as K
        from keras.layers import Dense, Layer
        from keras.models import Sequential, model_from_yaml

        class Counted(Layer):
            def build(self, input_shape):
                self.factor = K.variable(np.ones(input_shape[-1]))
                self.calls = K.variable(0.0)
                self.trainable_weights = [self.factor]
                self.non_trainable_weights = [self.calls]
                super(Counted, self).build(input_shape)

            def call(self, x):
                self.add_update([K.update_add(self.calls, 1.0)], x)
                return x * self.factor

        model = Sequential([Counted(input_shape=(2,)), Dense(1)])
        assert len(model.trainable_weights) == 3 and len(model.non_trainable_weights) == 1 and model.updates == []
        model.compile("sgd", "mse")
        model.fit(np.ones((4, 2)), np.ones(4), batch_size=2, epochs=3, verbose=0)
        assert model.get_weights()[1] == 6 and (model.get_weights()[0] != 1).all()
        again = model_from_yaml(model.to_yaml(), {"Counted": Counted})
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again.predict(np.ones((3, 2))), model.predict(np.ones((3, 2))))
        """)


def test_frozen_batch_normalization_of_keras_2(run_keras_2):
    run_keras_2("""
        import numpy as np
        from keras.layers import BatchNormalization, Dense
        from keras.models import Sequential

        same = Dense(3, use_bias=False, kernel_initializer="identity")
        model = Sequential([BatchNormalization(trainable=False, input_shape=(3,)), same])
        model.compile("sgd", "mse")
        x = np.random.rand(8, 3)
        before = model.layers[0].get_weights()
        y = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)
        history = model.fit(x, y, batch_size=8, verbose=0)
        np.testing.assert_allclose(history.history["loss"], [0], atol=1e-9)
        assert all((a == b).all() for a, b in zip(before, model.layers[0].get_weights()))
        np.testing.assert_allclose(model.predict(x), x / np.sqrt(1.001), rtol=1e-4)
        """)


def test_gradients_as_symbolic_tensors(run):
    run("""
        import numpy as np
        import keras.backend as K
        from keras.layers import Dense
        from keras.models import Sequential
        from keras.regularizers import l2
        from pytest import raises

        model = Sequential([Dense(3, input_dim=4, kernel_regularizer=l2(l=0.1)), Dense(2)])
        loss = K.mean(model.output[:, 0])
        hidden, kernel = model.layers[0].output, model.layers[0].kernel
        gradients = K.gradients(loss, [model.input, hidden, kernel])
        assert [g.shape for g in gradients] == [(None, 4), (None, 3), (4, 3)]
        f = K.function([model.input], [loss, *gradients])
        x = np.random.rand(5, 4)
        _, of_input, of_hidden, of_kernel = f([x])
        np.testing.assert_allclose(of_hidden, np.tile(model.get_weights()[2][:, 0] / 5, (5, 1)), rtol=1e-6)
        np.testing.assert_allclose(of_input, of_hidden @ model.get_weights()[0].T, rtol=1e-5)
        np.testing.assert_allclose(of_kernel, x.T @ of_hidden, rtol=1e-5)
        with raises(TypeError, match="takes a symbolic tensor"):
            K.gradients(K.variable(1.0), [K.variable(2.0)])
        """)


def test_training_as_keras_2_has_it(run):
    run("""
        import numpy as np
        import keras
        from keras import optimizers
        from keras.layers import Dense

        x, y = np.ones((4, 3)), np.ones((4, 1))
        sgd = optimizers.SGD(lr=0.1, momentum=0.9)
        for _ in range(2):  # an optimizer may be given to another model
            model = keras.models.Sequential([Dense(1, input_dim=3)])
            model.compile(sgd, "mse")
            seen = keras.callbacks.LambdaCallback()
            model.fit(x, y, verbose=0, validation_data=(x, y), callbacks=[seen])
        assert len(sgd.weights) == 4 and seen.validation_data[0] is x and len(seen.validation_data) == 3
        config = optimizers.serialize(sgd)
        optimizers.deserialize(config)
        assert config["class_name"] == "sgd"

        stop = keras.callbacks.EarlyStopping("acc", patience=2, baseline=0.75, restore_best_weights=True)
        stop.set_model(model)
        stop.on_train_begin()
        for epoch, value in enumerate([0.55, 0.74]):
            model.set_weights([np.full(w.shape, epoch) for w in model.get_weights()])
            stop.on_epoch_end(epoch, {"acc": value})
        assert model.stop_training and model.get_weights()[0].max() == 0

        given = keras.layers.Input((3,))
        first = Dense(2, name="first")(given)
        model = keras.models.Model(given, [first, Dense(1, name="second")(first)])
        model.compile("sgd", {"second": "mse"}, metrics=["mae"])
        assert len(model.train_on_batch(x, y)) == 3 and model.metrics_names == ["loss", "second_loss", "second_mae"]
        one = keras.models.Model(inputs=[given], outputs=[first])
        assert keras.backend.int_shape(Dense(1)(one([given]))) == (None, 1) and one.predict([x]).shape == (4, 2)
        history = model.fit(x, [y], sample_weight=np.ones(4), validation_data=(x, [None, y]), verbose=0).history
        assert sorted(history)[3:] == ["val_loss", "val_second_loss", "val_second_mae"]
        """)


@pytest.mark.big
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_like_keras_examples(name, run):
    run("from keras.utils import set_random_seed\n\nset_random_seed(1)\n" + textwrap.dedent(SCRIPTS[name]))


def test_losses_metrics_and_initializers(run):
    run("""
        import pathlib
        import numpy as np
        from keras import activations, backend as K, initializers, losses, metrics
        from keras.backend import backend
        from keras.utils import data_utils, get_file, losses_utils, metrics_utils

        assert get_file is data_utils.get_file and get_file.__module__ == "nbkeras.compat.keras2.downloading"
        here = pathlib.Path(__file__)
        there = pathlib.Path(get_file(origin=here.as_uri(), cache_dir=here.parent))  # as in Keras 3
        assert there.read_bytes() == here.read_bytes() and there == here.parent / "datasets" / "script.py"
        assert K.backend() == backend() == "nbkeras" and not hasattr(K, "layer")
        y_true, y_pred = K.constant([1, 9, 2, -5], shape=(2, 2)), K.constant([4, 8, 12, 8], shape=(2, 2))
        loss = losses.MeanAbsoluteError(reduction=losses_utils.Reduction.SUM)
        assert K.eval(loss(y_true, y_pred)) == 13.5
        assert metrics.AUC(curve=metrics_utils.AUCCurve.PR).curve == "PR"
        iou = metrics.MeanIoU(num_classes=2)
        iou.update_state([0, 0, 1, 1], [0, 1, 0, 1], sample_weight=[0.2, 0.3, 0.4, 0.1])
        assert abs(K.eval(iou.result()) - (0.2 / 0.9 + 0.1 / 0.8) / 2) < 1e-6 and iou.stateful
        assert initializers._compute_fans((3, 3, 2, 5)) == (18, 45)
        assert activations.get("hard_sigmoid") is activations.hard_sigmoid
        assert abs(K.eval(activations.hard_sigmoid(K.constant([0.5])))[0] - 0.6) < 1e-6
        """)


def test_attributes_and_layers_of_keras_2(run):
    run("""
        import numpy as np
        import keras
        import keras.backend as K
        from keras.initializers import RandomNormal, _compute_fans
        from keras.layers import LSTM, Bidirectional, CuDNNGRU, CuDNNLSTM, Dense, Input, Layer
        from keras.losses import MeanSquaredError
        from keras.metrics import Mean
        from keras.models import Model
        from keras.regularizers import l2
        from keras.utils.losses_utils import Reduction
        from keras.utils.metrics_utils import AUCCurve

        assert MeanSquaredError(reduction=Reduction.SUM).reduction == "sum" and AUCCurve.PR == "PR" and Mean().stateful
        assert _compute_fans((3, 3, 2, 5), data_format="channels_last") == (18, 45)
        for seed in (None, 3):
            normal = RandomNormal(seed=seed)
            first, second = np.array(normal((3, 3))), np.array(normal((3, 3)))
            assert (first != second).all()
        assert (first == np.array(RandomNormal(seed=3)((3, 3)))).all()

        x = Input((4, 3))
        both = Bidirectional(LSTM(2, return_sequences=True))
        layer = CuDNNLSTM(2)
        y = layer(both(x))
        assert both.layer.states == [None, None] and layer.get_config()["recurrent_activation"] == "sigmoid"
        assert CuDNNLSTM.from_config(layer.get_config()).units == 2 and CuDNNGRU(3).reset_after
        node = layer.inbound_nodes[0]
        assert node.input_tensors[0] is both.output and node.output_tensors == [y]
        assert node.inbound_layers == [both] and node.outbound_layer is layer
        model = Model(x, y)
        model.compile("sgd", "mse")
        model.fit(np.ones((2, 4, 3)), np.ones((2, 2)), verbose=0)

        class Own(Layer):
            def call(self, inputs):
                self.add_loss(K.sum(inputs), inputs=inputs)
                self.add_update(K.update_add(self.count, 1), inputs)
                return inputs

        own, dense = Own(), Dense(2, kernel_regularizer=l2(0.1), activity_regularizer=l2(0.1))
        own.count = K.variable(0)
        value = K.constant(np.ones((2, 3)))
        own(value), dense(value)
        assert len(own.get_losses_for(value)) == 1 and own.get_losses_for(None) == [] and K.get_value(own.count) == 1
        assert len(dense.get_losses_for(None)) == len(dense.get_losses_for(value)) == 1
        """)
