"""Reads the options of `nbkeras serve` from flags, environment variables and models.toml. pydantic checks them.

`nbkeras serve` runs this module as a process of its own, so that the server's processes do not import pydantic.
"""

import argparse
import dataclasses
import difflib
import os
import pathlib
import pickle
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PositiveInt, ValidationError, create_model
from pydantic_settings import CliSettingsSource, NoDecode

from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.serving.options import MAX_COUNT, NAME, SHARED, ModelOptions, Options, versions_of

PREFIX = "NBKERAS_SERVE_"
_ABOUT = (
    "Answer requests to infer, by the Open Inference Protocol over HTTP and gRPC. It listens only on this machine unless --host "
    "says otherwise; leave encryption and passwords to a proxy."
)


def _opened(shape: tuple) -> tuple:
    """A shape, or several, with None for -1: TOML has no null."""
    return tuple(_opened(size) if isinstance(size, tuple) else None if size == -1 else size for size in shape)


_ENDING = re.compile(r"\.[A-Za-z]\w*$")  # of a file's name; not the number of "model-1.2"
_NAME = "letters, digits, _, . and -, at most 128, not beginning with . or -"
_SIZES = f"positive integers, as 1,32 on the command line or [1, 32] in a file, at most {MAX_COUNT}"
_HOSTS = "names without a port, as a.example,b.example on the command line or a list in a file"
_SHAPES = "a shape such as [-1, 20, 8], or a list of one for each input; -1: any number"
_Name = Annotated[str, Field(title=_NAME, pattern=f"^{NAME.pattern}$")]
_Text = BeforeValidator(lambda value: str(value) if type(value) is int else value)
_Split = BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)
_Sorted = AfterValidator(lambda value: tuple(sorted(value)))
_Size = Annotated[int, Field(ge=1, le=MAX_COUNT)]
_Sizes = Annotated[set[_Size], Field(title=_SIZES, min_length=1, strict=False), NoDecode, _Split, _Sorted]
_Host = Annotated[str, Field(pattern="^[A-Za-z0-9._-]+$"), AfterValidator(str.lower)]
_Shape = Annotated[tuple[Literal[-1] | PositiveInt, ...], Field(strict=False)]
_Shapes = Annotated[tuple[_Shape, ...], Field(strict=False)]
# What a user may write, for the options whose declared types do not say it. A title ends the sentence "... must be".
_TYPES: dict[str, Any] = {
    "name": _Name,
    "version": Annotated[_Name, _Text],
    "batch_sizes": _Sizes,
    "steps": _Sizes,
    "control_hosts": Annotated[tuple[_Host, ...], Field(title=_HOSTS, strict=False), NoDecode, _Split],
    "input_signature": Annotated[_Shape | _Shapes, Field(title=_SHAPES), AfterValidator(_opened)],
}


def _declared(kind: type) -> dict[str, Any]:
    """The options of a class, declared for pydantic."""
    fields = [field for field in dataclasses.fields(kind) if field.metadata]
    return {each.name: (_TYPES.get(each.name, each.type), Field(each.default, **each.metadata)) for each in fields}


_OF_MODEL = _declared(ModelOptions)
_SERVER = _declared(Options) | {name: _OF_MODEL[name] for name in SHARED}
_CONFIG = Field(None, description="a models.toml with the tables [server] and [[model]]")
_Model = create_model("_Model", __config__={"strict": True}, **_OF_MODEL)
_Server = create_model("_Server", __config__={"strict": True}, **_SERVER)
_Outside = create_model("_Outside", config=(str | None, _CONFIG), **_SERVER)


class _File(BaseModel):
    model_config = {"strict": True}
    server: dict[str, Any] = Field({}, title="a table, written [server]")
    model: list[dict[str, Any]] = Field([], title="a list in which each model is a table, written [[model]]")


