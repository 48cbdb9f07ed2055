"""Wrapper, the base of layers around another layer, and SpectralNormalization of the wrapped layer's kernel."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building import graph
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable
from nbkeras.initializers import TruncatedNormal


class Wrapper(option.Declared, Layer):
    """A layer that holds another layer and saves it in its configuration: a base for custom wrappers.

    Args:
        layer (a layer): The wrapped layer, kept as `layer`. It is built for the wrapper's input.

    Raises:
        ValueError: for an object that is not a layer.

    Example:
        >>> class Twice(layers.Wrapper):
        ...     def call(self, inputs):
        ...         return self.layer(self.layer(inputs))
        >>> Twice(layers.Dense(3, kernel_initializer="ones"))(np.ones((1, 3))).numpy()
        array([[9., 9., 9.]], dtype=float32)
    """

    def __init__(self, layer: option.Layers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        if not isinstance(self.layer, Layer):
            raise ValueError(f"{type(self).__name__} wraps a layer such as Dense(8), received {briefly(layer)}")

    def build(self, input_shape=None):
        self.layer._ensure_built(graph.symbols(input_shape, self.layer.input_dtype or self.compute_dtype))


class SpectralNormalization(Wrapper):
    """Divides a layer's kernel by its largest singular value before each call in training (Miyato et al., 2018).

    Power iteration finds the value and keeps its vector between steps in `vector_u`. As in Keras on TensorFlow, the kernel
    itself changes, and gradients do not pass through the division. Call the layer once per training step.

    Args:
        layer (a layer): A layer with a `kernel` or `embeddings`.
        power_iterations: The number of iterations in each call.

    Call arguments:
        inputs: The inputs of the layer.
        training: Whether the kernel is divided.

    Raises:
        ValueError: when it is built, for a layer without `kernel` and `embeddings`.

    Example:
        >>> layer = layers.SpectralNormalization(layers.Dense(4, kernel_initializer="ones"))
        >>> output = layer(np.ones((1, 4)), training=True)
        >>> round(float(np.linalg.norm(layer.layer.kernel, 2)), 3)
        1.0
    """

    supports_masking = True
    input_spec = InputSpec(min_ndim=1)

    def __init__(self, layer, power_iterations: option.Size = 1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if self.kernel is None:
            raise ValueError(
                f"SpectralNormalization {self.name!r} wraps a layer with a kernel or embeddings, received {briefly(self.layer)}"
            )
        if not isinstance(self.kernel, Variable):
            raise ValueError(
                f"SpectralNormalization {self.name!r} cannot change the kernel of {briefly(self.layer)}, which is a sum (LoRA)"
            )
        shape = (1, self.kernel.shape[-1])
        self.vector_u = self.add_weight(shape, TruncatedNormal(stddev=0.02), trainable=False, name="vector_u")

    def call(self, inputs, training=None):
        if training:
            self._normalize()
        options = {"training": training} if "training" in self.layer._call_takes else {}
        return self.layer(inputs, **options)

    def _normalize(self) -> None:
        kernel = ops.stop_gradient(self.kernel)
        matrix, u = ops.reshape(kernel, (-1, kernel.shape[-1])), ops.stop_gradient(self.vector_u)
        for _ in range(self.power_iterations):
            v = _unit(ops.matmul(u, ops.transpose(matrix)))
            u = _unit(ops.matmul(v, matrix))
        largest = ops.matmul(ops.matmul(v, matrix), ops.transpose(u))
        zero = ops.logical_not(ops.any(kernel))
        self.vector_u.assign(ops.where(zero, self.vector_u, u))
        self.kernel.assign(ops.where(zero, kernel, ops.reshape(ops.divide(matrix, largest), kernel.shape)))

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def _unit(row):
    """A row (1, n) divided by its length; zeros stay zeros."""
    return ops.l2_normalize(row, axis=(0, 1))
