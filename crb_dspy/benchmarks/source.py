"""What every data source gives, and how files are read without surprises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crb_dspy.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.schema import Schema

_ID = re.compile(r'"(?:id|pmcid)"\s*:\s*"?([^",}\s]+)')


@dataclass(frozen=True)
class Raw:
    """Cases as a source has them.

    `repair` if their gold is a mangled copy of the report, to be replaced by the report's own
    words; `ignored` counts what was annotated under names that the schema does not have.
    """

    cases: tuple[Case, ...]
    repair: bool = False
    ignored: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """A module that reads one kind of case data; list it in `SOURCES`."""

    def claims(self, source: str) -> bool:
        """Tell, without reading it all, whether this is the source's kind."""
        ...

    def read(self, source: str, schema: Schema) -> Raw:
        """Return the cases, gold (where annotated) with exactly the schema's categories.

        UserError, naming file, line or row, and case, for whatever is malformed.
        """
        ...


def lines(data: bytes, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield where each JSON object of a JSON-lines file stands ("name, line 7"), and the object.

    UserError for a line that is not UTF-8, not JSON, not an object, or has a key twice.
    """
    body = data.removeprefix(b"\xef\xbb\xbf")
    offset = len(data) - len(body)
    # Only \n ends a line: str.splitlines would also cut at separators inside a report.
    for number, line in enumerate(body.split(b"\n"), 1):
        where = f"{name}, line {number}"
        if line.strip():
            yield where, _parse(line, where, offset)
        offset += len(line) + 1


def _parse(line: bytes, where: str, offset: int) -> dict[str, object]:
    match = _ID.search(line.decode("latin-1"))
    where += f": case '{match[1]}'" if match else ""
    try:
        value = json.loads(_decoded(line, where, offset), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object but {kind(value)}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"'{twice}' stands twice in one object")
    return table


def decoded(path: Path) -> str:
    """Read a UTF-8 text file as it is, line ends included; UserError if it is not UTF-8."""
    return _decoded(path.read_bytes(), str(path), 0)


def _decoded(data: bytes, where: str, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start
        remedy = "save it as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1)"
        raise UserError(f"{where}: not UTF-8 at byte {at}: {remedy}") from error


def kind(value: object) -> str:
    """Name the type of a JSON value for a person."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
