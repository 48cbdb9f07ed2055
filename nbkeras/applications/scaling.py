"""Layers that only these networks have."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops, random
from nbkeras.building.layer import Layer, LayerOptions, SameShape, layers
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.initializers import Constant


class LayerScale(SameShape):
    """Multiplies each channel by a weight of its own (Touvron et al., 2021).

    Args:
        init_values: The initial value of the weights.
        projection_dim: The number of channels.
    """

    def __init__(self, init_values: option.Number, projection_dim: option.Size, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape=None):
        self.gamma = self.add_weight((self.projection_dim,), Constant(self.init_values), name="gamma")

    def call(self, inputs):
        return ops.multiply(inputs, self.gamma)


class StochasticDepth(SameShape):
    """Sets whole samples to 0 in training, and divides the others by the share that is kept (Huang et al., 2016).

    Args:
        drop_path_rate: The probability that a sample is set to 0.
    """

    def __init__(self, drop_path_rate: option.Rate, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.seed_generator = self.add_seed_generator(None)

    def call(self, inputs, training=None):
        if not training or self.drop_path_rate == 0:
            return inputs
        shape = (None,) + (1,) * (len(inputs.shape) - 1)
        return random.dropout(inputs, self.drop_path_rate, shape, self.seed_generator)


class CustomScaleLayer(Layer):
    """The first of two tensors plus `scale` times the second.

    Args:
        scale: The factor.
    """

    def __init__(self, scale: option.Number, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        if not isinstance(inputs, list | tuple) or len(inputs) != 2:
            raise ValueError(f"CustomScaleLayer {self.name!r} takes a list of two tensors, received {briefly(inputs)}")
        first, second = inputs
        return ops.add(first, ops.multiply(second, self.scale))


for _module, *_layers in (("convnext", LayerScale, StochasticDepth), ("inception_resnet_v2", CustomScaleLayer)):
    for _layer in _layers:
        layers.publish(_layer, f"keras.src.applications.{_module}", _layer.__name__)
