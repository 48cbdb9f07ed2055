"""Jobs that tests/training/test_ranks.py starts by mpiexec: `python rank_jobs.py NAMES`."""

import functools
import hashlib
import os
import signal
import sys
import time

import numpy as np

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.engine import ranks
from nbkeras.kernels.runtime import device
from nbkeras.optimizers import reduction
from nbkeras.testing import Recorder

keras.set_threads(1)


def joined(**options):
    """The group, after the lines with which a script begins."""
    keras.distribution.initialize(**options)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    return ranks.current()


def same_on_all_ranks(group, arrays):
    """Whether all ranks have the same bits."""
    return len(set(group.exchange(hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()))) == 1


# -------------------- the group --------------------


def sums():
    group = joined()
    rank, size = group.rank, group.size
    assert keras.distribution.list_devices() == [f"cpu:{i}" for i in range(size)]
    assert keras.distribution.distribution().data_shard_id == rank
    for dtype in ("float32", "float64", "float16", "int32", "int64", "uint8"):
        for shape in ((), (1,), (3, 5), (0, 2), (70001,)):
            x = np.full(shape, rank + 1, dtype)
            group.sum(x)
            assert x.shape == shape and (x == size * (size + 1) // 2).all(), (dtype, shape)
    random = np.random.default_rng(rank)
    for count in (1, 1000, 300_000):  # MPI chooses another way for each size
        x = random.normal(size=count).astype("float32")
        group.sum(x)
        assert same_on_all_ranks(group, [x])
    several = [np.full(n, rank, "float32") for n in (1000, 10, 100_000)]
    for x in several:
        group.start_sum(x)
    group.wait()
    assert all((x == size * (size - 1) // 2).all() for x in several)
    x = np.full((2, 3), rank, "float64")
    group.broadcast(x, root=size - 1)
    assert (x == size - 1).all()
    assert group.exchange(("rank", rank)) == [("rank", i) for i in range(size)]

    x, recorder = device.persistent(np.zeros(4, "float32")), Recorder()
    with device.record(recorder):
        y = ops.add(keras.Tensor(x), 1.0)
        ranks.launch_sum(y.data)
        z = ops.multiply(y, 2.0)
    program = recorder.sealed([z.data]).bind()
    (result,) = program.outputs
    for value in (0.0, 5.0):
        x[...] = value + rank
        program.run()
        assert (result == 2 * (size * (value + 1) + size * (size - 1) / 2)).all(), (result, value)
    try:
        ranks.launch_sum(np.zeros((4, 4), "float32")[:, :2])
    except ValueError as error:
        assert "C-contiguous" in str(error)
    else:
        raise AssertionError("no error")


# -------------------- training --------------------

ROWS, STEPS = 4, 3


def network(width=40):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(30, 8),
            layers.Flatten(),
            layers.Dense(width, "tanh"),
            layers.Dense(width, "tanh"),
            layers.Dense(1),
        ]
    )


def batches(part, size):
    random = np.random.default_rng(5)
    x = random.integers(0, 30, (STEPS, size, ROWS, 6)).astype("int32")
    y = random.normal(size=(STEPS, size, ROWS, 1)).astype("float32")
    return [(x[i, part], y[i, part]) for i in range(STEPS)]


def train_by_fit(optimizer, size, eagerly=False):
    model = network()
    model.compile(optimizer, "mse", run_eagerly=eagerly)
    for parts in zip(*[batches(part, size) for part in range(size)], strict=True):
        model.train_on_batch(*map(np.concatenate, zip(*parts, strict=True)))  # each rank takes its part
    return [weight.numpy() for weight in model.weights]


def train_by_tape(optimizer, part, size):
    model = network()
    for x, y in batches(part, size):
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(model(x) - y))
            scaled = optimizer.scale_loss(loss)
        weights = model.trainable_weights
        optimizer.apply(tape.gradient(scaled, weights), weights)
    return [weight.numpy() for weight in model.weights]


