"""Experiments: defaults, then a TOML file, then flags; strict, since a typo costs hours."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crb_dspy.errors import UserError
from crb_dspy.schema import explained, unknown

# Which table holds the options of which choice.
OPTIONS = {"program": "program_options", "optimizer": "options"}


class Experiment(BaseModel):
    """Everything that decides a compile; equal experiments give equal results."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field("compile", min_length=1)
    data: str = "sample"
    schema_: str = Field("casereportbench", alias="schema")
    categories: list[str] = []
    limit: int | None = Field(None, ge=2)
    longest: int | None = Field(None, ge=1)
    groups: dict[str, str] = {}
    split: list[float] = Field([0.4, 0.3, 0.3], min_length=3, max_length=3)
    folds: int = Field(0, ge=0)
    seed: int = 0
    program: str = "category_specific"
    program_options: dict[str, Any] = {}
    optimizer: str = "factors"
    objective: str = "score"
    options: dict[str, Any] = {}
    joint: bool = False
    shared: bool = False
    gate: float = Field(0.1, gt=0, le=1)
    force: bool = False
    allow_leaks: bool = False
    max_calls: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    max_usd: float | None = Field(None, gt=0)
    max_minutes: float | None = Field(None, gt=0)
    model: str = "local/qwen2.5-coder-1.5b-instruct"
    api_base: str | None = None
    api_key_env: str | None = None
    reflection_model: str | None = None
    reflection_api_base: str | None = None
    reflection_api_key_env: str | None = None
    temperature: float = Field(0.0, ge=0, le=2)
    context: int | None = Field(None, ge=512)
    timeout: float = Field(600.0, gt=0)
    threads: int = Field(1, ge=1, le=256)
    out: str = "mlruns/out"
    register_prompts: bool = False
    traces: int = Field(0, ge=0)


def read_experiment(path: Path | None, changes: Mapping[str, Any]) -> Experiment:
    """Return the defaults, changed by a file, changed by `changes` (dotted keys reach inside).

    Options in the file belong to the program or optimizer that it names, and go with it.
    UserError in one line for a file that is missing or not TOML, an unknown key (the nearest
    valid one is named) and a value of the wrong type or out of range.
    """
    table = _table(path) if path else {}
    for choice, options in OPTIONS.items():
        if choice in changes and changes[choice] != table.get(choice, _default(choice)):
            table.pop(options, None)
    for key, value in changes.items():
        _set(table, key.split("."), value)
    try:
        return Experiment(**table)
    except ValidationError as error:
        raise UserError(_explained(error, path)) from error


def _default(name: str) -> object:
    return Experiment.model_fields[name].default


def setting(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is TOML, or a bare text where it is not."""
    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise UserError(f"--set {text}: write --set key=value")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such experiment file")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from error


def _set(table: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {'.'.join(keys)}: '{key}' is not a table")
        table = inner
    table[keys[-1]] = value


def _explained(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    where = f"{path}: " if path else ""
    if first["type"] != "extra_forbidden":
        return where + explained(error)
    names = [field.alias or name for name, field in Experiment.model_fields.items()]
    return where + unknown("key", str(first["loc"][0]), names)
