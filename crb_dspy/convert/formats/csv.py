"""CSV with a row a quote; see the module of tables."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from crb_dspy.convert.documents import Document
from crb_dspy.convert.formats import table
from crb_dspy.data.benchmarks.source import decoded
from crb_dspy.errors import UserError
from crb_dspy.files import write_whole

ABOUT = "CSV with a row a quote: id, category, quote, start, end, text"
SUFFIX = ".csv"
ANSWERS = True


def read(path: Path) -> Iterator[Document]:
    """Yield the reports of a table; UserError names a faulty row.

    Its cells may be parted by semicolons, as Excel does it in many countries.
    """
    # A report is longer than the default allows.
    csv.field_size_limit(sys.maxsize)
    text = decoded(path).removeprefix("\ufeff")
    head = text.partition("\n")[0]
    mark = ";" if head.count(";") > head.count(",") else ","
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, restval=""))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file: {error}") from error
    named = ({str(k).strip().lower(): str(v) for k, v in row.items()} for row in rows)
    yield from table.documents(str(path), named)


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a table."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, table.COLUMNS, restval="", quoting=csv.QUOTE_MINIMAL)
    writer.writeheader()
    writer.writerows(table.rows(documents))
    write_whole(path, out.getvalue())
