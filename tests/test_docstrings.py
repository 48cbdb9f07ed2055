"""Every public name explains itself: a sentence, each argument with its meaning, an example that runs."""

import doctest
import importlib
import inspect
import re

import numpy as np
import pytest
import reference

import nbkeras as keras
from nbkeras.engine import documentation

SECTION = re.compile(r"^Args:\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
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


def arguments_without_meaning(value):
    text = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        return [name for name, _, meaning in documentation.arguments(value) if not meaning]
    section = SECTION.search(text + "\n")
    explained = {name.lstrip("*") for name, first in ENTRY.findall(section[1]) if first} if section else set()
    try:
        parameters = inspect.signature(value).parameters
    except ValueError:  # a built-in function
        return []
    return [name for name in parameters if name not in explained and name != "self"]


def faults(value):
    text = inspect.getdoc(value) or ""
    if not text:
        return ["no docstring"]
    found = [f"{argument}: not explained" for argument in arguments_without_meaning(value)]
    return found if ">>>" in text else [*found, "no example"]


@pytest.mark.parametrize("module", reference.MODULES)
def test_every_name_explains_itself(module):
    missing = {
        name: found for name, value in NAMES.items() if name.rpartition(".")[0] == module and (found := faults(value))
    }
    assert not missing, "\n".join(f"{name}: {', '.join(found)}" for name, found in missing.items())


def examples():
    """(module, name, object) of each public object with an example, and of its public methods."""
    for name, value in NAMES.items():
        members = vars(value).items() if inspect.isclass(value) else ()
        own = [(f"{name}.{member}", each) for member, each in members if not member.startswith("_")]
        for path, each in [(name, value), *own]:
            each = getattr(each, "__func__", each)
            if ">>>" in (inspect.getdoc(each) or ""):
                yield path, each


EXAMPLES = dict(examples())


@pytest.fixture
def as_users_have_it():
    keras.config.enable_traceback_filtering()
    yield
    keras.config.disable_traceback_filtering()  # as conftest.py has it


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
