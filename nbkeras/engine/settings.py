"""Floor 1: global settings: floatx, epsilon, image data format, and the seed of all random state."""

import operator
import random
import threading
from collections.abc import Callable

import numpy as np

from nbkeras.engine.annotations import briefly

_floatx = np.dtype("float32")
_epsilon = 1e-7
_image_data_format = "channels_last"


def floatx() -> str:
    """The default float dtype, 'float32' or 'float64'."""
    return _floatx.name


def set_floatx(value: str) -> None:
    """Set the default float dtype of layers made from now on: 'float32' or 'float64'."""
    global _floatx
    if value not in ("float32", "float64"):
        raise ValueError(f"floatx must be 'float32' or 'float64', received {value!r}")
    _floatx = np.dtype(value)


def standardize_dtype(dtype) -> str:
    """The name of a dtype: None is floatx, int is 'int32'. ValueError for anything but a dtype of numbers or booleans."""
    if dtype is None or dtype is float or (isinstance(dtype, str) and dtype == "float"):
        return floatx()
    if dtype is int or (isinstance(dtype, str) and dtype == "int"):
        return "int32"
    try:
        found = np.dtype(getattr(dtype, "name", dtype))
    except (TypeError, ValueError):
        found = np.dtype(object)
    if found.kind not in "fiub":
        texts = "; texts are no tensors: prepare them by StringLookup or TextVectorization before the model"
        hint = texts if (isinstance(dtype, str) and dtype == "string") or found.kind in "SU" else ""
        raise ValueError(f"dtype must be a dtype of numbers or booleans, received {briefly(dtype)}{hint}")
    return found.name


def epsilon() -> float:
    """The small number that keeps divisions and logarithms finite; 1e-7 by default."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Set epsilon."""
    global _epsilon
    _epsilon = float(value)


def image_data_format() -> str:
    """'channels_last' or 'channels_first'."""
    return _image_data_format


def set_image_data_format(data_format: str) -> None:
    """Set the default data format of image layers."""
    global _image_data_format
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"data format must be 'channels_last' or 'channels_first', received {data_format!r}")
    _image_data_format = data_format


_interactive_logging = True


def is_interactive_logging_enabled() -> bool:
    """Whether progress is written to standard output, not to Python's logging."""
    return _interactive_logging


def enable_interactive_logging() -> None:
    """Write progress to standard output, the default."""
    global _interactive_logging
    _interactive_logging = True


def disable_interactive_logging() -> None:
    """Write progress to the logger 'nbkeras' at level INFO instead of standard output: for servers."""
    global _interactive_logging
    _interactive_logging = False


_traceback_filtering = True


def is_traceback_filtering_enabled() -> bool:
    """Whether tracebacks omit the frames of nbkeras; `print(error.full_traceback)` always shows them."""
    return _traceback_filtering


def disable_traceback_filtering() -> None:
    """Show the frames of nbkeras in tracebacks, for work on nbkeras itself."""
    global _traceback_filtering
    _traceback_filtering = False


def enable_traceback_filtering() -> None:
    """Show only the user's frames in tracebacks, the default."""
    global _traceback_filtering
    _traceback_filtering = True


def backend() -> str:
    """'nbkeras', the name of the backend."""
    return "nbkeras"


_seeds = np.random.default_rng()
_lock = threading.Lock()
_seed_listeners: list[Callable[[int], None]] = []


def on_seed(listener: Callable[[int], None]) -> None:
    """Call `listener(seed)` whenever the seed is set, for generators that restart from it."""
    _seed_listeners.append(listener)


def set_seed(seed: int) -> None:
    """Make every random choice from here on reproducible (initializers, dropout, shuffling)."""
    global _seeds
    with _lock:
        _seeds = np.random.default_rng(int(seed))
    for listener in _seed_listeners:
        listener(int(seed))


def set_random_seed(seed: int) -> None:
    """Seed nbkeras's, NumPy's and Python's generators, so that a program repeats its numbers; 0 <= seed < 2**32."""
    seed = operator.index(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2**32 - 1, received {seed}")
    random.seed(seed)
    np.random.seed(seed)
    set_seed(seed)


def next_seed() -> int:
    """The next seed for a layer, initializer or shuffle, 0 <= seed < 2**32."""
    with _lock:
        return int(_seeds.integers(0, 2**32, dtype=np.uint64))
