"""Floor 1: Keras's dtype policies. nbkeras has policies with one dtype, 'float32' or 'float64', and with int8 weights."""

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import enter_methods


class DTypePolicy:
    """The dtype of a layer's computations and weights: `layers.Dense(2, dtype=DTypePolicy("float64"))`.

    nbkeras computes in one dtype: there is no mixed precision, so a policy contains only the dtype's name. A layer with int8
    weights has a QuantizedDTypePolicy.

    Args:
        name: 'float32' or 'float64', or the name of an integer dtype; None for the current default policy.

    Raises:
        TypeError: if the name is not a string.
        ValueError: for a mixed or quantized policy, or an unknown dtype.

    Example:
        >>> policy = keras.DTypePolicy("float64")
        >>> layers.Dense(2, dtype=policy).dtype
        'float64'
        >>> policy.compute_dtype, policy.variable_dtype
        ('float64', 'float64')
    """

    quantization_mode: str | None = None

    def __init__(self, name: str | None = None):
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a dtype policy must be a string, such as 'float32', received {briefly(name)}")
        kind = settings.floatx() if name is None else name
        if kind.startswith("mixed_") or "_from_" in kind or kind in ("float16", "bfloat16"):
            raise ValueError(
                f"the dtype policy {briefly(kind)} is not offered: nbkeras computes in float32 and float64 only, and without "
                "mixed precision. Use 'float32' or 'float64'"
            )
        self._name = settings.standardize_dtype(kind)

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._name

    compute_dtype = variable_dtype = property(lambda self: self._name, doc="The dtype of computations and weights.")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"name": self._name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DTypePolicy":
        """Make a policy from a result of `get_config`.

        Args:
            config: The configuration, a dict.
        """
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} "{self.name}">'


FloatDTypePolicy = DTypePolicy
QUANTIZATION_MODES = ("int8", "float8", "int4", "gptq", "awq")  # Keras's names


class QuantizedDTypePolicy(DTypePolicy):
    """The policy of a layer whose weights are integers with scales; see `Model.quantize`.

    Args:
        mode: 'int8'.
        source_name: The dtype of the computation, 'float32' or 'float64'; None for the current default.

    Raises:
        ValueError: for another mode.

    Example:
        >>> policy = keras.dtype_policies.QuantizedDTypePolicy("int8", "float32")
        >>> policy.name, policy.compute_dtype, policy.quantization_mode
        ('int8_from_float32', 'float32', 'int8')
    """

    def __init__(self, mode: str, source_name: str | None = None):
        super().__init__(source_name)
        self.quantization_mode = check_mode(mode)

    @property
    def name(self) -> str:
        """The policy's name."""
        return f"{self.quantization_mode}_from_{self._name}"

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"mode": self.quantization_mode, "source_name": self._name}


def check_mode(mode: Any) -> str:
    """Returns the mode if it is 'int8'. Raises ValueError, with different messages for Keras's other modes and unknown modes."""
    if mode == "int8":
        return mode
    if mode in QUANTIZATION_MODES:
        raise ValueError(f"quantization mode {briefly(mode)} is not offered: nbkeras has 'int8'")
    raise ValueError(
        f"Invalid quantization mode. Expected 'int8' (Keras also has {QUANTIZATION_MODES[1:]}). Received: mode={briefly(mode)}"
    )