def train_alone(optimizer, size):
    """The same steps in one process: the loss is the mean of those of all parts."""
    model = network()
    optimizer.build(model.trainable_weights)
    for step in range(STEPS):
        with keras.GradientTape():
            parts = [batches(part, size)[step] for part in range(size)]
            loss = sum(ops.mean(ops.square(model(x) - y)) for x, y in parts) / size
        optimizer.learn(loss, model.trainable_weights)
    return [weight.numpy() for weight in model.weights]


def optimizers_of(kind):
    return {
        "sgd": lambda: keras.optimizers.SGD(0.1),  # updates rows of a table alone, without a group
        "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
        "accumulating": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=3),
        "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0),
        "several": lambda: keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1), {".*bias": keras.optimizers.RMSprop(0.01)})
        ),
    }[kind]()


def training():
    group = joined()
    rank, size = group.rank, group.size
    reduction.BUCKET = 4096
    for kind in ("sgd", "clipped", "accumulating", "scaled", "several"):
        with keras.distribution.DataParallel().scope():
            trained = train_by_fit(optimizers_of(kind), size)
            assert same_on_all_ranks(group, trained), kind
            eager = train_by_fit(optimizers_of(kind), size, eagerly=True)
            assert all((a == b).all() for a, b in zip(trained, eager, strict=True)), kind
            by_tape = train_by_tape(optimizers_of(kind), rank, size)
            assert same_on_all_ranks(group, by_tape), kind
        keras.distribution.set_distribution(None)
        alone = train_alone(optimizers_of(kind), size)
        for a, b, c in zip(trained, by_tape, alone, strict=True):
            np.testing.assert_allclose(a, c, rtol=2e-5, atol=2e-6, err_msg=kind)
            np.testing.assert_allclose(b, c, rtol=2e-5, atol=2e-6, err_msg=kind)


def buckets():
    """These sums are exact with 4 ranks, so the size of the buckets must not change a bit. They start while the pass goes on."""
    group = joined()
    for nbytes in (1, 4096, 2**30):
        reduction.BUCKET = nbytes
        model, recorder = network(), Recorder()
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build(model.trainable_weights)
        for weight in model.weights:
            weight.assign(np.ones(weight.shape))
        with device.record(recorder):
            with keras.GradientTape():
                loss = sum(ops.sum(weight * float(group.rank + 1)) for weight in model.trainable_weights)
            optimizer.learn(loss, model.trainable_weights)
        program = recorder.sealed([]).bind()
        program.run()
        expected = 1 - 2 * (group.size + 1) / 2  # two steps with the mean of 1, 2, 3 and 4
        assert all((weight.numpy() == expected).all() for weight in model.weights)
        names = [function.__name__ for function, _ in program.steps]
        starts, wait = [i for i, name in enumerate(names) if name == "start_sum"], names.index("wait")
        assert names.count("wait") == 1 and starts[-1] < wait
        if nbytes == 1:
            assert len(starts) == 7 and wait - starts[0] > 7  # launches of the pass are among them


# -------------------- faults --------------------


SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def fault(kind):
    """Rank 1 does something to itself in its data."""
    group = joined(timeout=10)
    model = network()
    model.compile("sgd", "mse")

    def data():
        for step in range(100):
            if step == 5 and group.rank == 1:
                print(f"fault at {time.time()}", flush=True)
                if kind == "raise":
                    raise ValueError("row 17 is bad")
                if kind == "loop":
                    while True:
                        pass
                if kind == "differ":
                    group.exchange("something else")
                if kind == "exit":
                    os._exit(0)
                if kind in SIGNALS:
                    os.kill(os.getpid(), SIGNALS[kind])
            yield batches(0, 1)[0]

    try:
        model.fit(data(), steps_per_epoch=50, verbose=0)
    except keras.distribution.RankError as error:
        print(f"rank {group.rank} knows of rank {error.rank} at {time.time()}", flush=True)
        raise


