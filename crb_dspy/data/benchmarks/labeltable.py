"""A table of reports and labels: CSV or parquet, a row a report, a column a category.

    id,report,Smoking,Temperature
    c1,"He smokes.",smoker,
    c2,"She has 38.2 °C.",,38.2 °C

The column of texts is called report, "Report Impression", Reports, or beside an `id` text; `id` and
`group` may stand beside it. A column is named by a category's key or title. An empty cell is not
annotated, or what the category's kind takes in its place; several items of a cell have a line break
or | between them. In tables of CheXpert's labeller, 1, 0, -1 and an empty cell stand for the four
options of a category in their order: positive, negative, uncertain, not mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crb_dspy.data.benchmarks.source import Benchmark, Raw, table_columns, table_rows
from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

BENCHMARKS = (
    Benchmark(
        "CheXpert-style labels",
        "chexpert",
        "a CSV with a report column and 14 columns of 1, 0, -1 and nothing",
        "a stand-in only",
    ),
    Benchmark(
        "labels of your own",
        "your own",
        "a CSV with a report column and a column a category",
        "a stand-in only",
    ),
)
_TEXTS = ("report", "text", "report impression", "reports")
_CODES = {"1": 0, "1.0": 0, "0": 1, "0.0": 1, "-1": 2, "-1.0": 2, "": 3}


def claims(source: str) -> bool:
    """Take CSV and parquet files with a column of reports, unless they are the hub's table."""
    columns = {column.strip().casefold() for column in table_columns(source)}
    # A table with neither is the hub's, damaged.
    own = columns & set(_TEXTS) - (set() if "id" in columns else {"text"})
    return bool(own) and "pmcid" not in columns and not source.lower().endswith(".jsonl")


def read(source: str, schema: Schema) -> Raw:
    """Read the rows; UserError names row and column."""
    rows = table_rows(source)
    if not rows:
        raise UserError(f"{source}: the table has no rows")
    names = {str(column).strip().casefold(): str(column) for column in rows[0]}
    text = next(names[name] for name in _TEXTS if name in names)
    columns = {c.key: _column(names, c.key, c.title) for c in schema.categories}
    if not any(columns.values()):
        known = ", ".join(names.values())
        said = f"{source}: no column is a category's key or title; it has {known}"
        raise UserError(f"{said}; say which is what: --columns id=NAME,text=NAME,KEY=NAME")
    kinds, cases = schema.kinds, dict[str, Case]()
    for number, row in enumerate(rows, 1):
        where = f"{source}, row {number}"
        name = _cell(row, names.get("id")) or str(number)
        if name in cases:
            raise UserError(f"{where}: case '{name}' was given before")
        if not (report := _cell(row, text)):
            raise UserError(f"{where}: case '{name}': the report is empty")
        gold = {
            key: _gold(f"{where}: {column}", kinds[key], _cell(row, column))
            for key, column in columns.items()
        }
        cases[name] = Case(name, {"Report": report}, gold, _cell(row, names.get("group")))
    used = {text, *columns.values(), names.get("id"), names.get("group")}
    ignored = {column: len(rows) for column in names.values() if column not in used}
    return Raw(tuple(cases.values()), ignored=ignored)


def _column(names: Mapping[str, str], key: str, title: str) -> str | None:
    wanted = (key, key.replace("_", " "), title)
    return next((names[n.casefold()] for n in wanted if n.casefold() in names), None)


def _cell(row: Mapping[str, Any], column: str | None) -> str:
    value = row.get(column) if column else None
    return "" if value is None or value != value else str(value).strip()


def _gold(where: str, kind: Kind, cell: str) -> tuple[str, ...]:
    coded = getattr(kind.options, "options", ())
    if len(coded) == 4 and cell in _CODES and cell not in coded:
        return kind.gold(coded[_CODES[cell]])
    if not cell:
        return kind.gold(None)
    several = [part.strip() for part in re.split(r"\n|\|", cell) if part.strip()]
    try:
        return kind.gold(several if kind.listed or len(several) > 1 else cell)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
