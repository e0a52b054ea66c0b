"""Tables of any columns, as .csv, .tsv, .parquet or .xlsx: a row is a report.

    --columns id=case_no,text=report

says which column is what; else they are called `id`, which may be missing, and `text`.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crb_dspy.data.readers import parquet, texts
from crb_dspy.errors import UserError, unknown

HEADING = "Case report"
KINDS = (".csv", ".tsv", ".parquet", ".xlsx")
Row = Mapping[str, Any]


def parsed(text: str | None) -> dict[str, str]:
    """Return what `id=a,text=b` says, {} for nothing; UserError for anything else."""
    if text is None:
        return {}
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or not all(mark and name.strip() and its.strip() for name, mark, its in pairs):
        raise UserError(f"--columns {text}: write --columns id=NAME,text=NAME,GI=NAME")
    return {name.strip(): its.strip() for name, _, its in pairs}


def read(
    lines: Iterator[bytes], name: str, columns: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield id and text of every row; without an id a row is called by its number.

    Columns of categories are passed over, as gold is. UserError for a table that lacks a column.
    """
    named = {key: its for key, its in (columns or {}).items() if key in ("id", "text")}
    if columns and "text" not in named:
        raise UserError("--columns: which column holds the report is missing; add text=NAME")
    for number, row in enumerate(rows(b"".join(lines), name), 1):
        for column in named.values():
            if column not in row:
                raise UserError(f"{name}: {unknown('column', column, list(row))}")
        if not named and "text" not in row:
            has = f"no column 'text'; it has {', '.join(row)}"
            raise UserError(f"{name}: {has}; say which is what: --columns id=NAME,text=NAME")
        text = row.get(named.get("text", "text"))
        key = "" if columns and "id" not in named else cell(row, named.get("id", "id"))
        yield key or str(number), {HEADING: "" if text is None else str(text)}


def cell(row: Row, column: str) -> str:
    """Return a cell as a line of text, "" where nothing is in it."""
    value = row.get(column)
    return "" if value is None or value != value else str(value).strip()


def rows(data: bytes, name: str) -> Iterator[Row]:
    """Yield the rows of a table by the names of its columns; UserError if it is none."""
    suffix = Path(name).suffix.lower()
    if suffix == ".parquet":
        yield from parquet.rows(data, name)
    elif suffix == ".xlsx":
        yield from _sheet(data, name)
    else:
        yield from _lines(texts.decoded(data, name), name, suffix)


def _lines(text: str, name: str, suffix: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # a report is longer than the default allows
    first = text.partition("\n")[0]
    mark = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=mark):
            yield {name: its for name, its in row.items() if name is not None}
    except csv.Error as error:
        raise UserError(f"{name}: not a CSV file: {error}") from error


def _sheet(data: bytes, name: str) -> Iterator[Row]:
    """Yield the rows of a workbook's first sheet, its first row the names."""
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(f"{name}: Excel needs openpyxl: pip install openpyxl") from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    except Exception as error:  # whatever a damaged file makes of the library
        raise UserError(f"{name}: not an Excel workbook (.xlsx)") from error
    lines = book.worksheets[0].iter_rows(values_only=True)
    names = [str(cell or "").strip() for cell in next(lines, ())]
    for line in lines:
        if any(value is not None for value in line):
            yield dict(zip(names, line, strict=False))
