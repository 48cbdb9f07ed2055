"""keras.ops.numpy: another name of nbkeras.ops."""

from typing import Any

from nbkeras import ops as _ops

__all__ = dir(_ops)


def __getattr__(name: str) -> Any:
    return getattr(_ops, name)


def __dir__() -> list[str]:
    return __all__
