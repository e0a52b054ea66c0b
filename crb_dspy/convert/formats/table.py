"""A table with a row a quote, as CSV or Excel.

    id,category,quote,start,end,text
    c1,GI,No fever,0,8,No fever. No cough.
    c1,RESP,No cough,,,
    c2,Diagnosis,gout,,,She was well.

The text stands in one row of its report, in Excel on a sheet of its own, since a cell holds
32,767 characters. A quote without `start` is marked at the first place that it can mean; a report
without quotes is annotated with nothing. What is no quote stands in that column too, an item a
row. Columns may stand in any order, others are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crb_dspy.convert.documents import Document, Mark, in_order, mark
from crb_dspy.errors import UserError
from crb_dspy.quotes.grounding import ground

COLUMNS = ("id", "category", "quote", "start", "end", "text", "group")
NEEDED = ("id", "category", "quote")


@dataclass
class _Gathered:
    text: str = ""
    group: str = ""
    quotes: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)


def documents(name: str, rows: Iterable[Mapping[str, str]]) -> list[Document]:
    """Gather the rows of each report, in the order of the first; UserError names a faulty row."""
    found: dict[str, _Gathered] = {}
    for number, row in enumerate(rows, 2):
        where = f"{name}, row {number}"
        if missing := [column for column in NEEDED if column not in row]:
            raise UserError(f"{name}: column '{missing[0]}' is missing; it has {', '.join(row)}")
        if not any(row.values()):
            continue
        if not row["id"].strip():
            raise UserError(f"{where}: no id; each quote needs that of its report")
        one = found.setdefault(row["id"].strip(), _Gathered())
        one.text = one.text or row.get("text", "")
        one.group = one.group or row.get("group", "")
        if row["quote"].strip() or row["category"].strip():
            one.quotes.append((where, row))
    if not found:
        raise UserError(f"{name}: no rows; its columns are {', '.join(COLUMNS)}")
    return [_document(name, key, one) for key, one in found.items()]


def _document(name: str, key: str, gathered: _Gathered) -> Document:
    if not gathered.text.strip():
        raise UserError(f"{name}: report '{key}' has no text; give it in a column 'text'")
    marks, loose = list[Mark](), list[tuple[str, str]]()
    for where, row in gathered.quotes:
        span = _span(where, gathered.text, row)
        if span is None:
            loose.append((row["category"], row["quote"]))
        else:
            marks.append(mark(where, gathered.text, span, row["category"].strip()))
    return Document(key, gathered.text, in_order(marks), gathered.group, loose=tuple(loose))


def _span(where: str, text: str, row: Mapping[str, str]) -> tuple[int, int] | None:
    quote, spans = row["quote"], ground(text, row["quote"]).spans
    start, end = (row.get(column, "").strip() for column in ("start", "end"))
    if not start:
        return spans[0] if spans else None
    if not (start.isdecimal() and end.isdecimal()):
        raise UserError(f"{where}: start '{start}' and end '{end}' must be whole numbers")
    span = int(start), int(end)
    if text[slice(*span)] != quote and span not in spans:
        raise UserError(f"{where}: the report has {text[slice(*span)][:40]!r} there, not {quote!r}")
    return span


def rows(documents: Sequence[Document]) -> Iterable[dict[str, str]]:
    """Yield the rows of documents; each text stands in the first row of its report."""
    for document in documents:
        about = {"id": document.id, "text": document.text, "group": document.group}
        for one in document.marks or ():
            quote = document.text[one.start : one.end]
            where = {"start": str(one.start), "end": str(one.end)}
            yield {**about, "category": one.category, "quote": quote, **where}
            about = {"id": document.id}
        for key, answer in document.answers.items():
            for item in answer.items:
                yield {**about, "category": key, "quote": item}
                about = {"id": document.id}
        if "text" in about:
            yield about
