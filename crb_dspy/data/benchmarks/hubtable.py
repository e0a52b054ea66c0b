"""The public table of CaseReportBench, one case a row, as .parquet, .jsonl or .csv.

    pmcid    text                            GI                             Neuro
    1000001  "{'Case': 'A girl of 3 ...'}"   ['no vomiting', 'soft - bowel'] null

`text` is a Python dict turned into text; a cell is a list of quotes, null, [], ["null"] or, in
.csv, a list turned into text. Quotes are tokenised and partly mojibake, so they are repaired.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import sys
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from crb_dspy.data.benchmarks.source import Raw, decoded, kind, lines
from crb_dspy.data.cases import Case
from crb_dspy.data.reserved import safe
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

Row = Mapping[str, object]
# What helps where a table is another one.
COLUMNS = "--columns id=NAME,text=NAME,GI=NAME says which column is what"
_NOTHING = ("", "null", "None", "nan", "NaN")


def claims(source: str) -> bool:
    """Take .parquet and .csv files, and .jsonl files whose first line has `pmcid` and `text`."""
    path, suffix = Path(source), Path(source).suffix.lower()
    if suffix != ".jsonl" or not path.is_file():
        return suffix in (".parquet", ".csv")
    with path.open("rb") as file:
        try:
            first = json.loads(next((line for line in file if line.strip()), b""))
        except (ValueError, RecursionError):
            return False
    return isinstance(first, dict) and {"pmcid", "text"} <= set(first)


def read(source: str, schema: Schema) -> Raw:
    """Read a local copy of the table; UserError names the row and the case."""
    path = Path(source)
    readers = {".parquet": parquet, ".csv": _csv, ".jsonl": _jsonl}
    return from_rows(readers[path.suffix.lower()](path), source, schema)


def from_rows(rows: Iterable[Row], name: str, schema: Schema) -> Raw:
    """Turn rows of the table, from wherever, into cases.

    A second case of one paper gets "-2" after its id, and the paper is the group of both.
    """
    table = [{safe(str(name)): value for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(str(column) for row in table for column in row))
    if not columns:
        raise UserError(f"{name}: the table has no rows; give one case a row")
    for column in ("pmcid", "text", *schema.keys):
        if column not in columns:
            has = f"column '{column}' is missing; it has {', '.join(columns)}"
            raise UserError(
                f"{name}: {has}; --columns id=NAME,text=NAME,GI=NAME says which is what"
            )
    cases: dict[str, Case] = {}
    for number, row in enumerate(table, 1):
        case = _case(f"{name}, row {number}", row, schema, cases)
        cases[case.id] = case
    return Raw(tuple(cases.values()), repair=True)


def _case(where: str, row: Row, schema: Schema, before: Mapping[str, Case]) -> Case:
    paper = _paper(where, row["pmcid"])
    where = f"{where}: case '{paper}'"
    count = sum(case.group == paper for case in before.values()) + 1
    gold = {key: _quotes(f"{where}: {key}", row.get(key)) for key in schema.keys}
    name = paper if count == 1 else f"{paper}-{count}"
    return Case(name, _sections(where, row["text"]), gold, paper)


def _paper(where: str, value: object) -> str:
    number = str(value).strip().removeprefix("PMC").removesuffix(".0")
    if not number.isdecimal():
        raise UserError(f"{where}: pmcid must be a number, not '{value}'")
    return f"PMC{number}"


def _sections(where: str, value: object) -> dict[str, str]:
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise UserError(f"{where}: text is not a dict of heading and text") from error
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UserError(f"{where}: text must be a dict of heading and text")
    if not any(text.strip() for text in value.values()):
        raise UserError(f"{where}: the report is empty")
    return {str(heading): text for heading, text in value.items()}


def _quotes(where: str, cell: object) -> tuple[str, ...]:
    from ftfy import fix_text

    kept = []
    for item in items(where, cell):
        if item is not None and not isinstance(item, str):
            raise UserError(f"{where}: a quote is {kind(item)}, not a text")
        if item and item.strip() not in ("", "null"):
            kept.append(fix_text(item))
    return tuple(kept)


def items(where: str, cell: object) -> Sequence[object]:
    """Return what a cell lists: a list, one turned into text, one text, or nothing."""
    if hasattr(cell, "tolist"):  # a numpy array, as pandas reads it from parquet
        cell = cell.tolist()
    if cell is None or cell != cell or (isinstance(cell, str) and cell.strip() in _NOTHING):
        return ()
    if isinstance(cell, str):
        return _listed(where, cell.strip()) if cell.strip().startswith("[") else (cell,)
    if not isinstance(cell, list | tuple):
        raise UserError(f"{where}: must be a list of quotes, not {kind(cell)}")
    return cell


def _listed(where: str, cell: str) -> Sequence[object]:
    """Read a list turned into text: as JSON, Python, or numpy, which writes no commas."""
    try:
        value = json.loads(cell)
        return value if isinstance(value, list) else ()
    except (ValueError, RecursionError):
        pass
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(cell).readline))
        return [ast.literal_eval(t.string) for t in tokens if t.type == tokenize.STRING]
    except (tokenize.TokenError, SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UserError(f"{where}: not a list of quotes") from error


def _jsonl(path: Path) -> Iterable[Row]:
    return [row for _, row in lines(path.read_bytes(), str(path))]


def _csv(path: Path) -> Iterable[Row]:
    csv.field_size_limit(sys.maxsize)  # a report is longer than the default allows
    text = decoded(path).removeprefix("\ufeff")
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file: {error}") from error


def parquet(path: Path) -> Iterable[Row]:
    """Return the rows of a parquet file."""
    import pandas as pd

    data = io.BytesIO(path.read_bytes())
    try:
        table = pd.read_parquet(data)
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow: pip install pyarrow") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a parquet file") from error
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
