"""doccano, sequence labelling: a line a text.

    {"text": "No fever.", "label": [[0, 8, "GI"]], "case": "c1"}
    {"id": 1, "text": "No fever.",
     "entities": [{"label": "GI", "start_offset": 0, "end_offset": 8}]}

`case` and `group` are kept by doccano as metadata; `id` is its own number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crb_dspy.convert.documents import Document, in_order, mark
from crb_dspy.data.benchmarks.source import lines
from crb_dspy.errors import UserError, explained
from crb_dspy.files import as_json, write_whole

ABOUT = "doccano: JSONL of sequence labelling"
SUFFIX = ".jsonl"
ANSWERS = False


class _Entity(BaseModel):
    label: str
    start_offset: int
    end_offset: int


class _Line(BaseModel):
    id: int | str | None = None
    text: str
    label: list[tuple[int, int, str]] | None = None
    entities: list[_Entity] | None = None
    case: str | None = None
    group: str | None = None


def read(path: Path) -> Iterator[Document]:
    """Yield the texts of an export, by labels or entities; UserError names a faulty line."""
    for number, (where, entry) in enumerate(lines(path.read_bytes(), str(path)), 1):
        try:
            line = _Line.model_validate(entry)
        except ValidationError as error:
            raise UserError(f"{where}: {explained(error)[:200]}") from error
        spans = line.label
        if spans is None and line.entities is not None:
            spans = [(one.start_offset, one.end_offset, one.label) for one in line.entities]
        marks = None
        if spans is not None:
            marks = in_order(mark(where, line.text, (s, e), label) for s, e, label in spans)
        name = line.case or str(line.id if line.id is not None else number)
        yield Document(name, line.text, marks, line.group or "")


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write lines to import; doccano does not tell a program's marks from a person's."""
    write_whole(path, "".join(f"{as_json(_line(document))}\n" for document in documents))


def _line(document: Document) -> dict[str, Any]:
    line: dict[str, Any] = {"text": document.text, "case": document.id}
    if document.group:
        line["group"] = document.group
    if document.marks is not None:
        line["label"] = [[m.start, m.end, m.category] for m in document.marks]
    return line
