"""Floor 1: Settings, all global settings of the process, with the functions for most of them; the seed of all random state."""

import operator
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import compatibility, step_lock
from nbkeras.engine.annotations import briefly
from nbkeras.kernels.runtime import fork_safety

VERSION = "0.1.0"  # nbkeras's version
HALVES = ("float16", "bfloat16")  # the floats of 16 bits


class Settings:
    """All global settings.

    A recorded function may have read any of them, so a new value outdates all programs. Settings of a thread are not here: the
    device, the learning phase and the part of a batch choose a program.
    """

    floatx: str = "float32"
    epsilon: float = 1e-7
    image_data_format: str = "channels_last"
    dtype_policy: Any = None  # the policy of new layers; None: the one with the dtype floatx
    policy: compatibility.CompatibilityPolicy = (
        compatibility.KERAS_3
    )  # also compatibility.current, which the core reads
    # the phase of layers connected later, if compatibility.current.keeps_learning_phase
    kept_learning_phase: bool | None = None
    backend: str = "nbkeras"  # the name that `backend` returns
    matmul: str = "own"
    flash_attention: bool | None = None  # Keras's answer for 'if possible'
    interactive_logging: bool = True
    traceback_filtering: bool = True
    max_epochs: Any = ...  # ...: that of the environment
    max_steps_per_epoch: Any = ...
    unsafe_deserialization: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in Settings.__annotations__:
            raise AttributeError(f"Settings has no setting {name!r}: declare it there")
        before = getattr(self, name)
        super().__setattr__(name, value)
        if (type(before), before) != (type(value), value) and not step_lock.inside():
            for listener in change_listeners:
                listener()


values = Settings()
change_listeners: list[Callable[[], None]] = []  # called after a change outside of a step


def use_policy(policy: compatibility.CompatibilityPolicy) -> None:
    """Set the behaviour of the whole process; called by `nbkeras.compat.keras2`, which also adds the names of Keras 2."""
    compatibility.current = values.policy = policy


def floatx() -> str:
    """The default dtype of floats, for layers and for tensors made from Python floats.

    Returns:
        'float32', 'float64', 'float16' or 'bfloat16'.

    Example:
        >>> keras.config.floatx()
        'float32'
    """
    return values.floatx


def set_floatx(value: str) -> None:
    """Set the default dtype of floats, for layers and tensors that are made afterwards.

    Args:
        value: 'float32', 'float64', 'float16' or 'bfloat16'.

    Raises:
        ValueError: for another dtype.

    Example:
        >>> keras.config.set_floatx("float64")
        >>> layers.Dense(1).dtype
        'float64'
        >>> keras.config.set_floatx("float32")
    """
    if value not in (known := ("float32", "float64", *HALVES)):
        raise ValueError(f"floatx must be one of {known}, received {briefly(value)}")
    values.floatx = value


def standardize_dtype(dtype: Any) -> str:
    """The name of a dtype.

    Args:
        dtype: A name, a NumPy dtype, a Python type, an object with an attribute `name` such as a dtype of
            TensorFlow, or None. None, float and 'float' are `floatx()`; int and 'int' are 'int32'.

    Returns:
        A string such as 'float32', 'int64' or 'bool'.

    Raises:
        ValueError: for anything but a dtype of numbers or booleans.

    Example:
        >>> keras.utils.standardize_dtype(np.int64), keras.utils.standardize_dtype(None)
        ('int64', 'float32')
    """
    if dtype is None or dtype is float or (isinstance(dtype, str) and dtype == "float"):
        return floatx()
    if dtype is int or (isinstance(dtype, str) and dtype == "int"):
        return "int32"
    name = getattr(dtype, "name", getattr(dtype, "__name__", dtype))
    if isinstance(name, str) and name == "bfloat16":  # NumPy knows it only with the package ml_dtypes
        return name
    try:
        found = np.dtype(getattr(dtype, "name", dtype))
    except (TypeError, ValueError, RecursionError):  # RecursionError: too deeply nested lists
        found = np.dtype(object)
    if found.kind not in "fiub":
        texts = "; only an Input may have dtype 'string', for layers such as TextVectorization"
        hint = texts if (isinstance(dtype, str) and dtype == "string") or found.kind in "SU" else ""
        raise ValueError(f"dtype must be a dtype of numbers or booleans, received {briefly(dtype)}{hint}")
    return found.name


