"""The instructions of emitter.py: names, dtypes, formulas; and the format of its programs.

A frame is FRAME words of 8 bytes:
     next, code, prologue, body, epilogue,             the next frame or 0; the instructions' address; their number in each
     section tasks, inner, outer_step, inner_step, block, end, position of a task's block, in elements
     result_outer_step, result_inner_step, results, result_end     and position of its results
Tasks are divided among the shares. The prologue runs once, then body and epilogue for each task. The body of task t begins at
position t / inner * outer_step + t % inner * inner_step and has `block` elements, but ends at the next multiple of `end`. The
epilogue likewise, by the last four. So results never depend on the number of shares.

An instruction is WORDS words: opcode, information, then address and bytes per element of the output and of three operands. A
pointer is address + position * bytes. REGISTER as the bytes marks a register, at offset `address` in the scratch memory.
REGISTER and SPLAT mark a register of LANES equal elements: one vector stands for a block.

Products are not contracted with sums, except within exp and the like, so a program gives the same bits as NumPy's loops.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from nbkeras.kernels.interpreter import rounding
from nbkeras.kernels.loops.operations import COMPARISONS, OPERATIONS

LANES = 16  # elements of a register
SCRATCH = 65536  # bytes of all registers
REGISTER, SPLAT = -1, -2
WORDS, FRAME = 10, 15
DEEPEST = 12  # most dimensions of an array that is read or written by strides
TILE = {4: 16, 8: 8}  # rows of a transposed block, by bytes per element: they fill a cache line

FLOATS = ("f4", "f8")
NUMBERS = (*FLOATS, "i4", "i8")  # dtypes with arithmetic; b1 is a boolean, other dtypes are only cast
COPIED = {1: "u1", 2: "i2", 4: "i4", 8: "i8"}  # the dtype that copies elements of these bytes


class ElementwiseInstruction(NamedTuple):
    """An elementwise instruction: its dtypes, its formula, and the kinds of its result and operands ("x" is the dtype)."""

    dtypes: tuple[str, ...]
    formula: Callable
    kinds: tuple[str, ...]

    def kinds_of(self, dtype: str) -> tuple[str, ...]:
        return tuple(dtype if kind == "x" else kind for kind in self.kinds)


def _divided(x: Any, y: Any) -> tuple[Any, Any]:
    """Returns the quotient (rounded down) and remainder of integers; 0 and 0 for a divisor of 0."""
    b, plain = x.builder, y.where("==", 0, 1, y.where("==", -1, 1, y))  # x / 0 and (least integer) / -1 would trap
    quotient, rest = x.new(b.sdiv(x.value, plain.value)), x.new(b.srem(x.value, plain.value))
    down = rest.compare("!=", 0) & (rest ^ plain).compare("<", 0)
    quotient, rest = x.choose(down, quotient - 1, quotient), x.choose(down, rest + plain, rest)
    return y.where("==", 0, 0, y.where("==", -1, -x, quotient)), rest.choose(y.compare("==", 0), 0, rest)


_ANY, _INTEGERS, _BOOLEANS, _FLOAT = tuple(COPIED.values()), ("i4", "i8"), ("b1",), ("f4",)
_OWN: dict[str, Callable] = {  # the formulas of instructions that are no Operations
    "copy": lambda x: x,
    "logical_not": lambda x: x ^ 1,
    "bfloat16": rounding.bfloat16,
    "float16": rounding.float16,
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "floor_divide": lambda x, y: _divided(x, y)[0],
    "remainder": lambda x, y: _divided(x, y)[1],
    "select": lambda condition, x, y: x.choose(condition.compare("!=", 0), x, y),
}
_UNARY: dict[str, tuple[str, ...]] = {
    "copy": _ANY,
    "logical_not": _BOOLEANS,
    **dict.fromkeys(("negative", "absolute", "square", "sign"), NUMBERS),
    **dict.fromkeys(("reciprocal", "exp", "expm1", "log", "log1p", "sqrt", "floor", "ceil", "trunc", "rint"), FLOATS),
    **dict.fromkeys(("bfloat16", "float16"), _FLOAT),
}
_BINARY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "subtract", "multiply", "maximum", "minimum"), NUMBERS),
    "divide": FLOATS,
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), _BOOLEANS),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), _ANY),
    **dict.fromkeys(("floor_divide", "remainder"), _INTEGERS),
}
ELEMENTWISE = {
    name: ElementwiseInstruction(dtypes, _OWN[name] if name in _OWN else OPERATIONS[name].emit, kinds)
    for table, kinds in (
        (_UNARY, ("x", "x")),
        (_BINARY, ("x", "x", "x")),
        (dict.fromkeys(COMPARISONS, NUMBERS), ("b1", "x", "x")),
        ({"select": _ANY}, ("x", "b1", "x", "x")),
    )
    for name, dtypes in table.items()
}

# These casts are one instruction. Others go through int64, and booleans are cast as uint8.
CASTS = [
    *((source, "i8") for source in ("u1", "i1", "u2", "i2", "u4", "i4")),
    *(("i8", target) for target in ("u1", "i2", "i4", "f4", "f8", "b1")),
    *(("f4", "f8"), ("f8", "f4"), ("i4", "f4"), ("i4", "f8"), ("u1", "f4")),
    *((source, f"{sign}{size}") for source in FLOATS for sign in "iu" for size in COPIED),
    *((source, "b1") for source in ("u1", "i4", "f4", "f8")),
]
FOLDS: dict[str, tuple[str, ...]] = dict.fromkeys(("add", "multiply", "maximum", "minimum"), NUMBERS)
FOLDS |= dict.fromkeys(("logical_and", "logical_or"), ("b1",))

ELEMENTWISE_CODES = [f"{name}.{dtype}" for name, each in ELEMENTWISE.items() for dtype in each.dtypes]
ELEMENTWISE_CODES += [f"cast.{source}.{target}" for source, target in CASTS]
OTHER_CODES = [f"{name}.{size}" for name in ("load", "store") for size in COPIED]
OTHER_CODES += [f"transpose.{size}" for size in TILE] + [f"call.{dtype}" for dtype in FLOATS]
OTHER_CODES += [f"{way}.{name}.{t}" for way in ("rows", "columns") for name, dtypes in FOLDS.items() for t in dtypes]
OPCODES = {name: code for code, name in enumerate([*ELEMENTWISE_CODES, *OTHER_CODES])}
