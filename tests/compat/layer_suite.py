"""A suite of layers as packages for Keras 3 write it, with its TestCase; test_keras_3_suites.py runs it.

It ran with Keras 3.15.1 as well (`python -m unittest` with the JAX and TensorFlow backends).
"""

import keras
import numpy as np
from keras.src import testing
from keras.src.testing import test_utils


@keras.saving.register_keras_serializable("suite")
class Scaled(keras.layers.Layer):
    """A layer whose faults are chosen by its arguments."""

    def __init__(self, units, fault=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.fault = units, fault
        self.supports_masking = True

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.count = self.add_weight(shape=(), dtype="int32", trainable=False, initializer="zeros", name="count")
        if self.fault == "more weights":
            self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, inputs, training=False):
        if self.fault == "untrainable" and training:
            raise RuntimeError("training is not possible")
        outputs = keras.ops.matmul(inputs, self.kernel)
        return keras.ops.cast(outputs, "float32") if self.fault == "always float32" else outputs

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        own = {"fault": self.fault} if self.fault == "forgets units" else {"units": self.units, "fault": self.fault}
        own |= {"fault": object()} if self.fault == "not JSON" else {}
        own |= {"units": self.units + 1} if self.fault == "other units" else {}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("suite")
class Pair(keras.layers.Layer):
    """A layer of two inputs by name, with a generator of random numbers and a loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)

    def build(self, query_shape, value_shape):
        self.scale = self.add_weight(shape=(query_shape[-1],), name="scale")

    def call(self, query, value):
        self.add_loss(keras.ops.sum(value))
        noise = keras.random.normal(keras.ops.shape(query), dtype=query.dtype, seed=self.seed_generator)
        return {"noisy": query * self.scale + noise, "both": (query + value) / 2}


USUAL = {
    "layer_cls": Scaled,
    "input_shape": (2, 3),
    "expected_output_shape": (2, 4),
    "expected_output_dtype": "float32",
    "expected_num_trainable_weights": 1,
    "expected_num_non_trainable_weights": 1,
    "expected_num_non_trainable_variables": 1,
    "expected_num_seed_generators": 0,
    "expected_num_losses": 0,
    "supports_masking": True,
}


class LayerTest(testing.TestCase):
    def test_a_good_layer(self):
        self.run_layer_test(init_kwargs={"units": 4}, **USUAL)
        self.run_layer_test(keras.layers.Dropout, {"rate": 0.5}, input_shape=(2, 3), expected_num_seed_generators=1)
        self.run_layer_test(keras.layers.Add, {}, input_shape=((2, 3), (2, 3)), expected_output_shape=(2, 3))
        self.run_layer_test(
            keras.layers.Embedding, {"input_dim": 5, "output_dim": 2}, input_shape=(2, 3), input_dtype="int32"
        )

    def test_values(self):
        x = np.ones((2, 3), "float32")
        self.run_layer_test(
            keras.layers.Dense,
            {"units": 1, "kernel_initializer": "ones"},
            input_data=x,
            expected_output=keras.ops.convert_to_tensor(3 * x[:, :1]),
        )
        with self.assertRaisesRegex(AssertionError, "alue"):
            self.run_layer_test(keras.layers.ReLU, {}, input_data=x, expected_output=keras.ops.convert_to_tensor(2 * x))

    def test_inputs_by_name(self):
        self.run_layer_test(
            Pair,
            {},
            input_shape={"query_shape": (2, 3), "value_shape": (2, 3)},
            expected_output_shape={"noisy": (2, 3), "both": (2, 3)},
            expected_num_seed_generators=1,
            expected_num_losses=1,
            run_training_check=False,
            run_mixed_precision_check=False,
        )

    def test_faults_are_found(self):
        for fault, kind in {
            "more weights": AssertionError,
            "untrainable": RuntimeError,
            "always float32": AssertionError,
            "forgets units": TypeError,
            "not JSON": TypeError,
            "other units": AssertionError,
        }.items():
            with self.subTest(fault), self.assertRaises(kind):
                self.run_layer_test(init_kwargs={"units": 4, "fault": fault}, **USUAL)

    def test_wrong_expectations_are_found(self):
        for name, value in {
            "expected_output_shape": (2, 5),
            "expected_output_dtype": "float16",
            "expected_num_trainable_weights": 2,
            "expected_num_non_trainable_weights": 0,
            "expected_num_non_trainable_variables": 3,
            "expected_num_seed_generators": 1,
            "expected_num_losses": 2,
            "supports_masking": False,
            "expected_output_sparse": True,
        }.items():
            with self.subTest(name), self.assertRaises(AssertionError):
                self.run_layer_test(init_kwargs={"units": 4}, **{**USUAL, name: value})
        with self.assertRaisesRegex(ValueError, "input_shape"):
            self.run_layer_test(keras.layers.ReLU, {}, input_shape=(2,), input_data=np.ones(2))

    def test_objects_by_their_configuration(self):
        again = self.run_class_serialization_test(keras.optimizers.Adam(0.25))
        self.assertAllClose(again.learning_rate, 0.25)
        again = self.run_class_serialization_test(keras.layers.Conv2D(2, (3, 1), padding="same"))
        self.assertEqual(again.kernel_size, (3, 1))

    def test_comparisons(self):
        x = keras.ops.convert_to_tensor([1.0, 2.0])
        self.assertAllClose(x, [1.0, 2.0 + 1e-7])
        self.assertNotAllClose(x, [1.0, 2.1])
        self.assertAlmostEqual(x, [1.0001, 2.0])
        self.assertAllEqual(x, np.array([1.0, 2.0]))
        self.assertLen([1, 2], 2)
        self.assertDType(x, "float32")
        self.assertDType(1.0, "float32")
        self.assertSparse(x, False)
        self.assertRagged(x, False)
        self.assertIsInstance(self.convert_to_numpy(x), np.ndarray)
        for check, *given in [
            (self.assertAllClose, x, [1.0, 2.1]),
            (self.assertAllClose, x, [1.0]),
            (self.assertNotAllClose, x, x),
            (self.assertAlmostEqual, x, [1.01, 2.0]),
            (self.assertAllEqual, x, [1.0, 2.0 + 1e-6]),
            (self.assertLen, [1, 2], 3),
            (self.assertDType, x, "float64"),
            (self.assertSparse, x),
            (self.assertRagged, x),
            (self.assertFileExists, f"{self.get_temp_dir()}/none"),
        ]:
            with self.subTest(check.__name__), self.assertRaises(AssertionError):
                check(*given)

    def test_devices(self):
        for uses in (
            testing.jax_uses_gpu,
            testing.jax_uses_tpu,
            testing.tensorflow_uses_gpu,
            testing.tensorflow_uses_tpu,
            testing.torch_uses_gpu,
            testing.uses_gpu,
            testing.uses_tpu,
        ):
            self.assertFalse(uses())

    def test_data(self):
        (x, y), (x_test, y_test) = test_utils.get_test_data(10, 5, (4,), 3, random_seed=1)
        self.assertEqual((x.shape, x_test.shape, x.dtype), ((9, 4), (6, 4), np.float32))
        self.assertAllEqual(np.bincount(y), [3, 3, 3])
        self.assertAllEqual(np.bincount(y_test), [2, 2, 2])

    def test_names_of_products(self):
        cases = test_utils.named_product(
            [{"testcase_name": "small", "x": 1}, {"testcase_name": "large", "x": 9}], kind=(int, None)
        )
        self.assertEqual(
            cases,
            [
                {"testcase_name": "small_int", "x": 1, "kind": int},
                {"testcase_name": "large_int", "x": 9, "kind": int},
                {"testcase_name": "small_none", "x": 1, "kind": None},
                {"testcase_name": "large_none", "x": 9, "kind": None},
            ],
        )
