"""Names of parametrized cases: the source of a case as in its test file, the same in every process."""

import linecache
import re
import textwrap
import types

import numpy as np


def is_lambda(value):
    return isinstance(value, types.LambdaType) and value.__name__ == "<lambda>"


def source(function):
    """The expression that a lambda returns, as its file has it."""
    spans = [span for span in function.__code__.co_positions() if None not in span and span[2:] != (0, 0)]
    if not spans:  # Python 3.12 has no place of a constant, `python -X no_debug_ranges` none at all
        return f"lambda of line {function.__code__.co_firstlineno}"
    first, start = min((line, column) for line, _, column, _ in spans)
    last, end = max((line, column) for _, line, _, column in spans)
    lines = [line.encode() for line in linecache.getlines(function.__code__.co_filename)[first - 1 : last]]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return b"".join(lines).decode()


def written(value):
    """A value as text, without addresses in memory and without the numbers that layers and models get."""
    if is_lambda(value):
        return source(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(written, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(written, value))) + "}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{written(value.tolist() if value.size < 9 else value.shape)}"
    if isinstance(value, str | bytes | range | slice | type(...)):
        return repr(value)
    if value is None or isinstance(value, int | float | complex | np.generic):
        return str(value)
    return getattr(value, "__name__", type(value).__name__)


def case_name(argument, value):
    """A case's name by one of its arguments; None: pytest's own, which is the text or the name of a function or class."""
    if argument == "message":  # a regular expression: shown without its special characters
        name = re.sub(r"\\([^\w\s])", r"\1", value.replace(".*", "..."))
    elif is_lambda(value):
        name = source(value)
    elif hasattr(value, "__name__") or (isinstance(value, str) and not value.isdigit()):
        return None
    else:
        name = f"{argument}={written(value)}"
    return textwrap.shorten(name, 100, placeholder="...")
