"""Parquet: a row is a report, with an `id` and its `sections`, or a `text`."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from crb_dspy.data.readers.texts import HEADING
from crb_dspy.errors import UserError, one_line


def read(lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield id and sections of every row; UserError if it is no such file.

    `sections` is a map, a struct, a list of heading and text, or the JSON of an object; a file
    with `text` alone has one section. The file is held in memory, a few rows of it unpacked.
    """
    for row in rows(b"".join(lines), name, ("id", "sections", "text")):
        if "id" not in row or len(row) == 1:
            known = "no columns id and text, or id and sections"
            raise UserError(f"{name}: {known}; say which is what: --columns id=NAME,text=NAME")
        yield str(row["id"]), _sections(row, name)


def rows(data: bytes, name: str, columns: Collection[str] = ()) -> Iterator[Mapping[str, Any]]:
    """Yield rows, of all columns or those of `columns` that are there; UserError if not Parquet."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"{name}: pip install pyarrow, which reads it") from error
    try:
        file = ParquetFile(io.BytesIO(data))
        wanted = [c for c in file.schema_arrow.names if not columns or c in columns]
        for batch in file.iter_batches(64, columns=wanted):
            yield from batch.to_pylist()
    except ArrowException as error:
        raise UserError(f"{name}: not Parquet: {one_line(error)}") from error


def _sections(row: Mapping[str, Any], name: str) -> Mapping[str, str]:
    found = row.get("sections")
    if found is None:
        return {HEADING: str(row.get("text") or "")}
    try:
        if isinstance(found, str):
            found = json.loads(found)
        pairs = found.items() if isinstance(found, dict) else map(_pair, found)
        return {str(heading): str(text) for heading, text in pairs if text is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{name}, id {row['id']}: sections: {one_line(error)}") from error


def _pair(item: Any) -> tuple[Any, Any]:
    heading, text = item.values() if isinstance(item, dict) else item
    return heading, text
