"""Excel with a row a quote on the sheet "quotes", and the texts on the sheet "reports".

A text that is too long for a cell goes on in the next row of its report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from crb_dspy.convert.documents import Document, writable
from crb_dspy.convert.formats import table
from crb_dspy.errors import UserError

ABOUT = "Excel with a row a quote; the texts are on a second sheet"
SUFFIX = ".xlsx"
ANSWERS = True
# Characters that Excel takes in a cell, less room for what is counted as two.
_CELL = 16_000
_QUOTES, _REPORTS = "quotes", "reports"


def read(path: Path) -> Iterator[Document]:
    """Yield the reports of a workbook; UserError names a faulty row."""
    library = _library()
    try:
        book = library.load_workbook(path, read_only=True, data_only=True)
    except (
        KeyError,
        ValueError,
        BadZipFile,
        library.utils.exceptions.InvalidFileException,
    ) as error:
        raise UserError(f"{path}: not an Excel workbook (.xlsx): {error}") from error
    sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
    book.close()
    # A workbook of one's own has one sheet, whatever it is called.
    quotes = sheets.pop(_QUOTES if _QUOTES in sheets else next(iter(sheets)))
    whole: dict[str, dict[str, str]] = {}
    for row in sheets.get(_REPORTS, ()):
        one = whole.setdefault(row.get("id", ""), {**row, "category": "", "quote": "", "text": ""})
        one["text"] += row.get("text", "")
    yield from table.documents(str(path), [*whole.values(), *quotes])


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a workbook."""
    book = _library().Workbook()
    quotes, reports = book.active, book.create_sheet(_REPORTS)
    quotes.title = _QUOTES
    own = [name for name in table.COLUMNS if name not in ("text", "group")]
    rows = [row for row in table.rows(documents) if row.get("quote")]
    _fill(quotes, [own, *([row.get(name, "") for name in own] for row in rows)])
    _fill(reports, [["id", "text", "group"], *_pieces(documents)])
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def _pieces(documents: Sequence[Document]) -> Iterator[list[str]]:
    for document in documents:
        writable(document, "Excel")
        for at in range(0, max(1, len(document.text)), _CELL):
            yield [document.id, document.text[at : at + _CELL], document.group]


def _fill(sheet: Any, rows: Iterable[Sequence[str]]) -> None:
    """Write rows of texts: a quote that begins with "=" is no formula."""
    for number, row in enumerate(rows, 1):
        for column, value in enumerate(row, 1):
            cell = sheet.cell(number, column)
            cell.value, cell.data_type = value, "s"


def _library() -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise UserError("Excel needs openpyxl: pip install 'crb_dspy[tools]'") from error
    return openpyxl


def _rows(sheet: Any) -> list[dict[str, str]]:
    rows = sheet.iter_rows(values_only=True)
    names = [str(name or "").strip().lower() for name in next(rows, ())]
    return [
        {name: _text(value) for name, value in zip(names, row, strict=False) if name}
        for row in rows
        # One cell far down makes a million empty rows above it.
        if any(value is not None for value in row)
    ]


def _text(value: object) -> str:
    """Return a cell as text: Excel keeps ids and offsets as numbers."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
