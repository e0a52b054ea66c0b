"""Categories of findings, read from TOML files that clinicians can edit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crb_dspy.errors import UserError

FOLDER = Path(__file__).parent / "schemas"

Text = Annotated[str, Field(min_length=1)]


class Category(BaseModel):
    """One kind of finding: its key everywhere, its title, what belongs there, the seed prompt.

    `max_tokens` is the longest answer that is waited for. `group` names categories that may
    share a prompt. `headings` are beginnings of words that send a section here alone.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    # A key is also a Python field of a DSPy signature, a metric suffix and a result column.
    key: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    title: Text
    guidance: Text
    instruction: Text
    max_tokens: int = Field(320, ge=1)
    group: str = ""
    headings: list[Text] = []


class Schema(BaseModel):
    """The categories of a benchmark, in scoring order.

    A heading with a word that begins like one of `general_headings` belongs to no category.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    categories: tuple[Category, ...] = Field(alias="category", min_length=1)
    general_headings: list[Text] = []
    # Not asked for, but their sections are still theirs.
    unselected: tuple[Category, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The category keys, in order."""
        return tuple(category.key for category in self.categories)

    def select(self, keys: Sequence[str]) -> Schema:
        """Keep the named categories, in schema order; UserError for a name it does not have."""
        for key in keys:
            if key not in self.keys:
                raise UserError(unknown("category", key, self.keys))
        kept = tuple(category for category in self.categories if category.key in keys)
        others = tuple(category for category in self.categories if category.key not in keys)
        return self.model_copy(
            update={"categories": kept, "unselected": (*others, *self.unselected)}
        )

    def owner(self, heading: str) -> str | None:
        """Return the category that a heading clearly belongs to, None for a general one."""
        known = self.categories + self.unselected
        owners = [category.key for category in known if _begins(heading, category.headings)]
        general = len(owners) != 1 or _begins(heading, self.general_headings)
        return None if general else owners[0]


def _begins(heading: str, beginnings: Sequence[str]) -> bool:
    """Say whether one of the beginnings stands at the start of a word of a heading."""
    return any(re.search(rf"\b{re.escape(text)}", heading, re.IGNORECASE) for text in beginnings)


def unknown(kind: str, name: str, choices: Sequence[str]) -> str:
    """Say in one line that a name is not among the choices, nearest first."""
    near = get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {kind} '{name}': {hint}choose from {', '.join(choices)}"


def load_schema(name: str) -> Schema:
    """Read a bundled schema by name or any schema by the path of its TOML file.

    UserError if there is no such file, it is not TOML, or a category is incomplete, has a key
    that is not an identifier, or repeats one.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        bundled = sorted(file.stem for file in FOLDER.glob("*.toml"))
        raise UserError(f"{unknown('schema', name, bundled)}, or name a .toml file")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        schema = Schema.model_validate({"name": path.stem, **table}, strict=False)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {explained(error)}") from error
    if repeated := {key for key in schema.keys if schema.keys.count(key) > 1}:
        raise UserError(f"{path}: key '{min(repeated)}' stands for two categories")
    return schema


def explained(error: ValidationError) -> str:
    """Say in one line what was wrong with a value, and where."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    given = "" if first["type"] == "missing" else f" = {first['input']!r}"
    return f"{place}{given}: {first['msg'].lower()}"
