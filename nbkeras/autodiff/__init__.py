"""Derivatives of any order of functions of tensors: see docs/autodiff.md."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:
    from nbkeras.autodiff.batching import vmap as vmap
    from nbkeras.autodiff.custom import checkpoint as checkpoint
    from nbkeras.autodiff.custom import custom_vjp as custom_vjp
    from nbkeras.autodiff.rules import Composed as Composed
    from nbkeras.autodiff.rules import Elementwise as Elementwise
    from nbkeras.autodiff.rules import Explicit as Explicit
    from nbkeras.autodiff.rules import Linear as Linear
    from nbkeras.autodiff.rules import Multilinear as Multilinear
    from nbkeras.autodiff.rules import define as define
    from nbkeras.autodiff.transforms import *
    from nbkeras.ops import custom_gradient as custom_gradient
    from nbkeras.ops import stop_gradient as stop_gradient

_lazy_names.attach(globals())
