"""Floor 1: temporary values of attributes in a block of code."""

from typing import Any


class temporarily:  # noqa: N801 (it is used like a function)
    """`with temporarily(owner, name=value):` sets attributes of an object, and restores their values after the block."""

    def __init__(self, owner: Any, **values: Any):
        self._owner, self._values = owner, values

    def _exchange(self) -> None:
        before = {name: getattr(self._owner, name) for name in self._values}
        for name, value in self._values.items():
            setattr(self._owner, name, value)
        self._values = before

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *error: object) -> None:
        self._exchange()
