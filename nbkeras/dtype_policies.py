"""Keras's `dtype_policies`, of floats and of quantized weights. Defined in engine/dtype_policy.py and quantizers/policies.py."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.dtype_policy import DTypePolicy as DTypePolicy
from nbkeras.engine.dtype_policy import DTypePolicyMap as DTypePolicyMap
from nbkeras.engine.dtype_policy import FloatDTypePolicy as FloatDTypePolicy
from nbkeras.engine.dtype_policy import deserialize as deserialize
from nbkeras.engine.dtype_policy import get as get
from nbkeras.engine.dtype_policy import serialize as serialize

if TYPE_CHECKING:
    from nbkeras.quantizers.policies import AWQDTypePolicy as AWQDTypePolicy
    from nbkeras.quantizers.policies import GPTQDTypePolicy as GPTQDTypePolicy
    from nbkeras.quantizers.policies import Int4DTypePolicy as Int4DTypePolicy
    from nbkeras.quantizers.policies import QuantizedDTypePolicy as QuantizedDTypePolicy
    from nbkeras.quantizers.policies import QuantizedFloat8DTypePolicy as QuantizedFloat8DTypePolicy

_lazy_names.attach(globals())
