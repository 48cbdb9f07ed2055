"""Keras's `dtype_policies`: those with one dtype, also with weights of int8. Defined in engine/dtype_policy.py."""

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.dtype_policy import DTypePolicy as DTypePolicy
from nbkeras.engine.dtype_policy import DTypePolicyMap as DTypePolicyMap
from nbkeras.engine.dtype_policy import FloatDTypePolicy as FloatDTypePolicy
from nbkeras.engine.dtype_policy import QuantizedDTypePolicy as QuantizedDTypePolicy
from nbkeras.engine.dtype_policy import deserialize as deserialize
from nbkeras.engine.dtype_policy import get as get
from nbkeras.engine.dtype_policy import serialize as serialize

_lazy_names.attach(globals())
