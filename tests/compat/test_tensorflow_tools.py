"""TensorArray, checks, generators of random numbers and checkpoints of `tf`. tensorflow_cases.py compares values."""

import numpy as np
import pytest

from nbkeras import layers


def test_a_loop_writes_tensors(tf):
    @tf.function
    def doubled(x):
        found = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        for step in range(3):
            found = found.write(step, x[step] * 2)
        return found.stack()

    for start in (0.0, 1.0):
        x = np.arange(6, dtype="float32").reshape(3, 2) + np.float32(start)
        with tf.GradientTape() as tape:
            tape.watch(given := tf.constant(x))
            y = doubled(given)
        np.testing.assert_array_equal(y, x * 2)
        np.testing.assert_array_equal(tape.gradient(y, given), np.full((3, 2), 2))
    with pytest.raises(ValueError, match="index 2 lies outside an array of size 2"):
        tf.TensorArray(tf.float32, size=2).write(2, 1.0)
    with pytest.raises(ValueError, match="no tensor was written, and element_shape is None: write one first"):
        tf.TensorArray(tf.float32, size=2).stack()
    assert tf.TensorArray(tf.float32, size=2, element_shape=(3,)).identity().stack().shape == (2, 3)


def test_a_while_loop_carries_an_array_of_tensors(tf):
    class Sums(layers.Layer):
        def __init__(self, count):
            super().__init__()
            self.count = count

        def call(self, x):
            start = tf.constant(0), tf.TensorArray(tf.float32, size=1, dynamic_size=True, element_shape=(2, 2))
            body = lambda i, found: (i + 1, found.write(i, x * tf.cast(i + 1, "float32")))  # noqa: E731
            _, found = tf.while_loop(lambda i, found: i < self.count(x), body, start)
            return tf.reduce_sum(found.stack(), axis=0)

    fixed = tf.keras.Sequential([Sums(lambda x: 3)])
    chosen_by_values = tf.keras.Sequential([Sums(lambda x: tf.cast(x[0, 0], tf.int32))])
    numbers = [np.full((2, 2), number, "float32") for number in (1, 3, 2, 1)]
    for x in numbers:
        np.testing.assert_array_equal(fixed.predict(x, verbose=0), 6 * x)
    with pytest.warns(UserWarning, match="a tensor's value was read in layer 'sums"):
        for x, times in zip(numbers, (1, 6, 3, 1), strict=True):
            np.testing.assert_array_equal(chosen_by_values.predict(x, verbose=0), times * x)


def test_errors_are_those_that_are_raised(tf):
    rows = iter(tf.data.Dataset.range(1))
    next(rows)
    try:
        next(rows)
    except tf.errors.OutOfRangeError:
        rows = None
    assert rows is None
    assert not issubclass(ValueError, tf.errors.InternalError) and tf.errors.DataLossError is tf.errors.InternalError


def test_modules_have_the_variables_in_their_attributes(tf):
    class Linear(tf.Module):
        def __init__(self, units):
            super().__init__()
            self.kernel, self.bias = tf.Variable(tf.ones((2, units))), tf.Variable(tf.zeros(units), trainable=False)

        @tf.function
        def __call__(self, x):
            return x @ self.kernel + self.bias

    class Net(tf.Module):
        def __init__(self):  # without the base class's
            self.steps, self.scale = [Linear(2), Linear(3)], {"by": tf.Variable(2.0)}
            self.layer = layers.Dense(2)
            self.again, self.more = self.steps[0], self

        def __call__(self, x):
            return self.layer(self.steps[1](self.steps[0](x)) * self.scale["by"])

    net = Net()
    with tf.GradientTape() as tape:
        y = net(tf.ones((1, 2)))
    assert net.name == "net" and Linear(1).name == "linear" and tf.Module(name="own").name == "own"
    in_tensorflows_order = [(), (2,), (2, 2), (3, 2), (2,), (3,), (2, 3)]
    assert [tuple(each.shape) for each in net.variables] == in_tensorflows_order
    assert len(net.trainable_variables) == 5 and set(net.submodules) == {*net.steps, net.layer}
    assert all(each is not None for each in tape.gradient(y, net.trainable_variables))
    net.steps[0].kernel.assign(np.zeros((2, 2)))
    np.testing.assert_array_equal(net.steps[0](tf.ones((1, 2))), [[0, 0]])


