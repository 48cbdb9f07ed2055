"""Names of Keras 3's module `keras.applications.efficientnet`, which KerasTuner looks up when it is imported.

nbkeras does not have these networks: each name is a function that says so when it is called.
"""

from typing import Any, NoReturn

from nbkeras.engine.absent_names import reason


def _refusal(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"keras.applications.{name} is not offered: {reason('keras.applications')}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


globals().update({name: _refusal(name) for name in (f"EfficientNetB{number}" for number in range(8))})
