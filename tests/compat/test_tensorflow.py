"""`import tensorflow` as nbkeras has it: names, functions, data sets, variables."""

import importlib
import operator
import pathlib
import sys
import types
import typing

import numpy as np
import pytest
from tensorflow_cases import DATA, EXPRESSIONS, ROUNDED, computed

import nbkeras
from nbkeras import layers, ops
from nbkeras.compat.alias import install_as_keras, uninstall
from nbkeras.compat.tensorflow import modules

VALUES = np.load(pathlib.Path(__file__).parents[1] / "reference" / "tensorflow.npz")


# -------------------- names --------------------


def test_the_stored_values_are_those_of_the_cases():
    assert list(VALUES["expressions"]) == [*EXPRESSIONS, ROUNDED]


@pytest.mark.parametrize("number", range(len(EXPRESSIONS)), ids=EXPRESSIONS)
def test_values_are_tensorflows(tf, number):
    expected, found = VALUES[str(number)], computed(EXPRESSIONS[number], tf)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if expected.dtype.kind == "S":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_name_of_the_tables_is_there(tf):
    for module in modules.SHOWN:
        found = importlib.import_module(f"tensorflow.{module}".rstrip("."))
        for name in dir(found):
            assert name.startswith("__") or hasattr(found, name), (module, name)
        assert not {"np", "spelled", "as_tensor", "Any", "Callable"} & set(dir(found))


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("lookup.StaticHashTable", "use keras.layers.StringLookup or keras.layers.IntegerLookup"),
        ("math.bessel_i0e", "use keras.ops in models, and NumPy or SciPy elsewhere"),
        ("bincount", "use keras.ops.bincount"),
        ("data.Options", "leave it out: elements are made one after another"),
        ("foldl", "use keras.ops.scan"),
        ("compat.v1.placeholder", "there are no sessions and no graphs to set up: leave it out"),
        ("compat.v1.lookup.StaticHashTable", "use keras.layers.StringLookup or keras.layers.IntegerLookup"),
    ],
)
def test_a_refused_name_has_another_way(tf, name, instead):
    with pytest.raises(AttributeError, match=rf"lists \({instead}\)$"):
        operator.attrgetter(name)(tf)


@pytest.mark.parametrize("name", sorted(modules.MENTIONED))
def test_a_mentioned_name_is_refused_when_it_is_used(tf, name):
    found = importlib.import_module(f"tensorflow.{name}")
    assert hasattr(operator.attrgetter(name)(tf), "a_part") and not isinstance(found, type)
    assert not isinstance(ops.ones(2), (found, int)) and not issubclass(nbkeras.Variable, found)
    assert typing.get_args(tf.Tensor | found | None)[:2] == (tf.Tensor, found)
    for use in (found, found.a_part, found.__bool__, lambda: types.new_class("Own", (found,))):
        with pytest.raises(NotImplementedError, match=rf"^tensorflow\.{name}.* is TensorFlow's, .* lists \(\w.*\)$"):
            use()


def test_tf_keras_says_which_mode_it_is(tf):
    with pytest.raises(ImportError, match="tf_keras is Keras 2: start the process with --keras 2, or call"):
        importlib.import_module("tf_keras")


def test_a_sparse_tensor_says_that_tensors_are_dense(tf):
    for use in (tf.SparseTensor, tf.sparse.from_dense):
        with pytest.raises(NotImplementedError, match="tensors are dense: use keras.ops on arrays with zeros"):
            use([[1.0]])


def test_all_names_of_a_module_are_imported(tf):
    names: dict = {}
    exec("from tensorflow.math import *", names)
    assert names["reduce_mean"] is tf.math.reduce_mean and "spelled" not in names


@pytest.mark.parametrize("module", modules.SHOWN)
def test_each_module_says_what_replaces_its_other_names(tf, module):
    with pytest.raises(AttributeError, match=r"nothing is TensorFlow's, and nbkeras offers only .* lists \(\w.*\)$"):
        operator.attrgetter(f"{module}.nothing".lstrip("."))(tf)


@pytest.mark.parametrize("version", [2, 3])
def test_versions_belong_together(tf, version):
    uninstall()
    install_as_keras(version, tensorflow=True)
    there = importlib.import_module("tensorflow")
    assert there.__version__ == {2: "2.3.1", 3: "2.16.1"}[version] and there.keras.__version__[0] == str(version)
    assert there.losses is there.keras.losses and there.optimizers.Adam is nbkeras.optimizers.Adam
    uninstall()
    install_as_keras(3, tensorflow=True)


