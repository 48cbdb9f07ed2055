"""Whether an error is one that users may get: raised on purpose, with a sentence."""

import opcode
import os
import re

import nbkeras

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE = os.path.dirname(nbkeras.__file__)
KERNELS = os.path.dirname(nbkeras.kernels.__file__)
# No argument may lead to these unless a `raise` of nbkeras names it.
ACCIDENTS = (
    *(AssertionError, LookupError, NameError, RecursionError, SystemError, ZeroDivisionError, OverflowError),
    *(AttributeError, UnicodeError, StopIteration, NotImplementedError, BufferError, MemoryError),
)
OF_A_CALL = re.compile(  # Python says what is wrong with a call, and with a path
    r"unexpected keyword argument|missing \d+ required|positional arguments? but|multiple values for|takes no arguments"
    r"|takes exactly|takes no keyword arguments|is an invalid keyword argument for|expected str, bytes or os.PathLike"
)


class Fault(AssertionError):
    """Something that must not happen, found by a case itself: a wrong number, a changed argument, a file where none may be."""


class Refused(Exception):
    """A case whose input was refused as it must be."""


def frames(error):
    step = error.__traceback__
    while step is not None:
        yield step
        step = step.tb_next


def is_own(step):
    name = step.tb_frame.f_code.co_filename
    return name.startswith((SOURCE, KERNELS))


def is_case(step):
    return step.tb_frame.f_code.co_filename.endswith("order_cases.py")


def place(error):
    """Where an error left nbkeras: file, line and function of the last frame of nbkeras, or of the last frame at all."""
    steps = list(frames(error))
    own = [step for step in steps if is_own(step)]
    step = (own or steps)[-1]
    code = step.tb_frame.f_code
    folder, name = os.path.split(code.co_filename)
    return f"{os.path.basename(folder)}/{name}:{step.tb_lineno} {code.co_name}"


def fault_of(error):
    """The fault of an error, in words; None if it is a good one."""
    if isinstance(error, Fault):
        return str(error)
    if isinstance(error, Refused):
        return None
    words = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, TypeError) and OF_A_CALL.search(str(error)):
        return None
    last = list(frames(error))[-1]
    if last.tb_frame.f_code.co_filename.startswith(TESTS) and any(is_own(step) for step in frames(error)):
        return None  # a function that the case passed to nbkeras fails: its error belongs to the user
    steps = [step for step in frames(error) if is_own(step) or is_case(step)]
    if steps and is_case(steps[-1]):
        return None  # the case fails before it calls nbkeras: a DataFrame has other indices than an array
    meant = is_own(last) and last.tb_frame.f_code.co_code[last.tb_lasti] == opcode.opmap["RAISE_VARARGS"]
    if isinstance(error, MemoryError | ValueError) and re.search("Unable to allocate|array is too big", str(error)):
        return None  # NumPy says how much and for which shape
    if "Integers to negative integer powers" in str(error):
        return None  # what only the numbers tell: NumPy's words are plain
    if len(str(error)) < 12:
        return f"says nothing: {words}"
    if "nopython" in str(error) or "numba" in type(error).__module__ or "llvm" in str(error).lower():
        return f"comes from Numba: {words}"
    if not meant and isinstance(error, ACCIDENTS):
        return f"is an accident: {words}"
    if not meant and "on purpose" not in str(error):
        return f"is not raised by nbkeras: {words}"
    return None
