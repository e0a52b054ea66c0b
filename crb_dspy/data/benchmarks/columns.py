"""Tables of any columns, as .csv, .tsv, .parquet or .xlsx: the user says which column is what.

    --columns id=case_no,text=report,GI=abdomen,Neuro=neurology

A cell of a category is a list (or one turned into text), or has one quote a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crb_dspy.data.benchmarks.hubtable import COLUMNS, items
from crb_dspy.data.benchmarks.source import Raw
from crb_dspy.data.cases import Case
from crb_dspy.data.readers.tables import HEADING, KINDS, Row, cell, rows
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, unknown

# What a column can be besides a category.
OWN = ("id", "text", "group")


def read(source: str, schema: Schema, columns: Mapping[str, str]) -> Raw:
    """Read a table by the names of its columns; UserError names the row.

    Without an id a row is called by its number; without any category there is no gold.
    """
    path = Path(source)
    _check(source, path.suffix.lower(), schema, columns)
    found = list(rows(path.read_bytes(), source))
    if not found:
        raise UserError(f"{source}: the table has no rows; give one case a row")
    for column in columns.values():
        if column not in found[0]:
            raise UserError(f"{source}: {unknown('column', column, list(found[0]))}")
    cases: dict[str, Case] = {}
    for number, row in enumerate(found, 1):
        case = _case(f"{source}, row {number}", number, row, schema, columns)
        if case.id in cases:
            raise UserError(f"{source}, row {number}: case '{case.id}' was given before")
        cases[case.id] = case
    return Raw(tuple(cases.values()))


def _check(source: str, suffix: str, schema: Schema, columns: Mapping[str, str]) -> None:
    if suffix not in KINDS:
        raise UserError(f"{source}: columns are for tables: {', '.join(KINDS)}")
    for name in columns:
        if name not in (*OWN, *schema.keys):
            raise UserError(f"columns: {unknown('category', name, (*OWN, *schema.keys))}")
    if "text" not in columns:
        raise UserError(f"columns: which column holds the report is missing; {COLUMNS}")


def _case(where: str, number: int, row: Row, schema: Schema, columns: Mapping[str, str]) -> Case:
    text = row.get(columns["text"])
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: column '{columns['text']}' holds no report")
    keys = [key for key in schema.keys if key in columns]
    gold = {key: _quotes(f"{where}: {key}", row.get(columns[key])) for key in keys}
    whole = {key: gold.get(key, ()) for key in schema.keys} if keys else None
    name, group = (cell(row, columns[own]) if own in columns else "" for own in ("id", "group"))
    return Case(name or str(number), {HEADING: text}, whole, group)


def _quotes(where: str, cell: object) -> tuple[str, ...]:
    found = items(where, cell)
    if isinstance(cell, str) and not cell.strip().startswith("["):
        found = cell.splitlines()
    if wrong := [item for item in found if item is not None and not isinstance(item, str)]:
        raise UserError(f"{where}: a quote is {wrong[0]!r}, not a text; one quote a line")
    texts = [item.strip() for item in found if isinstance(item, str)]
    return tuple(text for text in texts if text not in ("", "null"))