def test_methods_are_there_only_while_tensorflow_is(tf):
    x = ops.ones((2, 3))
    assert x.get_shape().as_list() == [2, 3] and x.get_shape().num_elements() == 6
    assert nbkeras.Input((3,)).get_shape() == (None, 3)
    uninstall()
    assert not hasattr(x, "get_shape") and not hasattr(nbkeras.Variable(1.0), "read_value")
    install_as_keras(3, tensorflow=True)


def test_dtypes(tf):
    assert np.dtype(tf.float32) == np.float32 and np.zeros(2, tf.int64).dtype == np.int64
    assert tf.float32 == np.dtype("float32") == tf.as_dtype("float32") and tf.float32 != tf.float64
    assert tf.float32 == "float32" and tf.float32 != "no dtype" and {tf.float32: 1}[np.dtype("float32")] == 1
    assert ops.ones(2, tf.float64).dtype == tf.float64 and layers.Dense(1, dtype=tf.float64).dtype == "float64"
    assert tf.cast([1.5], tf.int32).dtype == tf.int32 and tf.int8.max == 127 and tf.uint8.min == 0
    assert tf.float32.is_floating and tf.int32.is_integer and tf.bool.is_bool and tf.uint8.is_unsigned
    assert (tf.float32.name, tf.float32.size, repr(tf.float32)) == ("float32", 4, "tf.float32")
    assert tf.float16.as_numpy_dtype is np.float16 and tf.half.base_dtype is tf.float16 and tf.float32.max > 3e38
    assert tf.dtypes.DType("float32") == tf.float32 and tf.as_dtype(tf.int8) is tf.int8
    with pytest.raises(TypeError, match="tf.as_dtype: expected a dtype of numbers or booleans, received 'U3'"):
        tf.as_dtype("U3")


