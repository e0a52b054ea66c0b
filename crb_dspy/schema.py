"""Categories of findings, read from TOML files that clinicians can edit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from crb_dspy.errors import UserError

FOLDER = Path(__file__).parent / "schemas"
# A key is also a Python field of a DSPy signature, a metric suffix and a result column.
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_FIELDS = {"key", "title", "guidance", "instruction"}


@dataclass(frozen=True)
class Category:
    """One kind of finding: its key everywhere, its title, what belongs there, the seed prompt.

    `max_tokens` is the longest answer that is waited for.
    """

    key: str
    title: str
    guidance: str
    instruction: str
    max_tokens: int = 320


@dataclass(frozen=True)
class Schema:
    """The categories of a benchmark, in scoring order."""

    name: str
    categories: tuple[Category, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The category keys, in order."""
        return tuple(category.key for category in self.categories)

    def select(self, keys: Sequence[str]) -> Schema:
        """Keep the named categories, in schema order; UserError for a name it does not have."""
        for key in keys:
            if key not in self.keys:
                raise UserError(unknown("category", key, self.keys))
        return replace(self, categories=tuple(c for c in self.categories if c.key in keys))


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from error
    return Schema(path.stem, _categories(path, table.get("category")))


def _check(where: str, entry: dict[str, object]) -> None:
    texts = {name: value for name, value in entry.items() if name != "max_tokens"}
    if set(texts) != _FIELDS or not all(isinstance(v, str) and v for v in texts.values()):
        raise UserError(f"{where}: needs the texts {', '.join(sorted(_FIELDS))}, and no other")
    tokens = entry.get("max_tokens", 1)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise UserError(f"{where}: max_tokens must be a whole number above 0")


def _categories(path: Path, entries: object) -> tuple[Category, ...]:
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: needs at least one [[category]] table")
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        where = f"{path}: category {number}"
        _check(where, entry)
        if not _KEY.fullmatch(entry["key"]):
            raise UserError(f"{where}: key '{entry['key']}' may hold letters, digits and _ only")
        if entry["key"] in seen:
            raise UserError(f"{where}: key '{entry['key']}' was used before")
        seen.add(entry["key"])
    return tuple(Category(**entry) for entry in entries)