def epsilon() -> float:
    """The default epsilon, a small number that keeps divisions and logarithms finite.

    Returns:
        A float, 1e-07 by default.

    Example:
        >>> keras.config.epsilon()
        1e-07
    """
    return values.epsilon


def set_epsilon(value: float) -> None:
    """Set the number that `epsilon` returns.

    Args:
        value: A small positive number.

    Example:
        >>> keras.config.set_epsilon(1e-5)
        >>> keras.config.epsilon()
        1e-05
        >>> keras.config.set_epsilon(1e-7)
    """
    values.epsilon = float(value)


def image_data_format() -> str:
    """The default position of the channels axis in images.

    Returns:
        'channels_last', (batch, rows, columns, channels), or 'channels_first', (batch, channels, rows,
        columns).

    Example:
        >>> keras.config.image_data_format()
        'channels_last'
    """
    return values.image_data_format


def set_image_data_format(data_format: str) -> None:
    """Set the default position of the channels axis, for image layers and functions with data_format=None.

    Args:
        data_format: 'channels_last' or 'channels_first', in upper or lower case.

    Raises:
        ValueError: for another value.

    Example:
        >>> keras.config.set_image_data_format("channels_first")
        >>> layers.MaxPooling2D()(np.ones((1, 3, 8, 8))).shape
        (1, 3, 4, 4)
        >>> keras.config.set_image_data_format("channels_last")
    """
    found = data_format.lower() if isinstance(data_format, str) else data_format
    if found not in ("channels_last", "channels_first"):
        raise ValueError(f"data format must be 'channels_last' or 'channels_first', received {briefly(data_format)}")
    values.image_data_format = found


def is_interactive_logging_enabled() -> bool:
    """Whether progress is written to standard output instead of Python's logging.

    Returns:
        A bool, True by default.

    Example:
        >>> keras.config.is_interactive_logging_enabled()
        True
    """
    return values.interactive_logging


def enable_interactive_logging() -> None:
    """Write progress and messages to standard output, the default.

    Example:
        >>> keras.config.enable_interactive_logging()
        >>> keras.config.is_interactive_logging_enabled()
        True
    """
    values.interactive_logging = True


def disable_interactive_logging() -> None:
    """Write progress and messages to the logger 'nbkeras' at level INFO instead of standard output: for servers.

    Example:
        >>> keras.config.disable_interactive_logging()
        >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).summary()  # goes to logging.getLogger("nbkeras")
        >>> keras.config.enable_interactive_logging()
    """
    values.interactive_logging = False


def is_traceback_filtering_enabled() -> bool:
    """Whether tracebacks omit the frames of nbkeras; `print(error.full_traceback)` always shows them.

    Returns:
        A bool, True by default.

    Example:
        >>> keras.config.is_traceback_filtering_enabled()
        True
    """
    return values.traceback_filtering


def disable_traceback_filtering() -> None:
    """Show the frames of nbkeras in tracebacks, to debug nbkeras itself.

    Example:
        >>> keras.config.disable_traceback_filtering()
        >>> keras.config.is_traceback_filtering_enabled()
        False
        >>> keras.config.enable_traceback_filtering()
    """
    values.traceback_filtering = False


def enable_traceback_filtering() -> None:
    """Omit the frames of nbkeras in tracebacks, the default.

    Example:
        >>> keras.config.enable_traceback_filtering()
        >>> keras.config.is_traceback_filtering_enabled()
        True
    """
    values.traceback_filtering = True


