"""Programs and optimizers by name: one file each, found where they lie, or a user's own file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from crb_dspy.data.own import own_object
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, unknown
from crb_dspy.files import fingerprint
from crb_dspy.program import ExtractionProgram
from crb_dspy.recipe import Recipe


def names(kind: str) -> list[str]:
    """Return the names that the catalog of "programs" or "optimizers" holds."""
    package = importlib.import_module(f"crb_dspy.{kind}")
    files = (file for folder in package.__path__ for file in Path(folder).glob("[a-z]*.py"))
    return sorted(file.stem for file in files)


def build_program(name: str, schema: Schema, options: Mapping[str, Any]) -> ExtractionProgram:
    """Return a new program by catalog name or `FILE.py:Class`; UserError if it cannot be had."""
    found = find_program(name)
    _check_options(f"program '{name}'", (found.build, ExtractionProgram.__init__), options)
    return found(schema, **options)


def find_program(name: str) -> type[ExtractionProgram]:
    """Return a program's class by catalog name or `FILE.py:Class`."""
    found = _find("program", "programs", name, _only_program)
    if not (isinstance(found, type) and issubclass(found, ExtractionProgram)):
        raise UserError(
            f"program '{name}': must be a subclass of crb_dspy.program.ExtractionProgram"
        )
    return found


def code_of(name: str) -> str | None:
    """Return a fingerprint of the file in `FILE.py:NAME`, None for a name of the catalog."""
    if ".py:" not in name:
        return None
    path = Path(name.rpartition(":")[0])
    if path.exists() and not path.is_file():
        raise UserError(f"'{name}': {path} is not a file")
    try:
        return fingerprint(path.read_bytes().hex())
    except OSError as error:
        raise UserError(f"'{name}': {path} cannot be read: {error.strerror}") from error


def codes_of(schema: Schema) -> dict[str, str]:
    """Return fingerprints of the files of a schema's own kinds, by their names."""
    return {name: code for name in schema.own_kinds if (code := code_of(name))}


def find_recipe(name: str, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe by catalog name or `FILE.py:function`, its options checked by name."""
    found = _find("optimizer", "optimizers", name, lambda module: getattr(module, name))
    if not callable(found):
        raise UserError(f"optimizer '{name}': must be a function")
    _check_options(f"optimizer '{name}'", (found,), options)
    recipe: Recipe = found
    return recipe


def _find(kind: str, package: str, name: str, pick: Callable[[ModuleType], object]) -> object:
    if ".py:" in name:
        path, _, attribute = name.rpartition(":")
        return own_object(kind, Path(path), attribute)
    if name not in (choices := names(package)):
        raise UserError(f"{unknown(kind, name, choices)}, or name FILE.py:NAME")
    return pick(importlib.import_module(f"crb_dspy.{package}.{name}"))


def _only_program(module: ModuleType) -> object:
    """Return the one program class that a catalog file defines."""
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [value for value in classes if value.__module__ == module.__name__]
    return next(value for value in own if issubclass(value, ExtractionProgram))


def _check_options(
    owner: str, functions: Iterable[Callable[..., Any]], options: Mapping[str, Any]
) -> None:
    known = {
        parameter.name: parameter.annotation
        for function in functions
        for parameter in _signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option, value in options.items():
        if option not in known:
            raise UserError(f"{owner}: {unknown('option', option, list(known) or ['none at all'])}")
        try:
            TypeAdapter(known[option]).validate_python(value, strict=True)
        except ValidationError as error:
            said = error.errors()[0]["msg"].lower()
            raise UserError(f"{owner}: option '{option}' = {value!r}: {said}") from error
        except PydanticUserError:  # no type that values can be checked against, or none at all
            continue


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # what a type checker alone imports
        return inspect.signature(function)
