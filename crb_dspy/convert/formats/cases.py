"""Case JSONL of this project, and what `extract` writes: a line a report.

    {"id": "c1", "sections": {"Case": "No fever."}, "gold": {"GI": ["No fever"]},
     "places": {"GI": [[8, 16]]}}
    {"id": "c1", "sections": {"Case": "No fever."}, "findings": {"GI": [{"quote": ...}]}}

`places` are where the gold quotes stand in the text of the case, in their order; without them a
quote is marked at the first place that it can mean. `findings` are a program's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from crb_dspy.convert.documents import Answer, Document, Mark, as_case, by_category, in_order
from crb_dspy.data.benchmarks.source import lines
from crb_dspy.data.cases import Case
from crb_dspy.data.findings import finding, findings_of
from crb_dspy.errors import UserError, explained
from crb_dspy.files import as_json, write_whole
from crb_dspy.quotes.grounding import Placement, Status, ground

ABOUT = "case JSONL, and what extract writes"
SUFFIX = ".jsonl"
ANSWERS = True

Span = tuple[int, int]
T = TypeVar("T")


class _Finding(BaseModel):
    # What says more than a quote is of another kind.
    model_config = ConfigDict(extra="forbid")

    quote: str
    status: str = ""
    section: str | None = None
    section_start: int | None = None
    also: list[Span] = []
    start: int | None = None
    end: int | None = None


_QUOTES = TypeAdapter(list[str])
_FINDINGS = TypeAdapter(list[str | _Finding])


class _Line(BaseModel):
    model_config = ConfigDict(strict=False)

    id: str = Field(min_length=1, coerce_numbers_to_str=True)
    sections: dict[str, str]
    group: str = Field("", coerce_numbers_to_str=True)
    gold: dict[str, Any] | None = None
    places: dict[str, list[Span]] = Field(default_factory=dict)
    findings: dict[str, Any] | None = None


def read(path: Path) -> Iterator[Document]:
    """Yield the reports of a file; UserError names a faulty line."""
    for where, entry in lines(path.read_bytes(), str(path)):
        try:
            yield _document(_Line.model_validate(entry))
        except ValidationError as error:
            raise UserError(f"{where}: {explained(error)[:200]}") from error


def _document(line: _Line) -> Document:
    case = Case(line.id, line.sections)
    predicted = line.gold is None and line.findings is not None
    if line.gold is not None:
        given = line.gold
        own = ((key, _read(_QUOTES, found)) for key, found in given.items())
        quotes = {k: _placed_gold(q, line.places.get(k, ())) for k, q in own if q is not None}
    elif line.findings is not None:
        given = line.findings
        told = ((key, _read(_FINDINGS, found)) for key, found in given.items())
        quotes = {key: [_given(one) for one in found] for key, found in told if found is not None}
    else:
        return Document(line.id, case.text, None, line.group)
    marks, loose = _placed(case.text, quotes)
    return Document(line.id, case.text, marks, line.group, predicted, loose, given)


def unread(document: Document) -> list[str]:
    """Return the categories under which stands what is no list of quotes."""
    form: TypeAdapter[Any] = _FINDINGS if document.predicted else _QUOTES
    return [key for key, value in document.given.items() if _read(form, value) is None]


def _read(form: TypeAdapter[list[T]], value: object) -> list[T] | None:
    try:
        return form.validate_python(value)
    except ValidationError:
        return None


def _placed_gold(quotes: Sequence[str], spans: Sequence[Span]) -> list[tuple[str, Span | None]]:
    known = [*spans, *[None] * len(quotes)] if len(spans) == len(quotes) else [None] * len(quotes)
    return list(zip(quotes, known, strict=False))


def _given(one: str | _Finding) -> tuple[str, Span | None]:
    if isinstance(one, str):
        return one, None
    return one.quote, None if one.start is None or one.end is None else (one.start, one.end)


def _placed(
    text: str, quotes: Mapping[str, Sequence[tuple[str, Span | None]]]
) -> tuple[tuple[Mark, ...], tuple[tuple[str, str], ...]]:
    marks, loose = [], []
    for key, found in quotes.items():
        for quote, span in found:
            place = ground(text, quote)
            # What the file says is taken where the text bears it out: it may have been edited.
            sure = span is not None and (text[slice(*span)] == quote or span in place.spans)
            if sure and span:
                marks.append(Mark(*span, key))
            elif place.spans:
                marks.append(Mark(*place.spans[0], key))
            else:
                loose.append((key, quote))
    return in_order(marks), tuple(loose)


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a line a document: what people marked as gold, what a program marked as findings."""
    write_whole(path, "".join(f"{as_json(_entry(document))}\n" for document in documents))


def _answer(answer: Answer) -> Any:
    """Return an answer as people write it, its items where that would lose some."""
    plain = answer.kind.plain(answer.items)
    return plain if answer.kind.gold(plain) == answer.items else list(answer.items)


def _entry(document: Document) -> dict[str, Any]:
    case, marks = as_case(document)
    if not any(text.strip() for text in case.sections.values()):
        raise UserError(f"document '{document.id}': its text is empty; leave it out")
    entry: dict[str, Any] = {"id": case.id, "sections": dict(case.sections)}
    if document.group:
        entry["group"] = document.group
    if marks is None:
        return entry
    found, text, answers = by_category(marks), case.text, document.answers
    quotes = {key: [text[m.start : m.end] for m in own] for key, own in found.items()}
    if not document.predicted:
        places = {key: [[m.start, m.end] for m in own] for key, own in found.items()}
        own = {key: _answer(answer) for key, answer in answers.items()}
        return {**entry, "gold": quotes | own, "places": places}
    findings = {
        key: [
            finding(case, Placement(text[m.start : m.end], Status.EXACT, ((m.start, m.end),)))
            for m in own
        ]
        for key, own in found.items()
    }
    own = {key: findings_of(case, answer.kind, answer.items) for key, answer in answers.items()}
    return {**entry, "findings": findings | own}
