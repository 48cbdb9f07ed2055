"""Keras's activation functions by name. Each is the op of the same name, except gelu, which is exact by default."""

from typing import TYPE_CHECKING, Any

from nbkeras import ops
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.registry import Registry, function_config, is_sharing
from nbkeras.engine.tensor import Tensor as _Tensor
from nbkeras.ops import activations as _activations
from nbkeras.ops.normalization import sparsemax as sparsemax

if TYPE_CHECKING:
    from nbkeras.ops.activations import *


class _Activations(Registry):
    """Activations by name; None is `linear`. `legacy_hard_sigmoid` is saved as a user's function: Keras 3 lacks it."""

    def serialize(self, item, short: bool = True) -> Any:
        of_keras_2 = item is _activations.legacy_hard_sigmoid and is_sharing()
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
registry.register(sparsemax)
for _function in vars(_activations).values():
    _is_own = getattr(_function, "__module__", None) == _activations.__name__ and hasattr(_function, "__wrapped__")
    if _is_own and _function is not _activations.gelu:
        registry.register(_function)
registry.register(_activations.silu, "swish")
registry.register(_activations.hard_silu, "hard_swish")


@registry.register  # type: ignore[no-redef]
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
