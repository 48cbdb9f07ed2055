"""Floor 1: Keras's dtype policies: one dtype, and mixed precision ('mixed_bfloat16'). quantizers/policies.py has the others."""

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.user_errors import enter_methods

quantized: Any = None  # quantizers/quantization.py, which nbkeras/__init__.py sets: it is imported when used
_MIXED = {f"mixed_{name}": name for name in settings.HALVES}


class DTypePolicy:
    """The dtypes of a layer's computations and weights: `layers.Dense(2, dtype=DTypePolicy("mixed_bfloat16"))`.

    'mixed_bfloat16' and 'mixed_float16' compute in 16 bits and keep float32 weights. A layer with int8 weights has a
    QuantizedDTypePolicy.

    Args:
        name: The name of a dtype, 'mixed_bfloat16' or 'mixed_float16'; None for the current default policy.

    Raises:
        TypeError: if the name is not a string.
        ValueError: for a quantized policy, or an unknown dtype.

    Example:
        >>> policy = keras.DTypePolicy("mixed_bfloat16")
        >>> layers.Dense(2, dtype=policy).dtype
        'float32'
        >>> policy.compute_dtype, policy.variable_dtype
        ('bfloat16', 'float32')
    """

    quantization_mode: str | None = None
    source_name = property(lambda self: self._name, doc="The name without quantization.")

    def __init__(self, name: str | None = None):
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a dtype policy must be a string, such as 'float32', received {briefly(name)}")
        kind = dtype_policy().name if name is None else name
        if "_from_" in kind:
            raise ValueError(
                f"the dtype policy {briefly(kind)} is not offered here: give it to a layer, or call quantize"
            )
        self._name = kind if kind in _MIXED else settings.standardize_dtype(kind)
        known_dtype(self.compute_dtype)  # one of 16 bits imports half.py

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._name

    compute_dtype = property(lambda self: _MIXED.get(self._name, self._name), doc="The dtype of computations.")
    variable_dtype = property(
        lambda self: "float32" if self._name in _MIXED else self._name, doc="The dtype of weights."
    )

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
        super().__init__(self.default_policy.source_name)
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
    """The current default policy of new layers: that of `set_dtype_policy`, else the one with the dtype `floatx`.

    Returns:
        A DTypePolicy.

    Example:
        >>> keras.config.dtype_policy()
        <DTypePolicy "float32">
    """
    return settings.values.dtype_policy or DTypePolicy(settings.floatx())


def set_dtype_policy(policy: Any) -> None:
    """Choose the dtype policy of layers made from now on.

    Args:
        policy: A name such as 'mixed_bfloat16', or a DTypePolicy; None for the policy with the dtype `floatx`.

    Raises:
        ValueError: for an unknown policy.

    Example:
        >>> keras.config.set_dtype_policy("mixed_bfloat16")
        >>> layers.Dense(2).compute_dtype
        'bfloat16'
        >>> keras.config.set_dtype_policy(None)
    """
    chosen = None if policy is None else DTypePolicy(get(policy).name)
    if chosen is not None and "float" not in chosen.name:
        raise ValueError(f"the default dtype policy must compute in floats, received {briefly(chosen.name)}")
    settings.values.dtype_policy = chosen


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
        return quantized.named(identifier)
    if identifier is None or isinstance(identifier, str):
        return DTypePolicy(identifier)
    raise ValueError(
        f"a dtype policy is a name such as 'float32', a DTypePolicy or its configuration, received {briefly(identifier)}"
    )


def of(dtype: Any) -> DTypePolicy:
    """The policy of a constructor's argument `dtype`: a policy, its name or configuration, a dtype, or None for the default."""
    named = dtype is None or isinstance(dtype, str | dict | DTypePolicy)
    return get(dtype if named else settings.standardize_dtype(dtype))


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
        if kind == "DTypePolicyMap" and isinstance(inner.get("policy_map", {}), dict):
            return DTypePolicyMap(inner.get("default_policy"), inner.get("policy_map"))
        if (
            "mode" in inner
            and inner.keys() <= {"mode", "source_name", "amax_history_length"}
            and kind in quantized.KINDS
        ):
            return quantized.KINDS[kind](**inner)
    raise ValueError(f"expected the configuration of a dtype policy that nbkeras has, received {briefly(config)}")


Policy, global_policy, set_global_policy = DTypePolicy, dtype_policy, set_dtype_policy  # the names in `mixed_precision`
enter_methods(DTypePolicy)
