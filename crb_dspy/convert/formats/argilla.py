"""Argilla 2: the records of a dataset with a text field and a span question, as JSON.

What is no mark is a question with the name of its category: of labels where options are offered,
else of text, an item a line.

    [{"id": "c1", "fields": {"text": "No fever."}, "metadata": {},
      "suggestions": {"span": {"value": [{"start": 0, "end": 8, "label": "GI"}],
                               "score": null, "agent": "crb_dspy"}}, "responses": {}}]

`dataset.records.from_json` reads it and `dataset.records.to_json` writes it. Answers belong to a
user of the server, so marks of people are written as suggestions too, by the agent "gold".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crb_dspy.convert.documents import Document, in_order, json_list, mark
from crb_dspy.errors import UserError, explained
from crb_dspy.files import as_json, write_whole

ABOUT = "Argilla: JSON of records with a span question"
SUFFIX = ".json"
ANSWERS = True
_GOLD = "gold"


class _Span(BaseModel):
    start: int
    end: int
    label: str


class _Spans(BaseModel):
    value: list[_Span]
    agent: str | None = None
    status: str | None = None


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str | None = None
    fields: dict[str, Any]
    metadata: dict[str, Any] = Field(default_factory=dict)
    suggestions: dict[str, Any] = Field(default_factory=dict)
    responses: dict[str, list[Any]] = Field(default_factory=dict)


def read(path: Path) -> Iterator[Document]:
    """Yield the records of an export, with their first answer that was not discarded."""
    for number, entry in enumerate(json_list(path, "Argilla"), 1):
        where = f"{path}, record {number}"
        try:
            yield _document(where, _Record.model_validate(entry), number)
        except ValidationError as error:
            raise UserError(f"{where}: {explained(error)[:200]}") from error


def _document(where: str, record: _Record, number: int) -> Document:
    text, name = _text(where, record.fields), record.id or str(number)
    group = str(record.metadata.get("group") or "")
    answers = [_Spans.model_validate(one) for one in _spans(record.responses.values())]
    kept = [answer for answer in answers if answer.status not in ("discarded", "draft")]
    given = [_Spans.model_validate(one) for one in _spans([[*record.suggestions.values()]])]
    chosen, others = next(iter(kept + given), None), _others(record)
    if chosen is None and not others:
        return Document(name, text, None, group)
    spans = chosen.value if chosen else ()
    marks = in_order(mark(where, text, (s.start, s.end), s.label) for s in spans)
    agents = [one.get("agent") for one in record.suggestions.values() if isinstance(one, Mapping)]
    answered = kept or any(map(_submitted, record.responses.values()))
    return Document(name, text, marks, group, not answered and _GOLD not in agents, given=others)


def _submitted(answers: Sequence[Any]) -> list[Any]:
    """Return the answers to a question that count."""
    known = [one for one in answers if isinstance(one, Mapping)]
    return [one for one in known if one.get("status") not in ("discarded", "draft")]


def _others(record: _Record) -> dict[str, object]:
    """Return what questions that ask for no spans were answered, or are suggested."""
    told = {name: [one] for name, one in record.suggestions.items() if isinstance(one, Mapping)}
    told |= {name: own for name, one in record.responses.items() if (own := _submitted(one))}
    values = {name: one[0].get("value") for name, one in told.items()}
    texts = {n: v.split("\n") if isinstance(v, str) else v for n, v in values.items()}
    return {n: v for n, v in texts.items() if isinstance(v, list) and all_texts(v)}


def all_texts(values: Sequence[object]) -> bool:
    """Say whether these are texts, one at least."""
    return bool(values) and all(isinstance(one, str) for one in values)


def _spans(questions: Any) -> Iterator[object]:
    """Yield the answers to span questions among those to all: their values are lists of spans."""
    for answers in questions:
        for answer in answers:
            value = answer.get("value") if isinstance(answer, Mapping) else None
            spans = isinstance(value, list) and all(
                isinstance(one, Mapping) and "start" in one for one in value
            )
            if spans:
                yield answer


def _text(where: str, fields: Mapping[str, Any]) -> str:
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    if not texts:
        raise UserError(f"{where}: no field with a text")
    return texts.get("text") or max(texts.values(), key=len)


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write records to log, with marks as suggestions."""
    write_whole(path, as_json([_record(document) for document in documents], indent=1) + "\n")


def _record(document: Document) -> dict[str, Any]:
    suggestions: dict[str, Any] = {}
    agent = "crb_dspy" if document.predicted else _GOLD
    if document.marks is not None:
        spans = [{"start": m.start, "end": m.end, "label": m.category} for m in document.marks]
        suggestions = {"span": {"value": spans, "score": None, "agent": agent}}
    for key, own in document.answers.items():
        value: Any = "\n".join(own.items)
        if own.kind.offered:
            options = [own.kind.chosen(item) for item in own.items]
            value = options if own.kind.many else options[0]
        suggestions[key] = {"value": value, "score": None, "agent": agent}
    return {
        "id": document.id,
        "fields": {"text": document.text},
        "metadata": {"group": document.group} if document.group else {},
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
    }
