"""The dtype policies of layers with quantized weights, one class for each form of their names."""

import re
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtype_policy import DTypePolicy, DTypePolicyMap

QUANTIZATION_MODES = ("int8", "float8", "int4", "gptq", "awq")  # Keras's names


class QuantizedDTypePolicy(DTypePolicy):
    """The policy of a layer whose weights are integers with scales, or 8-bit floats; see `Model.quantize`.

    Args:
        mode: 'int8', 'int4', 'float8', 'gptq' or 'awq'.
        source_name: The dtype of the computation, 'float32' or 'float64'; None for the current default.

    Raises:
        ValueError: for another mode.

    Example:
        >>> policy = keras.dtype_policies.QuantizedDTypePolicy("int8", "float32")
        >>> policy.name, policy.compute_dtype, policy.quantization_mode
        ('int8_from_float32', 'float32', 'int8')
    """

    _numbers: tuple[str, ...] = ()  # the attributes after the mode, as in 'int4/128'
    _kind: str | None = None  # the mode of the class

    def __init__(self, mode: str, source_name: str | None = None):
        super().__init__(source_name)
        head, *numbers = mode.split("/") if isinstance(mode, str) else [mode]
        self.quantization_mode = self.mode = check_mode(head)
        fits = len(numbers) == len(self._numbers) and self._kind in (None, head)
        if not fits or not all(re.fullmatch(r"-1|[1-9][0-9]{0,8}", each) for each in numbers):
            form = "/".join([self._kind or head, *(f"<{each}>" for each in self._numbers)])
            raise ValueError(
                f"{type(self).__name__}: mode must be '{form}' with positive integers or -1, received {briefly(mode)}"
            )
        for what, number in zip(self._numbers, numbers, strict=True):
            setattr(self, what, int(number))
        if getattr(self, "weight_bits", 4) not in ((2, 3, 4, 8) if head == "gptq" else (4,)):
            raise ValueError(
                f"{type(self).__name__}: weight_bits must be 4, or for 'gptq' 2, 3, 4 or 8, received {briefly(mode)}"
            )
        self._mode = mode

    @property
    def name(self) -> str:
        """The policy's name."""
        return f"{self._mode}_from_{self._name}"

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"mode": self._mode, "source_name": self._name}


class Int4DTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer with weights of 4 bits in groups.

    Args:
        mode: 'int4/<block_size>', with -1 for no groups.
        source_name: The dtype of the computation; None for the current default.

    Raises:
        ValueError: for another mode.

    Example:
        >>> keras.dtype_policies.Int4DTypePolicy("int4/128", "float32").block_size
        128
    """

    _numbers, _kind = ("block_size",), "int4"


class GPTQDTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer with weights that GPTQ rounded.

    Args:
        mode: 'gptq/<weight_bits>/<group_size>'.
        source_name: The dtype of the computation; None for the current default.

    Raises:
        ValueError: for another mode.

    Example:
        >>> keras.dtype_policies.GPTQDTypePolicy("gptq/4/128", "float32").weight_bits
        4
    """

    _numbers, _kind = ("weight_bits", "group_size"), "gptq"


class AWQDTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer with weights that AWQ rounded.

    Args:
        mode: 'awq/4/<group_size>'.
        source_name: The dtype of the computation; None for the current default.

    Raises:
        ValueError: for another mode.

    Example:
        >>> keras.dtype_policies.AWQDTypePolicy("awq/4/-1", "float32").group_size
        -1
    """

    _numbers, _kind = ("weight_bits", "group_size"), "awq"


class QuantizedFloat8DTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer that trains with numbers rounded to 8-bit floats.

    Args:
        mode: 'float8'.
        source_name: The dtype of the computation; None for the current default.
        amax_history_length: The number of steps whose largest values choose the scales.

    Raises:
        TypeError: for a length that is not an integer.

    Example:
        >>> keras.dtype_policies.QuantizedFloat8DTypePolicy("float8", "float32").amax_history_length
        1024
    """

    default_amax_history_length = 1024

    def __init__(self, mode: str, source_name: str | None = None, amax_history_length: int = 1024):
        super().__init__(mode, source_name)
        if not isinstance(amax_history_length, int) or amax_history_length < 1:
            raise TypeError(f"amax_history_length must be a positive integer, received {briefly(amax_history_length)}")
        self.amax_history_length = amax_history_length

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "amax_history_length": self.amax_history_length}

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.amax_history_length == getattr(other, "amax_history_length", None)

    __hash__ = DTypePolicy.__hash__


_OF_MODE = {"gptq": GPTQDTypePolicy, "awq": AWQDTypePolicy, "float8": QuantizedFloat8DTypePolicy}
KINDS = {kind.__name__: kind for kind in (QuantizedDTypePolicy, Int4DTypePolicy, *_OF_MODE.values())}


def named(name: str) -> QuantizedDTypePolicy:
    """The policy for a name such as 'int4/128_from_float32'."""
    mode, source = name.split("_from_", 1)
    kind = Int4DTypePolicy if mode.startswith("int4/") else _OF_MODE.get(mode.partition("/")[0], QuantizedDTypePolicy)
    return kind(mode, source)


def check_mode(mode: Any) -> str:
    """Returns the mode. Raises ValueError unless it is one of Keras's."""
    if mode not in QUANTIZATION_MODES:
        known = ", ".join(map(repr, QUANTIZATION_MODES))
        raise ValueError(f"Invalid quantization mode. Expected {known}. Received: mode={briefly(mode)}")
    return mode


def own_policy(layer: Any) -> Any:
    """The dtype policy that a layer got, or None."""
    return layer._policy[layer.path] if isinstance(layer._policy, DTypePolicyMap) else layer._policy
