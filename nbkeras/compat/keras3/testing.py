"""Keras 3's internal package `keras.src.testing`: the TestCase of suites of layers, and functions for their data."""

import functools
import itertools
import json
import shutil
import tempfile
import unittest
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nbkeras import backend, config, layers, losses, models, ops, random, saving, tree, utils
from nbkeras.building.graph import SymbolicTensor
from nbkeras.engine import settings


def _base() -> Any:
    """absl's TestCase, which its decorators for parameters need; unittest's without absl."""
    try:
        from absl.testing import parameterized
    except ImportError:
        return unittest.TestCase
    return parameterized.TestCase


_Base: Any = _base()


class TestCase(_Base):
    """A test with checks of tensors and layers; each starts without a state of other tests."""

    maxDiff = None

    def setUp(self) -> None:
        utils.clear_session(free_memory=False)
        config.disable_traceback_filtering()

    def get_temp_dir(self) -> str:
        """A new folder, which is removed after the test."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def convert_to_numpy(self, x: Any) -> np.ndarray:
        """A tensor, a variable, an array or numbers as an array."""
        return np.asarray(x)

    def assertAllClose(self, actual, desired, atol=1e-6, rtol=1e-6, tpu_atol=None, tpu_rtol=None, msg=None):
        """Check that shapes are equal, and elements up to atol + rtol * |desired|."""
        np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol, atol, err_msg=msg or "")

    def assertNotAllClose(self, x1, x2, atol=1e-6, rtol=1e-6, msg=None):
        """Check that `assertAllClose` fails."""
        try:
            self.assertAllClose(x1, x2, atol, rtol)
        except AssertionError:
            return
        raise AssertionError(f"expected values that differ, received {x1} twice. {msg or ''}")

    def assertAlmostEqual(self, actual, desired, decimal=3, tpu_decimal=None, msg=None):
        """Check that elements are equal to some decimal places."""
        np.testing.assert_almost_equal(np.asarray(actual), np.asarray(desired), decimal, msg or "")

    def assertAllEqual(self, actual, desired, msg=None):
        """Check that shapes and elements are equal."""
        np.testing.assert_array_equal(np.asarray(actual), np.asarray(desired), msg or "")

    def assertLen(self, iterable, expected_len, msg=None):
        """Check the number of items."""
        self.assertEqual(len(iterable), expected_len, msg)

    def assertSparse(self, x, sparse=True):
        """Check that sparse is False: tensors are dense."""
        self.assertFalse(sparse, "nbkeras has no sparse tensors")

    def assertRagged(self, x, ragged=True):
        """Check that ragged is False."""
        self.assertFalse(ragged, "nbkeras has no ragged tensors")

    def assertDType(self, x, dtype, msg=None):
        """Check the dtype of a tensor, or the one that a number of Python gives."""
        received, expected = (backend.standardize_dtype(each) for each in (getattr(x, "dtype", type(x)), dtype))
        self.assertEqual(received, expected, msg or f"expected dtype {expected}, received {received}")

    def assertFileExists(self, path):
        """Check that there is a file."""
        self.assertTrue(Path(path).is_file(), f"there is no file {path}")

    def run_class_serialization_test(self, instance, custom_objects=None):
        """Check that an object made from its configuration, directly and through JSON, has the same one. Returns the last."""
        given = instance.get_config()
        with saving.custom_object_scope(custom_objects):
            first = type(instance).from_config(given)
        text = json.dumps(_with_tuples(saving.serialize_keras_object(instance)))
        with saving.custom_object_scope(custom_objects):
            second = saving.deserialize_keras_object(json.loads(text, object_hook=_tuple_again))
        for revived in (first, second):
            written = [
                json.dumps(_with_tuples(each), sort_keys=True, indent=4) for each in (given, revived.get_config())
            ]
            self.assertEqual(*written)
            names = [set(dir(each)) - {"__annotations__"} for each in (instance, revived)]
            self.assertEqual(*names)
        return second

    def run_layer_test(
        self,
        layer_cls,
        init_kwargs,
        input_shape=None,
        input_dtype=None,
        input_sparse=False,
        input_ragged=False,
        input_data=None,
        call_kwargs=None,
        expected_output_shape=None,
        expected_output_dtype=None,
        expected_output_sparse=False,
        expected_output_ragged=False,
        expected_output=None,
        expected_num_trainable_weights=None,
        expected_num_non_trainable_weights=None,
        expected_num_non_trainable_variables=None,
        expected_num_seed_generators=None,
        expected_num_losses=None,
        supports_masking=None,
        expected_mask_shape=None,
        custom_objects=None,
        run_training_check=True,
        run_mixed_precision_check=True,
        assert_built_after_instantiation=False,
        tpu_atol=None,
        tpu_rtol=None,
    ):
        """Check a layer as Keras does: configuration, mask, build, symbolic and eager call, training, mixed precision.

        input_shape, input_dtype: shapes of a single input, or of a list, tuple or dict of inputs, which are random numbers then.
        A name in a dict, less its ending '_shape', is an argument of call. Without inputs only the configuration is checked.
        """
        if input_shape is not None and input_data is not None:
            raise ValueError("run_layer_test: pass input_shape or input_data, not both")
        if expected_output is not None and (expected_output_shape is not None or input_data is None):
            raise ValueError("run_layer_test: expected_output needs input_data, and no expected_output_shape")
        if expected_mask_shape is not None and supports_masking is not True:
            raise ValueError("run_layer_test: expected_mask_shape needs supports_masking=True")
        if input_sparse or input_ragged:
            raise ValueError(
                "run_layer_test: nbkeras has no sparse and no ragged tensors: leave out input_sparse and input_ragged"
            )
        make = functools.partial(layer_cls, **(init_kwargs or {}))
        call = functools.partial(_called, arguments=call_kwargs or {})
        layer = make()
        self.run_class_serialization_test(layer, custom_objects)
        if supports_masking is not None:
            self.assertEqual(layer.supports_masking, supports_masking, "unexpected value of supports_masking")
        if input_shape is None and input_data is None:
            return
        if input_data is None:
            symbols = _of_shapes(SymbolicTensor, input_shape, input_dtype)
            data = _of_shapes(lambda shape, kind: ops.cast(random.uniform(shape) * 3, kind), input_shape, input_dtype)
        else:
            data = input_data
            input_shape = tree.map_structure(ops.shape, data)
            symbols = tree.map_structure(lambda x: SymbolicTensor(tuple(ops.shape(x)), dtype=x.dtype), data)

        counts = {
            "trainable_weights": expected_num_trainable_weights,
            "non_trainable_weights": expected_num_non_trainable_weights,
            "non_trainable_variables": expected_num_non_trainable_variables,
            "seed_generators": expected_num_seed_generators,
        }
        call(layer, data)  # decides on the numbers without an expectation
        counts = {name: _held(layer, name) if count is None else count for name, count in counts.items()}

        layer = make()
        layer.build(**input_shape) if isinstance(input_shape, dict) else layer.build(input_shape)
        self._check_built(layer, counts)
        layer = make()
        outputs = call(layer, symbols)
        self._check_built(layer, counts)
        self._check_outputs(outputs, expected_output_shape, expected_output_dtype)
        self.assertSparse(outputs, expected_output_sparse)
        self.assertRagged(outputs, expected_output_ragged)
        if expected_mask_shape is not None:
            self.assertEqual(expected_mask_shape, layer.compute_mask(symbols).shape)
        if assert_built_after_instantiation:
            self.assertTrue(make().built, f"{layer_cls.__name__} has no weights and must be built after __init__")
            own = type("OwnBuild", (layer_cls,), {"build": lambda self, *args, **kwargs: None})
            self.assertFalse(
                own(**(init_kwargs or {})).built, f"{layer_cls.__name__} with its own build is built by it only"
            )

        layer = make()
        outputs = call(layer, data)
        self._check_outputs(outputs, expected_output_shape, expected_output_dtype)
        if expected_output is not None:
            self.assertIs(type(expected_output), type(outputs))
            for want, got in zip(tree.flatten(expected_output), tree.flatten(outputs), strict=True):
                self.assertAllClose(want, got, msg="unexpected value of an output")
        if expected_num_losses is not None:
            self.assertLen(layer.losses, expected_num_losses)
        if run_training_check:
            _train(layer, data, outputs)
        if run_mixed_precision_check:
            self._check_mixed_precision(make(dtype="mixed_float16"), call, symbols, data)

    def _check_built(self, layer: Any, counts: Mapping[str, int]) -> None:
        self.assertTrue(layer.built)
        for name, count in counts.items():
            self.assertEqual(_held(layer, name), count, f"unexpected number of {name}")

    def _check_outputs(self, outputs: Any, shape: Any, dtype: Any) -> None:
        if shape is not None:
            shapes = tree.map_structure(lambda x: x.shape, outputs)
            fits = tree.map_structure_up_to(outputs, lambda want, x: _fits(want, x.shape), shape, outputs)
            self.assertTrue(all(tree.flatten(fits)), f"expected outputs of shape {shape}, received {shapes}")
        if dtype is not None:
            dtypes = tree.map_structure(lambda x: backend.standardize_dtype(x.dtype), outputs)
            self.assertEqual(dtype, dtypes, f"expected outputs of dtype {dtype}, received {dtypes}")

    def _check_mixed_precision(self, layer: Any, call: Callable, symbols: Any, data: Any) -> None:
        def cast(symbol: Any) -> Any:
            is_cast = layer.autocast and backend.is_float_dtype(symbol.dtype)
            return SymbolicTensor(symbol.shape, layer.compute_dtype if is_cast else symbol.dtype)

        outputs = call(layer, data)
        expected = call(layer.compute_output_spec, tree.map_structure(cast, symbols))
        for got, want in zip(tree.flatten(outputs), tree.flatten(expected), strict=True):
            self.assertDType(got, want.dtype)
        for weight in layer.weights:
            if backend.is_float_dtype(weight.dtype):
                self.assertDType(weight, "float32")


def _of_shapes(make: Callable, shapes: Any, dtypes: Any) -> Any:
    """The results of make(shape, dtype) in the structure of the shapes; float32 without dtypes."""
    kinds = tree.map_shape_structure(lambda _: "float32", shapes) if dtypes is None else dtypes
    symbols = tree.map_shape_structure(SymbolicTensor, shapes)
    made = tree.map_structure(lambda symbol, kind: make(symbol.shape, kind), symbols, kinds)
    return {name.removesuffix("_shape"): each for name, each in made.items()} if isinstance(made, dict) else made


def _called(function: Callable, inputs: Any, arguments: Mapping[str, Any]) -> Any:
    """The outputs for inputs; a dict of inputs has arguments by name."""
    return function(**inputs, **arguments) if isinstance(inputs, dict) else function(inputs, **arguments)


def _held(layer: Any, name: str) -> int:
    """How many variables, or generators of random numbers, a built layer and the layers in it have."""
    if name != "seed_generators":
        return len(getattr(layer, name))
    return len({id(seed) for each in layer._flatten_layers() for seed in each._held(random.SeedGenerator)})


def _fits(expected: Any, received: Any) -> bool:
    sizes = list(zip(expected, received, strict=False))
    return len(expected) == len(received) and all(want in (None, size) for want, size in sizes)


class _SumOfOutputs(losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.sum(y_pred)


def _train(layer: layers.Layer, data: Any, outputs: Any) -> None:
    """One step of `fit`."""

    class Around(models.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, x, training=False):
            return _called(self.layer, x, {"training": training})

    model = Around()
    model.compile(optimizer="sgd", loss=_SumOfOutputs())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "model .* has no trainable weights")
        model.fit(itertools.repeat((data, outputs)), steps_per_epoch=1, verbose=0)


def _with_tuples(value: Any) -> Any:
    """A configuration whose tuples are dicts, which JSON keeps."""
    if isinstance(value, dict):
        return {name: _with_tuples(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return {"__class__": "tuple", "__value__": _with_tuples([*value])}
    return [_with_tuples(each) for each in value] if isinstance(value, list) else value


def _tuple_again(read: dict) -> Any:
    return tuple(read["__value__"]) if read.get("__class__") == "tuple" else read


def uses_gpu() -> bool:
    """Whether nbkeras computes on a GPU."""
    return config.get_device() != "cpu"


def tensorflow_uses_gpu() -> bool:
    """`uses_gpu` where `keras.backend.backend()` answers 'tensorflow'."""
    return settings.backend() == "tensorflow" and uses_gpu()


def uses_tpu() -> bool:
    """False: there are no other devices, and `backend()` never answers 'jax' or 'torch'."""
    return False


jax_uses_gpu = jax_uses_tpu = tensorflow_uses_tpu = torch_uses_gpu = uses_tpu


def get_test_data(train_samples, test_samples, input_shape, num_classes, random_seed=None):
    """Noise around a random array for each class: (x_train, y_train), (x_test, y_test), with as many samples of each class."""
    rng = np.random.RandomState(random_seed)
    y = rng.permutation(np.resize(np.arange(num_classes), train_samples + test_samples))
    middles = 2 * num_classes * rng.random_sample((num_classes, *input_shape))
    x = (middles[y] + rng.standard_normal((len(y), *input_shape))).astype(np.float32)
    each = train_samples // num_classes
    first = np.isin(np.arange(len(y)), [np.flatnonzero(y == label)[:each] for label in range(num_classes)])
    return (x[first], y[first]), (x[~first], y[~first])


def named_product(*args, **kwargs):
    """All combinations of parameters, with a name each, for absl's `parameterized.named_parameters`.

    args: Lists of dicts of parameters with a `testcase_name`. kwargs: Lists of values of a parameter.
    """
    lists = [
        *args,
        *([{"testcase_name": _named(each), key: each} for each in values] for key, values in kwargs.items()),
    ]
    combinations = itertools.product(*reversed(lists))  # the first list varies fastest, as in Keras
    return [
        {
            **functools.reduce(dict.__or__, reversed(each), {}),
            "testcase_name": "_".join(one["testcase_name"] for one in each[::-1]),
        }
        for each in combinations
    ]


def _named(value: Any) -> str:
    return str(getattr(value, "__name__", value)).lower()