# -------------------- stopped on one rank --------------------


class Stop(keras.callbacks.Callback):
    """Sets the flag of a loop on the last rank alone."""

    def __init__(self, group, flag, epoch=None, batch=None):
        super().__init__()
        self.acts, self.flag, self.at, self.epoch = group.rank == group.size - 1, flag, (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.acts and self.at == (self.epoch, batch):
            setattr(self.model, self.flag, True)

    on_test_batch_end = on_predict_batch_end = on_train_batch_end

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_batch_end(None)


def stopping():
    """All ranks end after the same batch or epoch, and go on with the next job."""
    group = joined(timeout=10)
    model = network()
    model.compile("sgd", "mse")
    x, y = (np.concatenate(each) for each in zip(*batches(0, 1) * 40, strict=True))
    options = {"batch_size": len(x) // 40, "verbose": 0}

    def steps(epoch, batch, alone=False):
        before = int(model.optimizer.iterations)
        backup = keras.callbacks.BackupAndRestore(f"backup of {epoch}, {batch}", delete_checkpoint=False)
        stop = Stop(group, "stop_training", epoch, batch)
        model.fit(x, y, epochs=3, callbacks=[stop] if alone else [stop, backup], **options)
        assert model.stop_training
        return group.exchange(int(model.optimizer.iterations) - before)

    assert steps(1, 7) == [48] * group.size
    assert steps(1, None) == [80] * group.size
    assert steps(0, 38, alone=True) == [39] * group.size
    model.evaluate(x, y, callbacks=[Stop(group, "stop_evaluating", None, 2)], **options)
    model.predict(x, callbacks=[Stop(group, "stop_predicting", None, 2)], **options)
    model.predict(x, **options)

    class Between(keras.Model):  # no callback: as a handler of a signal
        def train_step(self, data):
            self.stop_training |= group.rank == 0
            return super().train_step(data)

    model = Between(model.inputs, model.outputs)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, y, epochs=3, **options)
    assert group.exchange(int(model.optimizer.iterations)) == [16] * group.size


# -------------------- killed, and started again --------------------


class Kill(keras.callbacks.Callback):
    """Rank 1 kills itself after so many batches. Five batches before that, a backup is on disk, however slow the disk is."""

    def __init__(self, rank, last, backup):
        super().__init__()
        self.rank, self.left, self.backup = rank, last, backup

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 5:
            self.backup.save_now()
        if self.rank == 1 and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def with_backup(name, last=0):
    """Training that goes on from the backup in this folder, if there is one; the weights are written to a file."""
    keras.config.set_floatx("float64")
    group = joined() or ranks.Group()
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(1)
    x, y = random.normal(size=(26, 5)), random.normal(size=(26, 1))
    hidden = [layers.Dense(9, "tanh"), layers.BatchNormalization(synchronized=True), layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((5,)), *hidden, layers.Dense(1)])
    model.compile("adam", "mse")
    backup = keras.callbacks.BackupAndRestore(f"backup of {name}", save_freq=1, delete_checkpoint=False)
    kill = Kill(group.rank, last, backup)
    model.fit(x, y, epochs=4, batch_size=8, callbacks=[backup, kill], verbose=0)
    if group.rank == 0:
        print(f"{last - kill.left} batches of 16")
        np.savez(f"{name}.npz", *[weight.numpy() for weight in model.weights])


JOBS = {"sums": sums, "training": training, "buckets": buckets, "stopping": stopping}
JOBS |= {"whole": lambda: with_backup("whole"), "killed": lambda: with_backup("again", 10)}
JOBS |= {"again": lambda: with_backup("again")}
JOBS |= {f"fault_by_{kind}": functools.partial(fault, kind) for kind in (*SIGNALS, "loop", "raise", "differ", "exit")}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        JOBS[name]()