def test_arguments_are_checked(tf):
    with pytest.raises(TypeError, match="mean|sum takes the arguments input_tensor, axis, keepdims, name, each once"):
        tf.reduce_sum([1.0], reduction_indices=0)
    with pytest.raises(TypeError, match="received 1 by position and 'input_tensor' by name"):
        tf.reduce_sum([1.0], input_tensor=[1.0])
    with pytest.raises(TypeError, match="each once: received 5 by position"):
        tf.reduce_sum([1.0], None, False, "name", "more")
    pixels, kernel, image = np.ones((1, 4, 4, 1)), np.ones((1, 1, 1, 1)), np.ones((2, 2, 1))
    back = np.ones((1, 2, 2, 1)), np.ones((2, 2, 1, 1)), (1, 9, 9, 1), 2
    for call, sentence in (
        (lambda: tf.sort([1], direction="UP"), "direction must be 'ASCENDING' or 'DESCENDING', received 'UP'"),
        (lambda: tf.gather([[1]], [[0]], axis=1, batch_dims=2), "the axis must be 2 too, received 1"),
        (lambda: tf.gather_nd([[1]], [[0]], batch_dims=1), "batch_dims must be 0, received 1: use tf.gather"),
        (lambda: tf.ensure_shape([1.0, 2.0], (None, 2)), r"shape \(None, 2\), received a tensor of shape \(2,\)"),
        (lambda: tf.nn.conv2d(pixels, kernel, 1, "HALF"), "padding must be 'same' or 'valid'"),
        (lambda: tf.nn.conv2d(pixels, kernel, (1, 2, 3), "SAME"), "strides must be an integer"),
        (lambda: tf.nn.pool(pixels, 2, "MAX", dilations=2), "dilations must be 1, received 2"),
        (lambda: tf.nn.conv2d_transpose(*back), "no output of shape"),
        (lambda: tf.image.resize(image, (1, 1), "cubic"), "method must be one of 'area', 'bicubic'"),
        (lambda: tf.compat.v1.image.resize(image, (1, 1), 2), "one of 'bilinear', 'nearest', 'area', received"),
        (lambda: tf.image.crop_to_bounding_box(image, 1, 1, 2, 2), "do not lie in an image of 2 x 2"),
        (lambda: tf.image.pad_to_bounding_box(image, 1, 1, 2, 2), "does not lie in 2 x 2"),
        (lambda: tf.image.random_crop(image, (3, 2, 1)), "has no part of shape"),
        (lambda: tf.random.uniform((2,), dtype=tf.int32), "integers need a maxval"),
        (lambda: tf.io.decode_image(b"no image"), "expected the bytes of an image, received b'no image'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


def test_the_table_of_weights_that_tensorflow_uses_for_bicubic(tf):
    difference = np.abs(computed(ROUNDED, tf) - VALUES[str(len(EXPRESSIONS))]).max()
    assert 0 < difference < 1 / 1024


# -------------------- tensors, variables, functions --------------------


def test_symbolic_tensors(tf):
    x = nbkeras.Input((4, 3))
    y = tf.reduce_mean(tf.nn.relu(tf.concat([x, tf.zeros_like(x)], axis=-1)), axis=1)
    model = tf.keras.Model(x, tf.clip_by_value(y, 0.0, 0.5))
    values = np.random.default_rng(0).standard_normal((2, 4, 3)).astype("float32")
    relu = np.concatenate([np.maximum(values, 0), np.zeros_like(values)], -1)
    np.testing.assert_allclose(model.predict(values, verbose=0), np.clip(relu.mean(1), 0, 0.5), rtol=1e-6)
    assert tf.is_tensor(x) and tf.is_tensor(tf.constant(1)) and not tf.is_tensor(1.0) and tf.shape(x) == (None, 4, 3)


def test_variables(tf):
    v = tf.Variable([1.0, 2.0], trainable=False, name="v", dtype=tf.float64)
    assert isinstance(v, tf.Variable) and isinstance(v, nbkeras.Variable) and isinstance(v, tf.Tensor)
    assert v.dtype == tf.float64 and not v.trainable and v.name == "v"
    v.assign_add([1.0, 1.0])
    assert v.read_value().numpy().tolist() == [2.0, 3.0] and not isinstance(v.read_value(), tf.Variable)
    assert tf.Variable(lambda: tf.ones(2)).trainable and isinstance(layers.Dense(1)(np.ones((1, 1))), tf.Tensor)
    assert np.asarray(tf.constant_initializer(2.0)((2,))).tolist() == [2.0, 2.0]


def test_a_training_step_of_ones_own(tf):
    model = tf.keras.Sequential([layers.Dense(1, kernel_initializer="zeros", use_bias=False)])
    optimizer, mean = tf.keras.optimizers.SGD(0.5), tf.keras.metrics.Mean()

    @tf.function(jit_compile=True, reduce_retracing=True)
    def step(x, y):
        with tf.GradientTape(persistent=False, watch_accessed_variables=True) as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(x, training=True), y))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean.update_state(loss)
        return loss

    data = tf.data.Dataset.from_tensor_slices((np.ones((8, 1), "f"), np.full((8, 1), 2, "f"))).batch(4)
    losses = [float(step(x, y)) for _ in range(2) for x, y in data]
    assert losses == [4.0, 0.0, 0.0, 0.0] and float(mean.result()) == 1.0
    assert len(step.programs()) == 1


def test_tf_function_of_methods_and_layers(tf):
    class Scaled(tf.keras.layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight(shape=(), initializer="ones")

        @tf.function
        def call(self, inputs):
            return inputs * self.factor

    model = tf.keras.Sequential([tf.keras.Input((2,)), Scaled()])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.zeros((4, 2)), epochs=2, verbose=0)
    assert 0.9 < float(model.layers[0].factor) < 1
    np.testing.assert_allclose(model(np.ones((1, 2))).numpy(), float(model.layers[0].factor), rtol=1e-6)


def test_what_does_nothing_here(tf, capsys):
    assert tf.config.list_physical_devices("GPU") == [] == tf.config.experimental.list_physical_devices("GPU")
    assert tf.config.list_physical_devices()[0].device_type == "CPU" and not tf.test.is_gpu_available()
    for gpu in tf.config.get_visible_devices():
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.run_functions_eagerly(True)
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.get_logger().setLevel("ERROR")
    assert tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR) is None
    assert tf.newaxis is None and tf.version.VERSION == tf.__version__
    with tf.device("/CPU:0"), tf.name_scope("part") as scope:
        assert tf.executing_eagerly() and scope == "part/"
    tf.print("loss", tf.constant([1.0]), output_stream=sys.stdout)
    assert capsys.readouterr().out == "loss [1.]\n"