@pytest.mark.parametrize(
    "form",
    [
        lambda tf, x: tf.stack([tf.shape(x)[0] * 2, -1]),
        lambda tf, x: tf.concat([tf.shape(x)[:-1] * [2, 1], (2, 1)], axis=0),
        lambda tf, x: [tf.reduce_prod(tf.shape(x)[:2]), x.shape[-1]],
    ],
)
def test_shapes_are_computed_from_shapes(tf, form):
    class Reshaped(layers.Layer):
        def call(self, inputs):
            return tf.reshape(inputs, form(tf, inputs)) * 2.0

    inputs = tf.keras.Input((3, 4))
    model = tf.keras.Model(inputs, Reshaped()(inputs))
    for samples in (2, 4):
        x = np.arange(samples * 12, dtype="float32").reshape(samples, 3, 4)
        y = model.predict(x, verbose=0)
        assert y.shape == tf.reshape(x, form(tf, x)).shape
        np.testing.assert_array_equal(y.ravel(), x.ravel() * 2)
    assert tf.is_tensor(tf.shape(x)) and isinstance(tf.stack([tf.shape(x)[0], 1]), tf.Tensor)


def test_files_and_folders(tf, tmp_path):
    files = tf.io.gfile
    folder, text = files.join(str(tmp_path), "a", "b"), tf.constant(str(tmp_path / "a" / "b" / "text"))
    files.makedirs(folder)
    files.makedirs(folder)
    with files.GFile(text, "w") as file:
        file.write("\u00fcber\r\n")
    with files.GFile(text) as file:
        assert list(file) == ["\u00fcber\r\n"]
    with files.open(text, "rb") as file:
        assert file.read() == "\u00fcber\r\n".encode()
    assert files.exists(text) and not files.isdir(text)
    files.copy(text, f"{folder}/copy")
    for change in (files.copy, files.rename):
        with pytest.raises(FileExistsError, match="copy exists: pass overwrite=True"):
            change(text, f"{folder}/copy")
    files.rename(text, f"{folder}/copy", overwrite=True)
    files.mkdir(tmp_path / "c")
    assert files.listdir(folder) == ["copy"] and files.glob([f"{folder}/*", f"{tmp_path}/c"])[1] == str(tmp_path / "c")
    assert [(names, own) for _, names, own in files.walk(folder)] == [([], ["copy"])]
    files.remove(f"{folder}/copy")
    files.rmtree(tmp_path / "a")
    assert files.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda tf: tf.debugging.assert_equal([1], [2], message="sizes"), "sizes: expected all elements to be equal"),
        (lambda tf: tf.debugging.assert_positive([0]), r"expected all elements to be positive, received \[0\]"),
        (lambda tf: tf.debugging.assert_rank([0], 2), r"expected a tensor with 2 axes, received shape \(1,\)"),
        (lambda tf: tf.debugging.assert_shapes([([0], ("n", 2))]), r"expected the shape \('n', 2\), received \(1,\)"),
        (lambda tf: tf.debugging.check_numerics([np.nan], "here"), "here: expected finite numbers, received"),
        (lambda tf: tf.debugging.assert_type([1.0], tf.int32), "expected dtype tf.int32, received float32"),
        (lambda tf: tf.debugging.Assert(False, [3]), r"expected the condition to hold, received \['3'\]"),
    ],
)
def test_failing_checks_say_why(tf, check, message):
    with pytest.raises((ValueError, TypeError), match=message):
        check(tf)


def test_checks_in_layers_and_functions(tf):
    class Checked(layers.Layer):
        def call(self, inputs):
            tf.debugging.assert_rank(inputs, 2)
            tf.debugging.assert_less(inputs, 5.0, message="too large")
            return inputs * 2.0

    model = tf.keras.Sequential([tf.keras.Input((2,)), Checked()])
    assert model(np.ones((1, 2))).numpy().tolist() == [[2.0, 2.0]]
    with pytest.raises(ValueError, match="too large: expected all elements to be less than"):
        model(np.full((1, 2), 6.0))
    with pytest.raises(ValueError, match="expected a tensor with 2 axes"):
        Checked()(tf.keras.Input((2, 2)))


