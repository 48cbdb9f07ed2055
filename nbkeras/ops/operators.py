"""Python's operators on tensors: `x + 1`, `-x`, `x @ w`, `x[:, 0]`, `x > 0`."""

import sys
from collections.abc import Callable
from typing import Any

from nbkeras.engine import user_errors
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.tensor import Number, Tensor, as_tensor
from nbkeras.ops import elementwise, indexing, integers
from nbkeras.ops.contractions import matmul
from nbkeras.ops.shape import transpose, unstack

_ARITHMETIC: dict[str, Callable] = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.mod,
    "matmul": matmul,
    "pow": elementwise.power,
    "and": integers.bitwise_and,
    "or": integers.bitwise_or,
    "xor": integers.bitwise_xor,
    "lshift": integers.bitwise_left_shift,
    "rshift": integers.bitwise_right_shift,
    "divmod": lambda x, y: (elementwise.floor_divide(x, y), elementwise.mod(x, y)),
}
_COMPARISONS = {
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
    "ne": elementwise.not_equal,
    "eq": elementwise.equal,
}
# names that a Tensor of PyTorch, TensorFlow or NumPy has -> what does the same here; ops of the same name are not listed
_ELSEWHERE = {
    "backward grad retain_grad": "compute the loss in `with nbkeras.GradientTape() as tape:`, then "
    "tape.gradient(loss, variables)",
    "requires_grad requires_grad_": "a GradientTape watches trainable Variables by itself, and other tensors after "
    "tape.watch(x)",
    "detach": "ops.stop_gradient(x)",
    "astype to float double half int long bool": "ops.cast(x, dtype)",
    "view": "ops.reshape(x, shape)",
    "clone": "ops.copy(x)",
    "tolist": "x.numpy().tolist()",
    "assign assign_add assign_sub fill fill_ add_ mul_ sub_ div_ copy_": "a Tensor is a value and never changes: only a "
    "Variable, nbkeras.Variable(x), has assign, assign_add and assign_sub",
    "cpu cuda": "x.numpy() is its value as a NumPy array; nbkeras.config.set_device chooses where ops compute",
    "eval": "x.numpy()",
    "get_shape set_shape": "x.shape",
    "rank dim": "x.ndim",
}
_HINTS = {name: hint for names, hint in _ELSEWHERE.items() for name in names.split()}
_VALUES = ("numpy", "item", "tolist", "eval")
_UNARY: dict[str, Callable] = {
    "neg": elementwise.negative,
    "pos": lambda x: x,
    "abs": elementwise.absolute,
    "round": lambda x, decimals=0: elementwise.round(x, decimals),
    "invert": integers.bitwise_not,
}


def _operator(function: Callable, reflected: bool = False) -> Callable:
    def operator(self, other):
        try:
            if other is None or isinstance(other, str):
                return NotImplemented
            return function(other, self) if reflected else function(self, other)
        except Exception as error:
            user_errors.shorten(error)
            raise

    user_errors.is_entry(operator)
    return operator


def attach_operators(cls: Any) -> None:
    """Add Python's operators to a class of tensors. For symbolic tensors `==` stays identity, which sets and lists need."""
    for name, function in {**_ARITHMETIC, **_COMPARISONS}.items():
        if name != "eq" or not hasattr(cls, "symbolic_op"):
            setattr(cls, f"__{name}__", _operator(function))
    for name, function in _ARITHMETIC.items():
        setattr(cls, f"__r{name}__", _operator(function, reflected=True))
    for name, function in _UNARY.items():
        setattr(cls, f"__{name}__", function)
    cls.__getitem__ = indexing.getitem
    cls.T = property(transpose)
    cls.__getattr__, cls.__setitem__ = _missing, _refuse_item
    if "__iter__" not in vars(cls):
        cls.__iter__ = _rows


def _missing(self, name: str) -> Any:
    """The error for a name that a tensor does not have; it says what does the same."""
    if name.startswith("__"):  # NumPy asks every object for some of these
        raise AttributeError(name)
    hint, package = _HINTS.get(name, ""), sys.modules[__package__]
    if name in _VALUES and hasattr(type(self), "symbolic_op"):
        hint = "it has no value, because it describes a model that is being built: call the model on arrays"
    elif not hint and name in package.__all__ and callable(getattr(package, name)):
        hint = f"ops.{name}(x, ...)"
    what = f"{type(self).__name__!r} object has no attribute {name!r}"
    raise AttributeError(f"{what}: {hint}" if hint else what, name=name, obj=self)


def _refuse_item(self, key: Any, value: Any) -> None:
    raise TypeError(
        f"{type(self).__name__!r} object does not support item assignment: a tensor is a value and never changes. "
        "ops.slice_update(x, start_indices, updates), ops.scatter_update(x, indices, updates) and ops.where(condition, "
        "updates, x) return a changed copy; a Variable takes it by variable.assign(copy)"
    )


def _rows(self):
    if self.ndim == 0:
        raise TypeError("a tensor without axes cannot be iterated")
    return iter(unstack(self))


attach_operators(Tensor)


# -------------------- numbers that recorded functions take --------------------


def _of_numbers(name: str, function: Callable, general: Callable, reflected: bool = False) -> Callable:
    """The operator of a Number: with another number the result is a Number, computed in 64 bits as in Python."""

    def operator(self: Number, other: Any) -> Any:
        if not isinstance(other, Number) and type(other) not in (int, float):
            return general(self, other)
        pair = [each.strong() if isinstance(each, Number) else _in_64_bits(each) for each in (self, other)]
        if name == "truediv":
            pair = [as_tensor(each, "float64") for each in pair]
        wide = any(isinstance(each, Number) and each.wide for each in (self, other))
        return _as_number(function(*(reversed(pair) if reflected else pair)), wide)

    return operator


def _in_64_bits(number: float) -> Tensor:
    return as_tensor(array_of(number, "float64" if isinstance(number, float) else "int64"))


def _as_number(result: Tensor, wide: bool) -> Number:
    return Number(result.data, wide, result.record, result.index)


def _negative_number(self: Number) -> Number:
    return _as_number(elementwise.negative(self.strong()), self.wide)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    for _prefix in ("", "r"):
        _full = f"__{_prefix}{_name}__"
        setattr(Number, _full, _of_numbers(_name, _ARITHMETIC[_name], getattr(Tensor, _full), _prefix == "r"))
Number.__neg__ = _negative_number  # type: ignore[method-assign,assignment]
