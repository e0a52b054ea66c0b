"""Experiments: defaults, then a TOML file, then flags; strict, since a typo costs hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from crb_dspy import files
from crb_dspy.command import assignment
from crb_dspy.data.toml import toml_table
from crb_dspy.errors import UserError, explained, suspicious, unknown
from crb_dspy.models.address import Address
from crb_dspy.models.budget import Caps
from crb_dspy.models.settings import Settings, Variable

KEYS = "keys are read from the environment; api_key_env names the variable"
# Which table holds the options of which choice.
OPTIONS = {"program": "program_options", "optimizer": "options"}


def folder_name(name: str) -> str:
    """Return a name that a folder can have; ValueError for any other."""
    if not name.strip(". ") or len(name) > 100 or "/" in name or not name.isprintable():
        raise ValueError("must be up to 100 letters without /, since a folder is called so")
    return name


class Experiment(Settings):
    """Everything that decides a compile; equal experiments give equal results."""

    name: Annotated[str, AfterValidator(folder_name)] = "compile"
    data: str = "sample"
    test_data: str | None = None
    columns: dict[str, str] = Field(default_factory=dict, exclude_if=lambda named: not named)
    schema_: str = Field("casereportbench", alias="schema")
    categories: list[str] = Field(default_factory=list)
    limit: int | None = Field(None, ge=2)
    longest: int | None = Field(None, ge=1)
    groups: dict[str, str] = Field(default_factory=dict)
    split: list[float] = Field([0.4, 0.3, 0.3], min_length=3, max_length=3)
    folds: int = Field(0, ge=0)
    program: str = "category_specific"
    program_options: dict[str, Any] = Field(default_factory=dict)
    optimizer: str = "auto"
    objective: str = "score"
    embeddings: str = Field("", exclude_if=lambda model: not model)
    options: dict[str, Any] = Field(default_factory=dict)
    joint: bool = False
    shared: bool = False
    adopt: Literal["expected", "shown"] | None = None
    gate: float = Field(0.1, gt=0, le=1)
    force: bool = False
    allow_leaks: bool = False
    max_calls: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    max_usd: float | None = Field(None, gt=0)
    max_minutes: float | None = Field(None, gt=0)
    model: str = Field("local/qwen2.5-coder-1.5b-instruct", min_length=1)
    reflection_model: str | None = Field(None, min_length=1)
    reflection_api_base: Address | None = None
    reflection_api_key_env: Variable | None = None
    # Left out of dumps where there is none: what experiments without are called stays what it was.
    judge_model: str | None = Field(None, min_length=1, exclude_if=lambda own: own is None)
    judge_api_base: Address | None = Field(None, exclude_if=lambda own: own is None)
    judge_api_key_env: Variable | None = Field(None, exclude_if=lambda own: own is None)
    out: str = "mlruns/out"
    register_prompts: bool = False
    traces: int = Field(0, ge=0)

    @property
    def expected(self) -> bool:
        """Whether parts are adopted for what is expected of them; naming a gate asks for proof."""
        shown = "gate" in self.model_fields_set
        return self.adopt == "expected" or (self.adopt is None and not shown)

    @property
    def caps(self) -> Caps:
        """The most that a run may spend, over all its models."""
        return Caps(self.max_calls, self.max_tokens, self.max_usd, self.max_minutes)

    @property
    def roles(self) -> dict[str, Settings]:
        """How each role's model is reached: reflection's is the task's unless it has its own.

        There is a judge where one is named.
        """
        task = Settings.of(self)

        def own(role: str) -> Settings | None:
            names = ("model", "api_base", "api_key_env")
            model, *place = (getattr(self, f"{role}_{name}") for name in names)
            return task.other(model, *place) if model else None

        judge = own("judge")
        roles = {"task": task, "reflection": own("reflection") or task}
        return roles | ({"judge": judge} if judge else {})


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
    for key, value in table.items():
        if isinstance(value, str) and not key.endswith("api_base") and suspicious(value):
            raise UserError(f"{key}: looks like a key or password; {KEYS}")
    try:
        return Experiment(**table)
    except ValidationError as error:
        raise UserError(_explained(error, path)) from error


def setting(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is TOML, or a bare text where it is not."""
    return assignment("--set", text)


def _default(name: str) -> object:
    return Experiment.model_fields[name].default


def _table(path: Path) -> dict[str, Any]:
    path = files.experiment(path)
    if not path.is_file():
        raise UserError(f"{path}: no such experiment file")
    return toml_table(path)


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