def test_random_numbers(tf):
    tf.random.set_seed(1)
    first = tf.random.normal((2, 3), stddev=0.5).numpy()
    tf.random.set_seed(1)
    np.testing.assert_array_equal(tf.random.normal((2, 3), stddev=0.5).numpy(), first)
    whole = tf.random.uniform((100,), 2, 5, dtype=tf.int32).numpy()
    assert whole.dtype == np.int32 and set(whole) == {2, 3, 4}
    pair = [tf.random.stateless_uniform((3,), seed=(1, 2)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*pair)
    assert (tf.random.stateless_normal((3,), seed=[2, 2]).numpy() != pair[0]).all()
    assert tf.random.categorical([[0.0, 0.0]], 4).dtype == tf.int64 and tf.random.truncated_normal([4]).shape == (4,)
    assert tuple(tf.random.gamma((2,), [1.0, 3.0]).shape) == (2, 2)
    assert sorted(tf.random.shuffle(tf.range(5)).numpy()) == list(range(5))


def test_random_images(tf):
    image = DATA["images"]
    assert tf.image.random_crop(image, (2, 3, 3, 3)).shape == (2, 3, 3, 3)
    flipped = tf.image.random_flip_left_right(image, seed=1).numpy()
    assert all((a == b).all() or (a == b[:, ::-1]).all() for a, b in zip(flipped, image, strict=True))
    for change in (tf.image.random_brightness, tf.image.random_hue):
        assert change(image, 0.1).shape == image.shape
    for change in (tf.image.random_contrast, tf.image.random_saturation):
        assert change(image, 0.9, 1.1).shape == image.shape


def test_images_in_files(tf, tmp_path):
    pytest.importorskip("PIL")
    path, pixels = tmp_path / "image.png", DATA["bytes"]
    tf.keras.utils.save_img(path, pixels, scale=False)
    content = tf.io.read_file(str(path))
    np.testing.assert_array_equal(tf.io.decode_png(content, channels=3).numpy(), pixels)
    assert tf.image.decode_image(content, channels=1).shape == (8, 6, 1)
    np.testing.assert_allclose(tf.image.decode_image(content, dtype=tf.float32).numpy(), pixels / 255, rtol=1e-6)
    tf.io.write_file(tmp_path / "copy", content)
    assert (tmp_path / "copy").read_bytes() == content
    with pytest.raises(tf.errors.NotFoundError, match="No such file"):
        tf.io.read_file("nothing")


def test_summaries(tf, tmp_path):
    pytest.importorskip("tensorboardX")
    writer = tf.summary.create_file_writer(str(tmp_path))
    assert not tf.summary.scalar("loss", 1.0, step=0)
    with writer.as_default():
        assert tf.summary.scalar("loss", tf.constant(1.0), step=0)
        assert tf.summary.image("images", DATA["images"], step=0) and tf.summary.text("text", "words", step=0)
        assert tf.summary.histogram("values", DATA["x"], step=0)
    writer.close()
    content = next(tmp_path.iterdir()).read_bytes()
    assert b"images/image/1" in content and b"loss" in content


# -------------------- data sets --------------------


def values(dataset):
    return [each.tolist() for each in dataset.as_numpy_iterator()]


def test_elements_and_lengths(tf):
    numbers = tf.data.Dataset.range(10)
    assert values(numbers.batch(4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and len(numbers.batch(4)) == 3
    assert len(numbers.batch(4, drop_remainder=True)) == 2 == len(values(numbers.batch(4, drop_remainder=True)))
    assert values(numbers.skip(3).take(2)) == [3, 4] and len(numbers.skip(3).take(20)) == 7 == len(numbers.take(-1)) - 3
    assert values(numbers.take(2).repeat(2)) == [0, 1, 0, 1] and values(numbers.skip(-1)) == []
    assert values(numbers.shard(3, 1)) == [1, 4, 7] and len(numbers.shard(3, 1)) == 3
    assert values(numbers.take(2).concatenate(tf.data.Dataset.from_tensors(7))) == [0, 1, 7]
    assert values(numbers.filter(lambda n: n % 3 == 0)) == [0, 3, 6, 9]
    doubled = numbers.map(lambda n: tf.cast(n, tf.float32) * 2, num_parallel_calls=tf.data.AUTOTUNE)
    assert values(doubled.skip(8)) == [16, 18]
    assert values(numbers.batch(4).unbatch()) == list(range(10))
    assert values(numbers.take(2).flat_map(lambda n: tf.data.Dataset.from_tensors(n).repeat(2))) == [0, 0, 1, 1]
    assert [(int(i), int(n)) for i, n in numbers.skip(8).enumerate(start=5)] == [(5, 8), (6, 9)]
    assert numbers.reduce(0, lambda total, n: total + n).item() == 45
    assert values(numbers.apply(lambda each: each.take(1)).prefetch(tf.data.AUTOTUNE)) == [0] and bool(numbers.take(0))
    assert numbers.cardinality() == tf.data.experimental.cardinality(numbers) == 10
    assert numbers.repeat().cardinality() == tf.data.INFINITE_CARDINALITY and len(numbers.repeat().take(13)) == 13
    assert numbers.filter(lambda n: n > 3).cardinality() == tf.data.UNKNOWN_CARDINALITY
    for dataset, sentence in (
        (numbers.repeat(), "the data set is infinite"),
        (numbers.batch(2).unbatch(), "the length of the data set is unknown"),
    ):
        with pytest.raises(TypeError, match=sentence):
            len(dataset)


def test_structures(tf):
    x, y = np.arange(6.0, dtype="float32").reshape(3, 2), np.array([5, 6, 7])
    named = tf.data.Dataset.from_tensor_slices({"a": x, "b": (y, [1.0, 2.0, 3.0])})
    batch = next(iter(named.batch(2)))
    first, second = batch["b"]
    assert isinstance(batch["a"], tf.Tensor) and second.dtype == tf.float32 and first.numpy().tolist() == [5, 6]
    both = tf.data.Dataset.zip((named, tf.data.Dataset.range(2)))
    assert len(both) == 2 and next(iter(both))[0]["a"].numpy().tolist() == [0.0, 1.0]
    assert len(tf.data.Dataset.zip(named, named.repeat())) == 3
    assert named.element_spec["a"] == tf.TensorSpec((2,), tf.float32)
    assert named.batch(2).element_spec["b"][0].shape == (None,)
    assert named.batch(2, drop_remainder=True).element_spec["a"].shape == (2, 2)
    texts = tf.data.Dataset.from_tensor_slices((["one", "two"], [1, 2]))
    longer = texts.map(lambda text, n: (tf.strings.length(text) + tf.cast(n, tf.int32), text))
    assert [(int(n), text.numpy()) for n, text in longer] == [(4, b"one"), (5, b"two")]


def test_generators(tf):
    signature = (tf.TensorSpec((None,), tf.float32), tf.TensorSpec((), tf.int32))
    lengths = tf.data.Dataset.from_generator(
        lambda n: ((range(i), i) for i in range(n)), args=(3,), output_signature=signature
    )
    assert [(x.numpy().tolist(), int(y)) for x, y in lengths] == [([], 0), ([0.0], 1), ([0.0, 1.0], 2)] * 1
    assert lengths.element_spec == signature and lengths.cardinality() == -2 and len(list(lengths)) == 3
    padded = next(iter(lengths.padded_batch(3)))[0]
    assert padded.numpy().tolist() == [[0, 0], [0, 0], [0, 1]]
    wide = next(iter(lengths.padded_batch(3, ((4,), ()), (-1.0, 0))))[0].numpy()
    assert wide.tolist() == [[-1, -1, -1, -1], [0, -1, -1, -1], [0, 1, -1, -1]]
    old = tf.data.Dataset.from_generator(lambda: iter([{"a": 1}, {"a": 2}]), output_types={"a": tf.float64})
    assert [each["a"].dtype for each in old] == [np.float64] * 2
    with pytest.raises(ValueError, match=r"expected an element of shape \(2,\), received \(3,\)"):
        list(tf.data.Dataset.from_generator(lambda: [[1, 2, 3]], output_signature=tf.TensorSpec((2,), tf.int32)))
    with pytest.raises(ValueError, match=r"an element of shape \(2,\) is larger than \(1,\)"):
        list(lengths.padded_batch(3, ((1,), ())))


def test_shuffling(tf):
    numbers = tf.data.Dataset.range(100)
    for source in (numbers, numbers.map(lambda n: n)):
        shuffled = source.shuffle(100, seed=3)
        first, second = values(shuffled), values(shuffled)
        assert first != second and sorted(first) == sorted(second) == list(range(100))
        assert values(source.shuffle(100, seed=3)) == first and len(shuffled) == 100
        fixed = source.shuffle(100, reshuffle_each_iteration=False)
        assert values(fixed) == values(fixed) != list(range(100))
        near = values(source.shuffle(5, seed=1))
        assert sorted(near) == list(range(100)) and all(n < place + 5 for place, n in enumerate(near))
    with pytest.raises(ValueError, match="buffer_size must be at least 1, received 0"):
        numbers.shuffle(0)


def test_elements_are_cached_and_functions_run_once(tf):
    seen = []
    dataset = tf.data.Dataset.range(3).map(lambda n: seen.append(int(n)) or n).cache()
    assert values(dataset.take(2)) == [0, 1] and values(dataset) == values(dataset) == [0, 1, 2]
    assert seen == [0, 1, 0, 1, 2]
    with pytest.raises(ValueError, match="keeps elements in memory only: leave 'file' out"):
        dataset.cache("file")


def test_what_data_sets_do_not_have(tf):
    with pytest.raises(AttributeError, match="tf.data.Dataset.scan is not offered: .*docs/coming-from-keras.md"):
        tf.data.Dataset.range(2).scan(None)
    with pytest.raises(AttributeError, match=r"sample_from_datasets is not offered: .*tf.data.Dataset.from_generator"):
        tf.data.Dataset.sample_from_datasets([])
    with pytest.raises(ValueError, match=r"must have the same number of rows, received shapes \[\(2,\), \(3,\)\]"):
        tf.data.Dataset.from_tensor_slices(([1, 2], [1, 2, 3]))
    with pytest.raises(ValueError, match="batch_size must be at least 1, received 0"):
        tf.data.Dataset.range(2).batch(0)
    with pytest.raises(TypeError, match="expected a data set, received 3"):
        tf.data.Dataset.zip((3,))


def test_fit_evaluate_and_predict_read_data_sets(tf):
    x = np.random.default_rng(0).standard_normal((50, 4)).astype("float32")
    y = x @ np.ones((4, 1), "float32")
    read = []
    data = tf.data.Dataset.from_tensor_slices((x, y)).map(lambda a, b: read.append(0) or (a, b)).batch(16)
    model = tf.keras.Sequential([layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    history = model.fit(data.shuffle(4).prefetch(2), epochs=3, validation_data=data.take(1), verbose=0)
    assert len(history.history["val_mae"]) == 3 and history.params["steps"] == 4
    assert len(read) >= 3 * 50
    found, expected = model.evaluate(data, verbose=0), model.evaluate(x, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found, expected = model.predict(data.map(lambda a, b: a), verbose=0), model.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(50).repeat().batch(10)
    assert model.fit(endless, steps_per_epoch=3, epochs=2, verbose=0).params["steps"] == 3
    weighted = tf.data.Dataset.from_tensor_slices((x, y, np.zeros(50, "float32"))).batch(25)
    assert model.fit(weighted, verbose=0).history["loss"] == [0.0]


def test_dicts_of_inputs(tf):
    a, b = nbkeras.Input((2,), name="a"), nbkeras.Input((2,), name="b")
    model = tf.keras.Model({"a": a, "b": b}, layers.Dense(1)(a - b))
    model.compile("sgd", "mse")
    x = {"a": np.ones((6, 2)), "b": np.zeros((6, 2))}
    data = tf.data.Dataset.from_tensor_slices((x, np.ones((6, 1)))).batch(3)
    assert model.fit(data, verbose=0).params["steps"] == 2 and model.predict(data, verbose=0).shape == (6, 1)


def test_layers_adapt_to_data_sets(tf):
    x = np.random.default_rng(0).standard_normal((20, 3)).astype("float32") * 5
    normalization = layers.Normalization()
    normalization.adapt(tf.data.Dataset.from_tensor_slices(x).batch(8))
    np.testing.assert_allclose(normalization(x).numpy().std(0), 1, rtol=1e-3)


def test_data_sets_of_nbkeras_have_tensorflows_methods(tf):
    data = tf.keras.utils.timeseries_dataset_from_array(np.arange(10), None, sequence_length=2, batch_size=3)
    assert len(data.shuffle(10).repeat(2)) == 6 and isinstance(next(iter(data.take(1))), tf.Tensor)
    assert values(data.cache().map(lambda x: tf.reduce_sum(x)))[0] == 0 + 1 + 1 + 2 + 2 + 3
    assert len(tf.data.Dataset.zip((data, data))) == 3


def test_the_gradient_of_a_source_without_a_connection(tf):
    x, other = tf.constant(2.0), tf.constant([1.0, 3.0])
    for unconnected, expected in ((tf.UnconnectedGradients.NONE, None), (tf.UnconnectedGradients.ZERO, [0.0, 0.0])):
        with tf.GradientTape() as tape:
            tape.watch([x, other])
            y = x * x
        found = tape.gradient(y, other, unconnected_gradients=unconnected)
        assert (found if found is None else found.numpy().tolist()) == expected
