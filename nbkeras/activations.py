"""Keras's activation functions by name. Each is the op of the same name, except gelu, which is exact by default."""

from typing import Any

from nbkeras import ops
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.registry import Registry, function_config, is_sharing
from nbkeras.engine.tensor import Tensor as _Tensor
from nbkeras.ops import celu as celu
from nbkeras.ops import elu as elu
from nbkeras.ops import exponential as exponential
from nbkeras.ops import glu as glu
from nbkeras.ops import hard_shrink as hard_shrink
from nbkeras.ops import hard_sigmoid as hard_sigmoid
from nbkeras.ops import hard_silu as hard_silu
from nbkeras.ops import hard_swish as hard_swish
from nbkeras.ops import hard_tanh as hard_tanh
from nbkeras.ops import leaky_relu as leaky_relu
from nbkeras.ops import legacy_hard_sigmoid as legacy_hard_sigmoid
from nbkeras.ops import linear as linear
from nbkeras.ops import log_sigmoid as log_sigmoid
from nbkeras.ops import log_softmax as log_softmax
from nbkeras.ops import mish as mish
from nbkeras.ops import relu as relu
from nbkeras.ops import relu6 as relu6
from nbkeras.ops import selu as selu
from nbkeras.ops import sigmoid as sigmoid
from nbkeras.ops import silu as silu
from nbkeras.ops import soft_shrink as soft_shrink
from nbkeras.ops import softmax as softmax
from nbkeras.ops import softplus as softplus
from nbkeras.ops import softsign as softsign
from nbkeras.ops import sparse_plus as sparse_plus
from nbkeras.ops import sparse_sigmoid as sparse_sigmoid
from nbkeras.ops import sparsemax as sparsemax
from nbkeras.ops import squareplus as squareplus
from nbkeras.ops import swish as swish
from nbkeras.ops import tanh as tanh
from nbkeras.ops import tanh_shrink as tanh_shrink
from nbkeras.ops import threshold as threshold


class _Activations(Registry):
    """Activations by name; None is `linear`. `legacy_hard_sigmoid` is saved as a user's function: Keras 3 lacks it."""

    def serialize(self, item, short: bool = True) -> Any:
        of_keras_2 = item is legacy_hard_sigmoid and is_sharing()
        return function_config(item) if of_keras_2 else super().serialize(item, short)

    def get(self, identifier: Any, **kwargs) -> Any:
        """An activation from any form that an argument may have.

        Args:
            identifier: A name, a configuration {'class_name', 'config'}, a class, or a function or an object, which are
                returned unchanged; None for `linear`.
            **kwargs: Arguments of the class, if a class is given.

        Raises:
            ValueError: for an unknown name, with the nearest existing one, and for anything else.

        Example:
            >>> keras.activations.get("relu")([-1.0, 2.0]).numpy()
            array([0., 2.], dtype=float32)
            >>> keras.activations.get(None) is keras.activations.linear
            True
        """
        return ops.linear if identifier is None else super().get(identifier, **kwargs)


registry = _Activations("activation")


@registry.register
def gelu(x, approximate: bool = False) -> _Tensor:
    """Gaussian error linear unit: x times the probability that a normal variable is below x.

    x Phi(x), where Phi is the normal distribution function. Source: Hendrycks and Gimpel, 2016.

    Args:
        x: Floats of any shape; integers become floatx.
        approximate: Whether Phi is approximated by tanh. Unlike in `ops.gelu`, the exact function is the
            default, as in Keras.

    Returns:
        A tensor of x's shape and float dtype.

    Example:
        >>> keras.activations.gelu([-1.0, 0.0, 1.0]).numpy().round(3)
        array([-0.159,  0.   ,  0.841], dtype=float32)
    """
    return ops.gelu(x, approximate=approximate)


for _function in [each for each in globals().values() if hasattr(each, "__wrapped__")]:  # the ops above
    registry.register(_function)
registry.register(silu, "swish")
registry.register(hard_silu, "hard_swish")


get, deserialize = registry.get, registry.deserialize


def serialize(activation) -> Any:
    """The configuration of an activation, as stored in files.

    Args:
        activation: A function, or an object.

    Returns:
        A name for a function of this module, otherwise a configuration; `deserialize` reads it.

    Example:
        >>> keras.activations.serialize(ops.relu)
        'relu'
    """
    return registry.serialize(activation)


_lazy_names.attach(globals(), registry)
