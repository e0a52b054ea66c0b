"""Prodigy: a line a task, as `db-out` writes and `ner.manual` or `spans.manual` reads.

    {"text": "No fever.", "spans": [{"start": 0, "end": 8, "label": "GI"}],
     "meta": {"case": "c1"}, "answer": "accept"}

A task that was rejected or ignored counts as not annotated; spans without an answer are a
program's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from crb_dspy.convert.documents import Document, in_order, mark
from crb_dspy.data.benchmarks.source import lines
from crb_dspy.errors import UserError, explained
from crb_dspy.files import as_json, write_whole

ABOUT = "Prodigy: JSONL of ner.manual and spans.manual"
SUFFIX = ".jsonl"
ANSWERS = False


class _Span(BaseModel):
    start: int
    end: int
    label: str


class _Task(BaseModel):
    text: str
    spans: list[_Span] | None = None
    meta: dict[str, Any] = {}
    answer: Literal["accept", "reject", "ignore"] | None = None


def read(path: Path) -> Iterator[Document]:
    """Yield the tasks of an export; UserError names a faulty line."""
    for number, (where, entry) in enumerate(lines(path.read_bytes(), str(path)), 1):
        try:
            task = _Task.model_validate(entry)
        except ValidationError as error:
            raise UserError(f"{where}: {explained(error)[:200]}") from error
        name, group = task.meta.get("case", number), str(task.meta.get("group") or "")
        marks = in_order(
            mark(where, task.text, (s.start, s.end), s.label) for s in task.spans or ()
        )
        if task.answer == "accept":
            yield Document(str(name), task.text, marks, group)
        elif task.answer is None and task.spans is not None:
            yield Document(str(name), task.text, marks, group, predicted=True)
        else:
            yield Document(str(name), task.text, None, group)


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write tasks: marks of people with their answer, a program's without."""
    write_whole(path, "".join(f"{as_json(_task(document))}\n" for document in documents))


def _task(document: Document) -> dict[str, Any]:
    meta = {"case": document.id} | ({"group": document.group} if document.group else {})
    task: dict[str, Any] = {"text": document.text, "meta": meta}
    if document.marks is not None:
        task["spans"] = [
            {"start": m.start, "end": m.end, "label": m.category} for m in document.marks
        ]
    return task | ({"answer": "accept"} if document.annotated else {})
