"""Wrapper, the base of layers around another layer, and SpectralNormalization of the wrapped layer's kernel."""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building import graph
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.engine import option
from nbkeras.initializers import TruncatedNormal


class Wrapper(Layer):
    """A layer that holds another, `layer`, and writes it into its configuration; a base for wrappers of your own."""

    layer: Any

    def __init__(self, layer: option.Layers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        if not isinstance(self.layer, Layer):
            raise ValueError(f"{type(self).__name__} wraps a layer such as Dense(8), received {layer!r}")

    def build(self, input_shape=None):
        self.layer._ensure_built(graph.symbols(input_shape, self.layer.input_dtype or self.dtype))
        self.built = True


class SpectralNormalization(Wrapper):
    """Divides the layer's kernel (or embeddings) by its largest singular value before each call in training.

    Power iteration finds the value and continues from step to step in vector_u. As in Keras on TensorFlow the kernel
    itself changes, and gradients do not pass through the division. Call it once a step. Miyato et al., 2018.
    """

    supports_masking = True
    power_iterations: int

    def __init__(self, layer, power_iterations: option.Size = 1, **kwargs: Unpack[LayerOptions]):
        super().__init__(layer, **kwargs)
        option.keep(self, locals())

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if self.kernel is None:
            raise ValueError(
                f"SpectralNormalization {self.name!r} wraps a layer with a kernel or embeddings, received {self.layer!r}"
            )
        shape = (1, self.kernel.shape[-1])
        self.vector_u = self.add_weight(shape, TruncatedNormal(stddev=0.02), trainable=False, name="vector_u")
        self.input_spec = InputSpec(min_ndim=1)
        self.built = True

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
