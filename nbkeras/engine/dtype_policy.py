"""Floor 1: Keras's dtype policies, of which nbkeras has those with one dtype: 'float32' and 'float64'."""

from typing import Any

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly


class DTypePolicy:
    """The dtype in which a layer computes and keeps its weights; `layers.Dense(2, dtype=DTypePolicy("float64"))`.

    nbkeras computes in one dtype: there is no mixed precision, so a policy says no more than the dtype's name.

    Args:
        name: 'float32' or 'float64', or the name of a dtype of integers; None for the policy of layers made now.

    Raises:
        TypeError: The name is no text.
        ValueError: It is a mixed or quantized policy, or no dtype.

    Example:
        >>> policy = keras.DTypePolicy("float64")
        >>> layers.Dense(2, dtype=policy).dtype
        'float64'
        >>> policy.compute_dtype, policy.variable_dtype
        ('float64', 'float64')
    """

    quantization_mode = None

    def __init__(self, name: str | None = None):
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a dtype policy must be a string, such as 'float32', received {briefly(name)}")
        kind = settings.floatx() if name is None else name
        if kind.startswith("mixed_") or "_from_" in kind or kind in ("float16", "bfloat16"):
            raise ValueError(
                f"the dtype policy {kind!r} is not offered: nbkeras computes in float32 and float64 only, and without mixed "
                "precision. Use 'float32' or 'float64'"
            )
        self._name = settings.standardize_dtype(kind)

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype of computations."""
        return self._name

    @property
    def variable_dtype(self) -> str:
        """The dtype of weights."""
        return self._name

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"name": self._name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DTypePolicy":
        """A policy from what `get_config` returned.

        Args:
            config: That dict.
        """
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self._name}">'


FloatDTypePolicy = DTypePolicy


def dtype_policy() -> DTypePolicy:
    """The policy of layers that are made now; its name is `floatx`.

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
        ValueError: Another name: there is no mixed precision.

    Example:
        >>> keras.config.set_dtype_policy("float64")
        >>> layers.Dense(2).dtype
        'float64'
        >>> keras.config.set_dtype_policy("float32")
    """
    settings.set_floatx(get(policy).name)


def get(identifier: Any) -> DTypePolicy:
    """A policy from a name, a configuration, a policy or None.

    Args:
        identifier: A name, a dict as `serialize` returns it, a policy, or None for the policy of layers made now.

    Returns:
        A DTypePolicy.

    Raises:
        ValueError: There is no such policy.

    Example:
        >>> keras.dtype_policies.get("float64")
        <DTypePolicy "float64">
    """
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
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
    config = {"class_name": "DTypePolicy", "config": dtype_policy.get_config()}
    return {"module": "keras", **config, "registered_name": None}


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> DTypePolicy:
    """The policy of a configuration.

    Args:
        config: A dict as `serialize` returns it.
        custom_objects: Has no meaning here.

    Returns:
        A DTypePolicy.

    Raises:
        ValueError: It is the configuration of something else, or of a policy that nbkeras has not.

    Example:
        >>> config = keras.dtype_policies.serialize(keras.DTypePolicy("float64"))
        >>> keras.dtype_policies.deserialize(config)
        <DTypePolicy "float64">
    """
    kind, inner = config.get("class_name"), config.get("config")
    if kind not in ("DTypePolicy", "FloatDTypePolicy", "Policy") or not isinstance(inner, dict) or "name" not in inner:
        raise ValueError(f"this is no configuration of a dtype policy that nbkeras has: {briefly(config)}")
    return DTypePolicy(inner["name"])


Policy, global_policy, set_global_policy = DTypePolicy, dtype_policy, set_dtype_policy  # the names in `mixed_precision`