def backend() -> str:
    """The name of the backend, for programs that support several backends.

    Returns:
        'nbkeras'; while nbkeras is installed as keras, the name that `install_as_keras` has chosen.

    Example:
        >>> keras.config.backend()
        'nbkeras'
    """
    return values.backend


def answer_backend(name: str) -> None:
    """Set the name that `backend` returns. It changes nothing else: nbkeras computes everything itself."""
    values.backend = name


_seeds: np.random.Generator | None = None  # nbkeras's own generator, once a seed is set
_lock = fork_safety.lock()
_seed_listeners: list[Callable[[int], None]] = []


def on_seed(listener: Callable[[int], None]) -> None:
    """Call a function whenever the seed is set, so that your own random generators restart with nbkeras's.

    Args:
        listener: A function of the seed, an integer. It stays registered until the process ends.

    Example:
        >>> seeds = []
        >>> keras.config.on_seed(seeds.append)
        >>> keras.utils.set_random_seed(7)
        >>> seeds
        [7]
    """
    _seed_listeners.append(listener)


def set_seed(seed: int) -> None:
    """Restart nbkeras's random numbers (initializers, dropout, shuffling).

    `set_random_seed` restarts NumPy's and Python's too.

    Args:
        seed: An integer of at least 0.

    Example:
        >>> keras.config.set_seed(1)
        >>> first = keras.random.normal((3,)).numpy()
        >>> keras.config.set_seed(1)
        >>> bool(np.all(first == keras.random.normal((3,)).numpy()))
        True
    """
    global _seeds
    with _lock:
        _seeds = np.random.default_rng(int(seed))
    for listener in _seed_listeners:
        listener(int(seed))


def set_random_seed(seed: int) -> None:
    """Restart the random numbers of nbkeras, NumPy and Python, so that a program repeats its results.

    Args:
        seed: An integer from 0 to 2**32 - 1.

    Raises:
        ValueError: for another number.

    Example:
        >>> keras.utils.set_random_seed(42)
        >>> first = layers.Dense(2)(np.ones((1, 3))).numpy()
        >>> keras.utils.set_random_seed(42)
        >>> bool(np.all(first == layers.Dense(2)(np.ones((1, 3))).numpy()))
        True
    """
    seed = operator.index(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2**32 - 1, received {briefly(seed)}")
    random.seed(seed)
    np.random.seed(seed)
    set_seed(seed)


def next_seed() -> int:
    """The next seed from nbkeras's own generator, for your own random numbers that repeat after `set_random_seed`.

    Before a seed is set, the number comes from Python's `random`, as in Keras 3, so that `random.seed` repeats it. With Keras 2's
    behaviour it comes from NumPy.

    Returns:
        An integer from 0 to 2**32 - 1, a new one in each call.

    Example:
        >>> keras.utils.set_random_seed(0)
        >>> first = keras.config.next_seed()
        >>> keras.utils.set_random_seed(0)
        >>> first == keras.config.next_seed()
        True
    """
    with _lock:
        if _seeds is not None:
            return int(_seeds.integers(0, 2**32, dtype=np.uint64))
    return int(np.random.randint(10**7)) if compatibility.current.seeds_from_numpy else random.randint(1, 10**9)


def random_state() -> dict[str, Any]:
    """The state of all generators that `set_random_seed` restarts, and of PyTorch's generator if torch is imported."""
    with _lock:
        own = None if _seeds is None else _seeds.bit_generator.state
    state = {"nbkeras": own, "numpy": np.random.get_state(legacy=False), "python": random.getstate()}
    torch = sys.modules.get("torch")
    return state if torch is None else {**state, "torch": torch.get_rng_state()}


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore a result of `random_state`."""
    global _seeds
    with _lock:
        _seeds = None if state["nbkeras"] is None else np.random.default_rng()
        if _seeds is not None:
            _seeds.bit_generator.state = state["nbkeras"]
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if "torch" in state and "torch" in sys.modules:
        sys.modules["torch"].set_rng_state(state["torch"])
