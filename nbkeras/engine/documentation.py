"""Floor 1: complete docstrings of classes, assembled on access: the class's own text, and an entry for each argument.

A class documents its own arguments in an `Args:` section of its docstring: `name: meaning`, or `name (type): meaning`. Each
other argument is documented once: in a base class; in the function that the class is `_made_of` (losses); or, if many classes
have it, in `COMMON`. An option's type comes from its kind (option.py). `Call arguments:` sections document the arguments of
`call` and `__call__` in the same way. A class that lacks a section in `_INHERITED` has that of the nearest base class without an
example, whose docstring is written for its subclasses. `__doc__`, which `help`, notebooks and the site read, is a
`Documentation`: it is computed on access and costs nothing at import.

The functions of a module that is imported late, `nbkeras.backend`, omit arguments that another function explains. Their
docstring names that function: see `attach_to_functions`.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from nbkeras.engine import option, registry

_WEIGHTS = {
    "kernel": "the kernel",
    "recurrent": "the recurrent kernel",
    "bias": "the bias",
    "beta": "beta, which is added",
    "gamma": "gamma, the factor",
    "embeddings": "the table",
    "depthwise": "the depthwise kernel",
    "pointwise": "the pointwise kernel",
    "moving_mean": "the moving mean",
    "moving_variance": "the moving variance",
    "alpha": "alpha",
}
COMMON = {
    "activation": "Function of the outputs.",
    "recurrent_activation": "Function of the gates.",
    "use_bias": "Whether a bias is added.",
    "filters": "The number of output channels.",
    "kernel_size": "The size of the window.",
    "strides": "The distance from one window to the next.",
    "dilation_rate": "The distance between the elements of a window.",
    "padding": "'valid': only whole windows; 'same': zeros at the ends, for ceil(length / strides) windows.",
    "data_format": "The position of the channels axis: last, (batch, ..., channels), or first, (batch, channels, ...).",
    "dropout": "The fraction of the inputs that is set to 0 in training.",
    "recurrent_dropout": "The fraction of the states that is set to 0 in training, before the product with the recurrent kernel.",
    "seed": "An integer for the same random numbers in each run; None for different ones.",
    "return_sequences": "Whether the output has all steps, or the last one only.",
    "return_state": "Whether the last states are outputs too.",
    "go_backwards": "Whether to run from the last step to the first.",
    "stateful": "Whether each sample starts from the last state of the sample at the same index in the previous batch.",
    "unroll": "Whether a recorded step holds the launches of each time step, and no loop. Ignored where one op runs all steps.",
    "use_cudnn": "Accepted and ignored: there is one implementation.",
    "zero_output_for_mask": "Whether the output of a masked step is 0; else the output of the previous step is repeated.",
    "center": "Whether beta is added.",
    "scale": "Whether to multiply by gamma.",
    "from_logits": "Whether predictions are scores before the sigmoid or softmax, instead of probabilities.",
    "label_smoothing": "From 0 to 1: how far targets are moved towards a uniform distribution.",
    "threshold": "The number above which a prediction is 1.",
    "interpolation": "How values between pixels are computed.",
    "fill_mode": "How values outside the image are chosen.",
    "fill_value": "The value outside the image for fill_mode 'constant'.",
    "value_range": "The minimum and the maximum value of a pixel.",
    "height": "The number of rows.",
    "width": "The number of columns.",
} | {
    f"{weight}_{what}": f"{text} {thing}."
    for weight, thing in _WEIGHTS.items()
    for what, text in (
        ("initializer", "Initial values of"),
        ("regularizer", "Penalty on"),
        ("constraint", "Projection after each update of"),
    )
}
_LINE = 110
_SECTION = r"^{}:\n((?:(?: {{4}}.*)?\n)*)"
_INHERITED = ("Input shape", "Output shape", "Raises")
_SECTIONS = ("Args", "Call arguments", "Input shape", "Output shape", "Returns", "Raises", "Examples?", "References?")
_NAMED = re.compile(r"`(\w+)\.(\w+)(?:\(([^()`]*)\))?`")  # `ops.take(reference, indices)`: module, name, arguments
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+)(?: \(([^\n]*?)\))?: (.*(?:\n {5,}.*)*)", re.MULTILINE)


class Documentation:
    """The `__doc__` of a class: reading it returns the complete text. own: the text in the source."""

    def __init__(self, own: str):
        self.own = own

    def __get__(self, item: Any, cls: type) -> str:
        return whole(cls, self.own)


class ConstructorSignature:
    """The `__signature__` of classes whose `__new__` takes any arguments: the signature of `__init__`."""

    def __get__(self, item: Any, cls: type) -> inspect.Signature:
        if item is not None:
            raise AttributeError("an object's signature is the signature of its __call__")
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def attach(cls: Any) -> None:
    """Complete the `__doc__` of a class of nbkeras and of its base classes."""
    for each in getattr(cls, "__mro__", ()):
        if isinstance(vars(each).get("__doc__"), str) and each.__module__.startswith("nbkeras."):
            each.__doc__ = Documentation(vars(each)["__doc__"])


def whole(cls: type, own: str) -> str:
    """The docstring of a class, with an entry for each constructor argument and each explained call argument."""
    text = _with_section(own, "Args", _section(arguments(cls)))
    text = _with_section(text, "Call arguments", _section(_call_arguments(cls)))
    for title in _INHERITED:
        if f"\n{title}:\n" not in text:
            text = _with_section(text, title, _nearest(cls, title))
    return text


def _section(entries: Iterable[tuple[str, str, str]]) -> str:
    return "".join(_written(*entry) for entry in entries)


def _nearest(cls: type, title: str) -> str:
    """The section of this title from the nearest base class that has it and no example.

    A base class of layers of several ranks begins the texts for them with `1:`, `2:` and `3:`.
    """
    found = ""
    for text in _docstrings(cls):
        section = re.search(_SECTION.format(title), inspect.cleandoc(text) + "\n", re.MULTILINE)
        found = section[1] if section and ">>>" not in text else found
    for rank, _, text in _ENTRY.findall(found):
        if rank == str(getattr(cls, "rank", "")):
            return textwrap.indent(textwrap.fill(" ".join(text.split()), _LINE), "    ") + "\n"
    return found


def _with_section(text: str, title: str, section: str) -> str:
    """A docstring with a section of this title, in place of its own or before later sections."""
    text = inspect.cleandoc(text) + "\n"
    if not section:
        return text
    own_section = re.compile(_SECTION.format(title), re.MULTILINE)
    later = "|".join(_SECTIONS[_SECTIONS.index(title) + 1 :])
    place = own_section.search(text) or re.search(f"^({later}):", text, re.MULTILINE)
    at = place.start() if place else len(text)
    rest = own_section.sub("", text[at:], count=1)
    return f"{text[:at].rstrip()}\n\n{title}:\n{section.rstrip()}\n\n{rest}".rstrip("\n") + "\n"


def attach_to_functions(module: ModuleType, **modules: Any) -> None:
    """Give the docstrings of a module's functions an entry for each argument. Eagerly: a function's `__doc__` is a string.

    If a docstring does not explain an argument, the entry comes from a function that it names in backticks. `ops.argmax`
    explains arguments of the same names; `ops.take(reference, indices)` also maps these two to the first two arguments of
    `take`. modules: the modules of those functions, by the names that the docstrings use.
    """
    for each in (getattr(module, name) for name in dir(module)):
        if inspect.isfunction(each) and each.__module__.startswith(module.__name__) and each.__doc__:
            meanings = _meanings_of_function(each, modules)
            if meanings != _entries(each.__doc__):
                entries = [(name, *meanings[name]) for name in _names(each) if name in meanings]
                each.__doc__ = _with_section(each.__doc__, "Args", _section(entries))


def _names(function: Any) -> tuple[str, ...]:
    """The names of a function's arguments, without *args; `inspect.signature` takes ten times as long."""
    signature = getattr(function, "__signature__", None)  # if `checked` has wrapped the function
    if signature is not None:
        return tuple(name for name, each in signature.parameters.items() if each.kind is not each.VAR_POSITIONAL)
    code = inspect.unwrap(function).__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _meanings_of_function(function: Any, modules: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found, wanted = _entries(function.__doc__), _names(function)
    for module, name, given in _NAMED.findall(function.__doc__):
        if module in modules and not found.keys() >= set(wanted):
            source = getattr(modules[module], name)
            meanings = _meanings_of_function(source, modules)
            theirs = dict(zip(given.split(", "), _names(source), strict=False))
            for each in wanted:
                if each not in found and theirs.get(each, each) in meanings:
                    found[each] = meanings[theirs.get(each, each)]
    return found


def arguments(cls: type) -> Iterator[tuple[str, str, str]]:
    """(name, type and default, meaning) of each argument of a class's constructor; '' for what is unknown."""
    meanings = _meanings(cls)
    kinds = option.of_class(cls)
    for name, parameter in _parameters(cls).items():
        given_type, meaning = meanings.get(name, ("", COMMON.get(name, "")))
        words = given_type or (kinds[name].kind.words if name in kinds else _annotated(parameter))
        default = "" if parameter.default is parameter.empty else f"default {parameter.default!r}"
        yield name, "; ".join(part for part in (words, default) if part), meaning


def _meanings(cls: type, title: str = "Args") -> dict[str, tuple[str, str]]:
    """(type, meaning) by name, from the sections of this title in a class and its base classes."""
    return {name: entry for text in _docstrings(cls) for name, entry in _entries(text, title).items()}


def _entries(text: str, title: str = "Args") -> dict[str, tuple[str, str]]:
    """(type, meaning) by name, from a section of a docstring."""
    section = re.search(_SECTION.format(title), inspect.cleandoc(text) + "\n", re.MULTILINE)
    found = _ENTRY.findall(section[1]) if section else []
    return {name: (given_type or "", " ".join(meaning.split())) for name, given_type, meaning in found}


def _call_arguments(cls: Any) -> Iterator[tuple[str, str, str]]:
    """(name, type, meaning) of the arguments of `call` and `__call__` that are explained."""
    meanings = _meanings(cls, "Call arguments")
    if hasattr(cls, "_made_of"):
        meanings = {**_entries(cls.__call__.__doc__), **_entries(cls._made_of.__doc__), **meanings}
    methods = [getattr(cls, name) for name in ("call", "__call__") if meanings and hasattr(cls, name)]
    for name in dict.fromkeys(name for method in methods for name in inspect.signature(method).parameters):
        if name in meanings:
            yield name, *meanings[name]


def _docstrings(cls: type) -> Iterator[str]:
    """The docstrings that explain a class's arguments, from base to derived: of the `_made_of` function, then the class's own."""
    for each in reversed(cls.__mro__):
        own = vars(each).get("__doc__")
        function = vars(each).get("_made_of")
        for text in (getattr(function, "__doc__", None), own.own if isinstance(own, Documentation) else own):
            if isinstance(text, str):
                yield text


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of `__init__`. If it takes **kwargs, also the base classes' parameters that have a default."""
    found: dict[str, inspect.Parameter] = {}
    inits = [vars(each)["__init__"] for each in cls.__mro__ if inspect.isfunction(vars(each).get("__init__"))]
    for init in inits:
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            passed = init is inits[0] or parameter.default is not parameter.empty
            if passed and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return {name: parameter for name, parameter in found.items() if name not in option.left_out(cls)}


def _annotated(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty or annotation in (Any, "Any"):
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("collections.abc.", "")


def _written(name: str, words: str, meaning: str) -> str:
    """An entry of an `Args:` section, wrapped into lines."""
    lines, line = [], f"    {name} ({words}):" if words else f"    {name}:"
    for word in meaning.split():
        if len(line) + len(word) >= _LINE:
            lines.append(line)
            line = " " * 7
        line += f" {word}"
    return "\n".join([*lines, line]) + "\n"


registry.watch(attach)