def test_generators(tf):
    first, second = tf.random.Generator.from_seed(1), tf.random.Generator.from_seed(1, alg="philox")
    draws = [first.normal((3,)), first.normal((3,))]
    np.testing.assert_array_equal(second.normal([3]), draws[0])
    assert (draws[0] != draws[1]).numpy().all()
    second.reset_from_seed(1)
    second.skip(1)
    np.testing.assert_array_equal(second.normal(shape=[3]), draws[1])
    state = second.state.numpy()
    kept = second.uniform((4,), 1, 3).numpy()
    second.reset(state)
    np.testing.assert_array_equal(second.uniform((4,), 1, 3), kept)
    assert ((kept >= 1) & (kept < 3)).all() and set(first.uniform([50], 0, 2, tf.int64).numpy()) == {0, 1}
    assert np.abs(first.truncated_normal([50])).max() < 2 and first.binomial([2], 10, 0.5).dtype == tf.int32
    assert first.make_seeds(2).shape == (2, 2) and first.make_seeds().dtype == tf.int64
    parts = [each.normal([]).item() for each in first.split(3)]
    assert len(set(parts)) == 3
    tf.random.set_global_generator(first)
    assert tf.random.get_global_generator() is first

    @tf.function
    def noise():
        return first.normal([2])

    assert len({tuple(noise().numpy()) for _ in range(3)}) == 3


def test_checkpoints(tf, tmp_path):
    def make():
        model = tf.keras.Sequential([tf.keras.Input((3,)), layers.Dense(2), layers.BatchNormalization()])
        model.compile(tf.keras.optimizers.Adam(0.1), "mse")
        step, parts = tf.Variable(0), [tf.Variable([1.0]), tf.random.Generator.from_seed(3)]
        return tf.train.Checkpoint(step=step, optimizer=model.optimizer, model=model, parts=parts)

    checkpoint = make()
    manager = tf.train.CheckpointManager(checkpoint, tmp_path / "kept", max_to_keep=2)
    assert manager.latest_checkpoint is None and manager.restore_or_initialize() is None
    assert checkpoint.restore(manager.latest_checkpoint).expect_partial() is not None
    for _ in range(3):
        checkpoint.step.assign_add(1)
        checkpoint.model.fit(np.ones((4, 3)), np.zeros((4, 2)), verbose=0)
        path = manager.save()
    assert path == str(tmp_path / "kept" / "ckpt-3") and [each[-1] for each in manager.checkpoints] == ["2", "3"]
    assert sorted(each.name for each in (tmp_path / "kept").iterdir()) == ["checkpoint", "ckpt-2.npz", "ckpt-3.npz"]
    again = make()
    assert again.restore(tf.train.latest_checkpoint(str(tmp_path / "kept"))).assert_consumed()
    assert int(again.step) == 3 == int(again.save_counter) and int(again.optimizer.iterations) == 3
    for own, other in zip(again.model.variables, checkpoint.model.variables, strict=True):
        np.testing.assert_array_equal(own, other)
    for each in (checkpoint, again):
        each.model.fit(np.ones((4, 3)), np.zeros((4, 2)), verbose=0)
    np.testing.assert_allclose(again.model.get_weights()[0], checkpoint.model.get_weights()[0], rtol=1e-6)
    newest = tf.train.CheckpointManager(again, str(tmp_path / "kept"), 2)
    assert newest.restore_or_initialize() == path and newest.save()[-1] == "4"


def test_parts_of_checkpoints(tf, tmp_path):
    first = tf.train.Checkpoint(a=tf.Variable([1.0, 2.0]), inner=tf.train.Checkpoint(b=tf.Variable(3)))
    path = first.save(str(tmp_path / "ckpt"))
    other = tf.train.Checkpoint(a=tf.Variable([0.0, 0.0]), c=tf.Variable(0))
    status = other.restore(path)
    assert other.a.numpy().tolist() == [1.0, 2.0] and status.expect_partial() is status
    with pytest.raises(AssertionError, match=r"checkpoint's objects takes \['inner/b', 'inner/save_counter'\]"):
        status.assert_consumed()
    with pytest.raises(AssertionError, match=r"the file has no values for \['c'\]"):
        status.assert_existing_objects_matched()
    with pytest.raises(ValueError, match=r"expected values of shapes \[\(3,\)\] for a, the file has \[\(2,\)\]"):
        tf.train.Checkpoint(a=tf.Variable([0.0] * 3)).restore(path)
    with pytest.raises(TypeError, match="iterator must be a model, layer, .* received 3: leave it out"):
        tf.train.Checkpoint(iterator=3)
    calls = []
    options = {"step_counter": first.inner.b, "checkpoint_interval": 2, "init_fn": lambda: calls.append(1)}
    manager = tf.train.CheckpointManager(first, tmp_path / "new", None, **options)
    assert manager.restore_or_initialize() is None and calls == [1]
    assert manager.save() and manager.save() is None and manager.save(check_interval=False)