def read(arguments: Sequence[str]) -> Options:
    """The options from a command line, the environment and the file that these name."""
    parser = argparse.ArgumentParser("nbkeras serve", description=_ABOUT)
    parser.add_argument("models", nargs="*", metavar="model", help="a model's file, name=file, or a folder of versions")
    how: dict[str, Any] = {"cli_kebab_case": True, "cli_implicit_flags": True, "cli_hide_none_type": True}
    flags: Any = CliSettingsSource(_Outside, root_parser=parser, add_argument_method=_add_argument, **how)
    parsed = parser.parse_args(arguments)
    given = _checked(_Outside, "the environment", _variables(), lambda name: PREFIX + name.upper())
    given |= _checked(
        _Outside, "the command line", flags(parsed_args=parsed)(), lambda name: f"--{name.replace('_', '-')}"
    )
    tables: list[dict[str, Any]] = []
    if "config" in given:
        server, tables = _read_file(given.pop("config"))
        given = server | given
    tables += [_of_argument(text) for text in parsed.models]
    if not tables:
        raise ValueError("no model to serve: name a model's file, or a models.toml with --config")
    shared = {name: given.pop(name) for name in SHARED if name in given}
    models = tuple(ModelOptions(**({"name": _name_of(table["path"])} | shared | table)) for table in tables)
    _refuse_duplicates([version for model in models for version in versions_of(model)])
    return Options(models=models, **given)


def _add_argument(parser: Any, *names: str, **how: Any) -> Any:
    """Add a flag to a parser. Defaults that say nothing are left out, and lists are `int,int`."""
    how["help"] = re.sub(r" \(default: (null|False|\(\))\)$", "", how["help"])
    if "metavar" in how:
        how["metavar"] = re.sub(r"^\w+\[.*?(int|str)\b.*", r"\1,\1", how["metavar"])
    return parser.add_argument(*names, **how)


def _variables() -> dict[str, str]:
    """The environment variables with the prefix, also unknown ones, which pydantic-settings would not report."""
    found = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and value}
    return {name.removeprefix(PREFIX).lower(): value for name, value in found.items()}


def _read_file(path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tables [server] and [[model]] of a models.toml; paths of models are relative to its folder."""
    with open(path, "rb", opener=ordinary_file) as file:
        try:
            content = tomllib.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from None
    content = _checked(_File, path, content)
    tables = []
    for number, table in enumerate(content.get("model", ()), 1):
        place = f"{path}: [[model]] {table.get('name', number)}"
        one = _checked(_Model, place, table)
        if "path" not in one:
            raise ValueError(f"{place} has no path")
        tables.append(one | {"path": str(pathlib.Path(path).parent / one["path"])})
    return _checked(_Server, f"{path}: [server]", content.get("server", {})), tables


def _checked(
    kind: type[BaseModel], place: str, values: Mapping[str, Any], spelled: Callable[[str], str] = str
) -> dict[str, Any]:
    """The options that a place gives, checked. spelled: how their names are written there."""
    for name in values:
        if name not in kind.model_fields:
            near = difflib.get_close_matches(name, kind.model_fields, 1)
            known = ", ".join(map(spelled, kind.model_fields))
            hint = f"did you mean {spelled(near[0])}?" if near else f"known: {known}"
            raise ValueError(f"{place} has no option {spelled(name)!r}: {hint}")
    try:
        made = kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        title = kind.model_fields[name].title
        expected = f"must be {title}" if title else re.sub(r"^\w+ should", "must", first["msg"])
        raise ValueError(f"{place}: {spelled(name)} {expected}, received {briefly(values[name])}") from None
    return {name: getattr(made, name) for name in made.model_fields_set}


def _of_argument(text: str) -> dict[str, Any]:
    """A model of the command line: `path`, or `name=path`."""
    name, equals, path = text.partition("=")
    return {"name": name, "path": path} if equals and NAME.fullmatch(name) else {"path": text}


def _name_of(path: str) -> str:
    """The default name of a model: its file's without its ending, with a dash for each character that names cannot have."""
    resolved = pathlib.Path(path).resolve()
    name = resolved.name if resolved.is_dir() else _ENDING.sub("", resolved.name)
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip(".-")[:128] or "model"


def _refuse_duplicates(models: Sequence[ModelOptions]) -> None:
    seen: dict[tuple[str, str], ModelOptions] = {}
    for model in models:
        other = seen.setdefault((model.name, model.version), model)
        if other is not model:
            raise ValueError(
                f"two models are called {model.name!r} with version {model.version!r}: {other.path} and {model.path}; "
                "give one another name (name=file) or version"
            )


if __name__ == "__main__":
    outcome: Options | BaseException
    try:
        outcome = read(sys.argv[2:])
    except (ValueError, OSError, SystemExit) as problem:
        outcome = problem
    with open(int(sys.argv[1]), "wb") as result:
        pickle.dump(outcome, result)