class DTypePolicyMap(DTypePolicy, MutableMapping):
    """Policies of the sublayers that a layer makes itself, by path; for example an attention layer's projections.

    Args:
        default_policy: The policy of paths that are not in the map; None for the current default policy.
        policy_map: A dict of policies by path.

    Example:
        >>> policies = keras.dtype_policies.DTypePolicyMap("float32")
        >>> policies["attention/query"] = "int8_from_float32"
        >>> policies["attention/query"].name, policies["attention/key"].name
        ('int8_from_float32', 'float32')
    """

    def __init__(self, default_policy: Any = None, policy_map: dict[str, Any] | None = None):
        self.default_policy = get(default_policy)
        super().__init__(self.default_policy.compute_dtype)
        self._policies = {path: get(policy) for path, policy in (policy_map or {}).items()}

    @property
    def name(self) -> str:
        """The name of the default policy, with the prefix 'map_'."""
        return f"map_{self.default_policy.name}"

    def __getitem__(self, path: str) -> DTypePolicy:
        known = self._policies.get(path)
        if known is None:  # paths may be patterns, as in Keras
            known = next((policy for key, policy in self._policies.items() if re.fullmatch(key, path)), None)
        return self.default_policy if known is None else known

    def __setitem__(self, path: str, policy: Any) -> None:
        self._policies[path] = get(policy)

    def __delitem__(self, path: str) -> None:
        del self._policies[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    __eq__ = MutableMapping.__eq__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        policies = {path: serialize(policy) for path, policy in self._policies.items()}
        return {"default_policy": serialize(self.default_policy), "policy_map": policies}


def of_only_part(dtype: Any) -> Any:
    """For a DTypePolicyMap, the policy of the single sublayer that a layer makes itself; any other dtype unchanged."""
    policies = get(dtype) if isinstance(dtype, dict) else dtype
    if not isinstance(policies, DTypePolicyMap):
        return dtype
    return next(iter(policies.values()), policies.default_policy)


def dtype_policy() -> DTypePolicy:
    """The current default policy of new layers; its name is `floatx`.

    Returns:
        A DTypePolicy.

    Example:
        >>> keras.config.dtype_policy()
        <DTypePolicy "float32">
    """
    return DTypePolicy()


def set_dtype_policy(policy: Any) -> None:
    """Choose the dtype of layers made from now on; the same as `set_floatx`.

    Args:
        policy: 'float32' or 'float64', or a DTypePolicy of that name.

    Raises:
        ValueError: for another name: there is no mixed precision.

    Example:
        >>> keras.config.set_dtype_policy("float64")
        >>> layers.Dense(2).dtype
        'float64'
        >>> keras.config.set_dtype_policy("float32")
    """
    settings.set_floatx(DTypePolicy(get(policy).name).name)


def get(identifier: Any) -> DTypePolicy:
    """A policy from a name, a configuration, a policy or None.

    Args:
        identifier: A name, a dict as `serialize` returns it, a policy, or None for the current default policy.

    Returns:
        A DTypePolicy.

    Raises:
        ValueError: for an unknown policy.

    Example:
        >>> keras.dtype_policies.get("float64")
        <DTypePolicy "float64">
    """
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and "_from_" in identifier:
        return QuantizedDTypePolicy(*identifier.split("_from_", 1))
    if identifier is None or isinstance(identifier, str):
        return DTypePolicy(identifier)
    raise ValueError(
        f"a dtype policy is a name such as 'float32', a DTypePolicy or its configuration, received {briefly(identifier)}"
    )


def serialize(dtype_policy: DTypePolicy) -> dict[str, Any]:
    """A policy's configuration, as Keras 3 writes it into files.

    Args:
        dtype_policy: The policy.

    Returns:
        A dict for `deserialize`.

    Example:
        >>> keras.dtype_policies.serialize(keras.DTypePolicy("float64"))["config"]
        {'name': 'float64'}
    """
    module = "keras" if type(dtype_policy) is DTypePolicy else "keras.dtype_policies"
    config = {"class_name": type(dtype_policy).__name__, "config": dtype_policy.get_config()}
    return {"module": module, **config, "registered_name": None}


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> DTypePolicy:
    """The policy of a configuration.

    Args:
        config: A dict as `serialize` returns it.
        custom_objects: Accepted and ignored.

    Returns:
        A DTypePolicy.

    Raises:
        ValueError: if it is not the configuration of a policy that nbkeras has.

    Example:
        >>> config = keras.dtype_policies.serialize(keras.DTypePolicy("float64"))
        >>> keras.dtype_policies.deserialize(config)
        <DTypePolicy "float64">
    """
    kind, inner = config.get("class_name"), config.get("config")
    if isinstance(inner, dict) and isinstance(kind, str):
        if kind in ("DTypePolicy", "FloatDTypePolicy", "Policy") and "name" in inner:
            return DTypePolicy(inner["name"])
        if kind == "QuantizedDTypePolicy" and inner.keys() <= {"mode", "source_name"} and "mode" in inner:
            return QuantizedDTypePolicy(**inner)
        if kind == "DTypePolicyMap" and isinstance(inner.get("policy_map", {}), dict):
            return DTypePolicyMap(inner.get("default_policy"), inner.get("policy_map"))
    raise ValueError(f"expected the configuration of a dtype policy that nbkeras has, received {briefly(config)}")


Policy, global_policy, set_global_policy = DTypePolicy, dtype_policy, set_dtype_policy  # the names in `mixed_precision`
enter_methods(DTypePolicy)
