"""Every public name explains itself: a sentence, each argument with its meaning, an example that runs; methods do too."""

import doctest
import functools
import importlib
import inspect
import re
import types

import numpy as np
import pytest
import reference

import nbkeras as keras
from nbkeras.building.graph import OverridableProperty
from nbkeras.engine import documentation

SECTION = re.compile(r"^(Args|Call arguments):\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\*{0,2}\w+)(?: \([^\n]*?\))?: *(\S?)", re.MULTILINE)


def described():
    """Public name -> object, each object once."""
    seen, found = set(), {}
    for module in reference.MODULES:
        for name, value in reference.public_names(module).items():
            if id(value) not in seen and callable(value):
                seen.add(id(value))
                found[f"{module}.{name}"] = value
    return found


NAMES = described()


def explained(text, section):
    """The names that have a meaning in a section of a docstring."""
    bodies = [body for title, body in SECTION.findall(text + "\n") if title == section]
    return {name.lstrip("*") for body in bodies for name, first in ENTRY.findall(body) if first}


def arguments_without_meaning(value, text):
    if inspect.isclass(value):
        return [name for name, _, meaning in documentation.arguments(value) if not meaning]
    try:
        parameters = inspect.signature(value).parameters
    except ValueError:  # a built-in function
        return []
    known = explained(text, "Args") | {"self", "cls"}
    return [name for name in parameters if name not in known]


def faults(value):
    text = inspect.getdoc(value) or ""
    if not text:
        return ["no docstring"]
    found = [f"{argument}: not explained" for argument in arguments_without_meaning(value, text)]
    return found if ">>>" in text else [*found, "no example"]


METHOD = (types.FunctionType, classmethod, staticmethod)
PROPERTY = (property, functools.cached_property, OverridableProperty)


def members(cls):
    """(class that defines it, name) of each public method and property that a class has from nbkeras."""
    for name in dir(cls):
        owner = next((each for each in cls.__mro__ if name in vars(each)), object)
        of_nbkeras = not name.startswith("_") and owner.__module__.startswith("nbkeras")
        if of_nbkeras and isinstance(vars(owner)[name], METHOD + PROPERTY):
            yield owner, name


@functools.cache
def member_faults(owner, name):
    """The arguments of a method that neither its docstring nor one of a method that it overrides explains."""
    value = getattr(owner, name)
    if not inspect.getdoc(value):
        return ["no docstring"]
    texts = [inspect.getdoc(vars(each)[name]) or "" for each in owner.__mro__ if name in vars(each)]
    is_method = isinstance(vars(owner)[name], METHOD)
    return arguments_without_meaning(value, "\n\n".join(texts)) if is_method else []


def faults_of_members(cls):
    in_call = explained(inspect.getdoc(cls) or "", "Call arguments")
    for owner, name in members(cls):
        missing = [each for each in member_faults(owner, name) if name != "call" or each not in in_call]
        if missing:
            yield name, missing


@pytest.mark.parametrize("module", reference.MODULES)
def test_every_name_explains_itself(module):
    missing = {
        name: found for name, value in NAMES.items() if name.rpartition(".")[0] == module and (found := faults(value))
    }
    assert not missing, "\n".join(f"{name}: {', '.join(found)}" for name, found in missing.items())


@pytest.mark.parametrize("module", reference.MODULES)
def test_every_method_explains_itself(module):
    missing = [
        f"{name}.{member}: {', '.join(found)}"
        for name, value in NAMES.items()
        if name.rpartition(".")[0] == module and inspect.isclass(value)
        for member, found in faults_of_members(value)
    ]
    assert not missing, "\n".join(missing)


def examples():
    """(name, object) of each public object with an example, and of the public methods and properties of classes."""
    for name, value in NAMES.items():
        of_class = members(value) if inspect.isclass(value) else ()
        own = [(f"{each.__module__}.{each.__qualname__}.{member}", getattr(each, member)) for each, member in of_class]
        yield from ((path, each) for path, each in [(name, value), *own] if ">>>" in (inspect.getdoc(each) or ""))


EXAMPLES = dict(examples())


@pytest.fixture
def as_users_have_it():
    keras.config.enable_traceback_filtering()
    yield
    keras.config.disable_traceback_filtering()  # as conftest.py has it


@pytest.mark.documents
@pytest.mark.cpu("examples show the CPU")
@pytest.mark.parametrize("letter", sorted({name.split(".")[-1][0].lower() for name in EXAMPLES}))
def test_examples_run(letter, tmp_path, monkeypatch, as_users_have_it):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {"__name__": "example", "np": np, "keras": keras, "K": keras.backend}
    names |= {each: importlib.import_module(f"nbkeras.{each}") for each in ("layers", "ops", "losses", "metrics")}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = []
    for name, value in EXAMPLES.items():
        if name.split(".")[-1][0].lower() == letter:
            keras.utils.set_random_seed(0)
            runner.run(
                doctest.DocTestParser().get_doctest(inspect.getdoc(value), names, name, None, None), out=said.append
            )
    assert not runner.failures, "".join(said)
