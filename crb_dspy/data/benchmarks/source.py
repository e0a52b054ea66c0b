"""What every data source gives, and how files are read without surprises."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, one_line
from crb_dspy.files import plain_file

_ID = re.compile(r'"(?:id|pmcid)"\s*:\s*"?([^",}\s]+)')


@dataclass(frozen=True)
class Raw:
    """Cases as a source has them.

    `repair` if their gold is a mangled copy of the report, to be replaced by the report's own
    words; `ignored` counts what was annotated under names that the schema does not have; `notes`
    say what was repaired on the way.
    """

    cases: tuple[Case, ...]
    repair: bool = False
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A published task that a source reads: its schema, where it is from, what it was tried on."""

    name: str
    schema: str
    about: str
    tried: str


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

    Of a file that is one JSON array, its entries ("name, entry 7"). UserError for a line that is
    not UTF-8, not JSON, not an object, or has a key twice.
    """
    body = data.removeprefix(b"\xef\xbb\xbf")
    offset = len(data) - len(body)
    if (entries := _array(body, name)) is not None:
        yield from entries
        return
    # Only \n ends a line: str.splitlines would also cut at separators inside a report.
    for number, line in enumerate(body.split(b"\n"), 1):
        where = f"{name}, line {number}"
        if line.strip():
            yield where, _parse(line, where, offset)
        offset += len(line) + 1


def _array(body: bytes, name: str) -> list[tuple[str, dict[str, object]]] | None:
    """Return the objects of a file that is one JSON array, None for any other file."""
    if not body.lstrip().startswith(b"["):
        return None
    try:
        value = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None  # told by its lines
    if not isinstance(value, list) or not any(isinstance(entry, dict) for entry in value):
        return None
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            raise UserError(f"{name}, entry {number}: not a JSON object but {kind(entry)}")
    return [(f"{name}, entry {number}", entry) for number, entry in enumerate(value, 1)]


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
    if wrong := plain_file(path):
        raise UserError(f"{path}: {wrong}")
    return _decoded(path.read_bytes(), str(path), 0)


def _decoded(data: bytes, where: str, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start
        remedy = "save it as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1)"
        raise UserError(f"{where}: not UTF-8 at byte {at}: {remedy}") from error


def table_columns(source: str) -> set[str]:
    """Return the columns of a CSV, parquet or JSON-lines table, none of anything else."""
    path = Path(source)
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".csv", ".parquet", ".jsonl"):
        return set()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return set(pq.read_schema(path).names)
        with path.open("rb") as file:
            line = next((line for line in file if line.strip()), b"").decode("utf-8-sig")
        if suffix == ".jsonl":
            first = json.loads(line)
            return set(first) if isinstance(first, dict) else set()
        return set(next(csv.reader([line]), []))
    # What it is not, another source says.
    except (ImportError, OSError, ValueError, RecursionError, csv.Error):
        return set()


def table_rows(source: str) -> list[dict[str, Any]]:
    """Return the rows of a CSV, parquet or JSON-lines table; UserError if it cannot be read."""
    import pandas as pd

    path = Path(source)
    if path.suffix.lower() == ".jsonl":
        return [dict(row) for _, row in lines(path.read_bytes(), source)]
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            text = io.StringIO(decoded(path).removeprefix("\ufeff"))
            table = pd.read_csv(text, dtype=str, keep_default_na=False)
    except (ImportError, OSError, ValueError) as error:
        raise UserError(f"{source}: the table cannot be read: {one_line(error)}") from error
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def hub_rows(name: str, split: str, source: str) -> list[dict[str, Any]]:
    """Return the rows of a data set of the hub; UserError if `datasets` or the hub is missing."""
    try:
        from datasets import exceptions, load_dataset
    except ImportError as error:
        remedy = "pip install 'crb_dspy[hub]', or name a local copy of the table"
        raise UserError(f"{source}: needs the package datasets: {remedy}") from error
    try:
        return [dict(row) for row in load_dataset(name, split=split)]
    except (OSError, ValueError, exceptions.DatasetsError) as error:
        remedy = "check name and network, or name a local .parquet, .jsonl or .csv copy"
        said = f"{source}: cannot be read from the hub: {one_line(error)}; {remedy}"
        raise UserError(said) from error


def kind(value: object) -> str:
    """Name the type of a JSON value for a person."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
