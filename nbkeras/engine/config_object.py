"""Config, Keras's dictionary whose entries are attributes."""

import json
from collections.abc import Iterator, MutableMapping
from typing import Any


class Config(MutableMapping):
    """A dict whose entries are also attributes: `config.rate = 0.1` is `config["rate"] = 0.1`.

    Between `freeze` and `unfreeze`, changes raise ValueError.

    Args:
        **entries: The initial entries.

    Example:
        >>> config = keras.utils.Config(rate=0.1)
        >>> config.units = 32
        >>> config["units"], config.to_json()
        (32, '{"rate": 0.1, "units": 32}')
    """

    def __init__(self, **entries: Any):
        vars(self).update(_entries=entries, _frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether changes are refused."""
        return self._frozen

    def freeze(self) -> None:
        """Refuse changes from now on."""
        vars(self)["_frozen"] = True

    def unfreeze(self) -> None:
        """Allow changes again."""
        vars(self)["_frozen"] = False

    def as_dict(self) -> dict[str, Any]:
        """The entries as a new dict."""
        return dict(self._entries)

    def to_json(self) -> str:
        """The entries as JSON."""
        return json.dumps(self._entries)

    def _check(self) -> None:
        if self._frozen:
            raise ValueError("this Config is frozen: call unfreeze() before changing it")

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._check()
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        self._check()
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getattr__(self, name: str) -> Any:
        entries = vars(self).get("_entries", {})
        if name not in entries:
            raise AttributeError(f"this Config has no entry {name!r}, only {sorted(entries)}")
        return entries[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        return f"<Config {self._entries}>"
