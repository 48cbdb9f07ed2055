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
    from nbkeras.autodiff.transforms import grad as grad
    from nbkeras.autodiff.transforms import hessian as hessian
    from nbkeras.autodiff.transforms import hvp as hvp
    from nbkeras.autodiff.transforms import jacfwd as jacfwd
    from nbkeras.autodiff.transforms import jacrev as jacrev
    from nbkeras.autodiff.transforms import jvp as jvp
    from nbkeras.autodiff.transforms import value_and_grad as value_and_grad
    from nbkeras.autodiff.transforms import vjp as vjp
    from nbkeras.ops import custom_gradient as custom_gradient
    from nbkeras.ops import stop_gradient as stop_gradient

_lazy_names.attach(globals())
