"""What every annotation tool keeps: a text, and marks in it under the names of categories."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from crb_dspy.data.benchmarks.source import decoded
from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind
from crb_dspy.errors import UserError

# Of a text without headings of its own.
HEADING = "Report"
_SECTION = re.compile(r"(?:\A|\n\n)## ([^\n]*)\n")


@dataclass(frozen=True, order=True)
class Mark:
    """A stretch [start, end) of a text, in characters (code points), and its category."""

    start: int
    end: int
    category: str


@dataclass(frozen=True)
class Answer:
    """What stands under a category that is no mark in the text: items, as its kind writes them."""

    kind: Kind
    items: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A text with its marks; None where nobody and nothing has annotated it.

    `predicted` marks are a program's, to be corrected. `loose` are quotes, with their category,
    that stand nowhere in the text, and so cannot be marked. `given` is what stands under
    categories that may hold something else, as the file has it; `answered` makes `answers` of it.
    """

    id: str
    text: str
    marks: tuple[Mark, ...] | None
    group: str = ""
    predicted: bool = False
    loose: tuple[tuple[str, str], ...] = field(default=())
    given: Mapping[str, object] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def annotated(self) -> bool:
        """Whether a person has marked it, or looked and found nothing."""
        return self.marks is not None and not self.predicted


def mark(where: str, text: str, span: tuple[int, int], category: str) -> Mark:
    """Return a mark; UserError if it does not lie in the text or has no category."""
    start, end = span
    if not 0 <= start < end <= len(text):
        raise UserError(f"{where}: a mark at {start} to {end}, in a text of {len(text)} characters")
    if not category.strip():
        raise UserError(f"{where}: the mark at {start} to {end} has no label")
    return Mark(start, end, category)


def in_order(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """Return marks by place, none of them twice."""
    return tuple(sorted(set(marks)))


def answered(document: Document, kinds: Mapping[str, Kind]) -> Document:
    """Return a document whose categories of these kinds hold answers, in place of marks.

    Marks of such a category, and rows of a table, are its items. UserError for what a kind
    cannot read.
    """
    marks, answers = document.marks or (), dict[str, Answer]()
    for key, kind in kinds.items():
        told = [document.text[m.start : m.end] for m in marks if m.category == key]
        told += [quote for category, quote in document.loose if category == key]
        value = document.given.get(key, told)
        if value in ([], None, ""):
            continue
        try:
            answers[key] = Answer(kind, kind.gold(value))
        except ValueError as error:
            raise UserError(f"document '{document.id}': {key}: {error}") from error
    kept = tuple(m for m in marks if m.category not in kinds)
    return replace(
        document,
        marks=None if document.marks is None and not answers else kept,
        loose=tuple(one for one in document.loose if one[0] not in kinds),
        given={key: value for key, value in document.given.items() if key not in kinds},
        answers=answers,
    )


def as_case(document: Document) -> tuple[Case, tuple[Mark, ...] | None]:
    """Return a document as a case without gold, and its marks in the text of that case.

    A text that begins with a heading line ("## Course") is cut at such lines, so that the text of
    the case is the same; any other becomes one section, and its marks move by that heading.
    """
    sections, shift = _sections(document.text)
    case = Case(document.id, sections, None, document.group)
    if document.marks is None:
        return case, None
    return case, tuple(Mark(m.start + shift, m.end + shift, m.category) for m in document.marks)


def _sections(text: str) -> tuple[dict[str, str], int]:
    found = list(_SECTION.finditer(text))
    if not found or found[0].start() or not found[0][1].isprintable():
        return {HEADING: text}, len(f"## {HEADING}\n")
    ends = [match.start() for match in found[1:]] + [len(text)]
    cut = {match[1]: text[match.end() : end] for match, end in zip(found, ends, strict=True)}
    if len(cut) == len(found) and all(heading.isprintable() for heading in cut):
        return cut, 0
    # A heading that stands twice: what follows the first is one section.
    return {found[0][1]: text[found[0].end() :]}, 0


def by_category(marks: Sequence[Mark]) -> dict[str, list[Mark]]:
    """Return marks by category, in the order of their first."""
    found: dict[str, list[Mark]] = {}
    for one in marks:
        found.setdefault(one.category, []).append(one)
    return found


def json_list(path: Path, kind: str) -> list[object]:
    """Read a file that is one JSON list; UserError if it is anything else."""
    try:
        value = json.loads(decoded(path).removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, list):
        raise UserError(f"{path}: not a JSON list, as {kind} exports it")
    return value


def writable(document: Document, wanted: str) -> None:
    """UserError if a text holds what XML and UTF-8 cannot: control characters, lone surrogates."""
    if bad := _UNWRITABLE.search(document.text):
        raise UserError(
            f"document '{document.id}': character U+{ord(bad[0]):04X} at {bad.start()} cannot be "
            f"written as {wanted}; take it out of the report"
        )


_UNWRITABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
