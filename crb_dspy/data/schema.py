"""Categories of findings, read from TOML files that clinicians can edit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind, made
from crb_dspy.data.reserved import safe
from crb_dspy.data.toml import toml_table
from crb_dspy.errors import UserError, explained, unknown
from crb_dspy.quotes import negation

FOLDER = Path(__file__).parents[1] / "schemas"

Text = Annotated[str, Field(min_length=1)]


class Category(BaseModel):
    """One kind of finding: its key everywhere, its title, what belongs there, the seed prompt.

    `max_tokens` is the longest answer that is waited for. `group` names categories that may
    share a prompt. `headings` are beginnings of words that send a section here alone, `terms`
    those that its findings often hold. `kind` says what it holds; all further names are options
    of that kind, which `holds` checks.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    # A key is also a Python field of a DSPy signature, a metric suffix and a result column.
    key: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    title: Text
    guidance: Text
    instruction: Text
    max_tokens: int = Field(320, ge=1)
    group: str = ""
    headings: list[Text] = []
    # Left out of dumps where there are none: fingerprints of schemas without stay what they were.
    terms: list[Text] = Field([], exclude_if=lambda terms: not terms)
    kind: str = Field("", exclude_if=lambda kind: not kind)

    @property
    def holds(self) -> Kind:
        """What stands in its cells; UserError for a kind or an option that does not exist."""
        extra = json.dumps(self.model_extra or {}, sort_keys=True)
        return _made(self.kind, self.key, tuple(self.terms), extra)

    def fitted(self, cases: Iterable[Case]) -> Self:
        """Return it with the options that its kind takes from annotated cases."""
        golds = [(case.gold or {}).get(self.key, ()) for case in cases]
        more = self.holds.fitted(golds)
        return self.model_validate({**self.model_dump(), **more}) if more else self

    @field_validator("key")
    @classmethod
    def _free(cls, key: str) -> str:
        return safe(key)


class Schema(BaseModel):
    """The categories of a benchmark, in scoring order.

    A heading with a word that begins like one of `general_headings` belongs to no category.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    categories: tuple[Category, ...] = Field(alias="category", min_length=1)
    general_headings: list[Text] = []
    # Words that negate beside the English ones, or the codes of languages: es, it, fr, de.
    negations: list[Text] = Field([], exclude_if=lambda words: not words)
    # Not asked for, but their sections are still theirs.
    unselected: tuple[Category, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The category keys, in order."""
        return tuple(category.key for category in self.categories)

    @property
    def kinds(self) -> dict[str, Kind]:
        """What stands in the cells of each category, by key."""
        return {category.key: category.holds for category in self.categories}

    @property
    def own_kinds(self) -> list[str]:
        """The kinds FILE.py:Class that it names, each once."""
        known = (*self.categories, *self.unselected)
        return list(dict.fromkeys(c.kind for c in known if ".py:" in c.kind))

    def fitted(self, cases: Sequence[Case]) -> Schema:
        """Return it with the options that kinds take from annotated cases."""
        fitted = tuple(category.fitted(cases) for category in self.categories)
        return self.model_copy(update={"categories": fitted})

    def where(self, wanted: Mapping[str, bool]) -> Schema | None:
        """Keep the categories that are wanted, None where none is."""
        keys = [key for key in self.keys if wanted[key]]
        return self.select(keys) if keys else None

    def select(self, keys: Sequence[str]) -> Schema:
        """Keep the named categories, in schema order; UserError for a name it does not have."""
        keys = [key if key in self.keys else safe(key) for key in keys]
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


@lru_cache(maxsize=4096)
def _made(kind: str, key: str, terms: tuple[str, ...], extra: str) -> Kind:
    return made(kind, key, terms, json.loads(extra))


def _begins(heading: str, beginnings: Sequence[str]) -> bool:
    """Say whether one of the beginnings stands at the start of a word of a heading."""
    return any(re.search(rf"\b{re.escape(text)}", heading, re.IGNORECASE) for text in beginnings)


def load_schema(name: str) -> Schema:
    """Read a bundled schema by name or any schema by the path of its TOML file.

    A key that prompts or DSPy's classes use themselves gets an underscore: see `reserved.safe`.
    UserError if there is no such file, it is not TOML, or a category is incomplete, has a key
    that is not an identifier, or that another category has. From then on its `negations` negate,
    in this process.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        bundled = sorted(file.stem for file in FOLDER.glob("*.toml"))
        raise UserError(f"{unknown('schema', name, bundled)}, or name a .toml file")
    table = toml_table(path)
    try:
        schema = Schema.model_validate({"name": path.stem, **table}, strict=False)
    except ValidationError as error:
        raise UserError(f"{path}: {explained(error)}") from error
    try:
        known = schema.kinds
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if repeated := {key for key in known if schema.keys.count(key) > 1}:
        raise UserError(f"{path}: key '{min(repeated)}' stands for two categories")
    negation.speak(schema.negations)
    return schema
