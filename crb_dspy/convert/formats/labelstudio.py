"""Label Studio: its JSON (and JSON-MIN) export, and tasks to import.

    [{"data": {"text": "No fever.", "case": "c1"},
      "predictions": [{"model_version": "crb_dspy", "result": [
        {"id": "m0", "from_name": "label", "to_name": "text", "type": "labels",
         "value": {"start": 0, "end": 8, "text": "No fever", "labels": ["GI"]}}]}]}]

What is no mark is a result of type "choices" where options are offered, else "textarea", by the
key of its category. Of several annotations of a task the ground truth is taken, else the last
that was not cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import escape
from pydantic import BaseModel, ValidationError

from crb_dspy.convert.documents import Answer, Document, Mark, in_order, json_list, mark
from crb_dspy.data.kind import Kind
from crb_dspy.errors import UserError, explained
from crb_dspy.files import as_json, write_whole

ABOUT = "Label Studio: JSON export, tasks with annotations or predictions"
SUFFIX = ".json"
ANSWERS = True
_NONE: Mapping[str, Kind] = {}
_KINDS = ("labels", "hypertextlabels")
# Of results that are no marks, where their value stands.
_VALUES = {"choices": "choices", "textarea": "text", "number": "number", "datetime": "datetime"}
# Of JSON-MIN, what is no answer.
_COLUMNS = (
    *("id", "case", "group", "annotator", "annotation_id", "created_at", "updated_at"),
    "lead_time",
)


class _Result(BaseModel):
    type: str = ""
    from_name: str = ""
    value: dict[str, Any] = {}


class _Annotation(BaseModel):
    result: list[_Result] = []
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(BaseModel):
    id: int | str | None = None
    data: dict[str, Any]
    annotations: list[_Annotation] = []
    # An export names them by number only.
    predictions: list[_Annotation | int] = []


def read(path: Path) -> Iterator[Document]:
    """Yield the tasks of an export; UserError names a faulty one."""
    for number, entry in enumerate(json_list(path, "Label Studio"), 1):
        where = f"{path}, task {number}"
        try:
            yield _document(where, _Task.model_validate(_whole(entry)), number)
        except ValidationError as error:
            raise UserError(f"{where}: {explained(error)[:200]}") from error


def _whole(entry: object) -> object:
    """Return a task of the JSON-MIN export, which has its data at the top, in the whole form."""
    if not isinstance(entry, Mapping) or "data" in entry:
        return entry
    lists = [value for value in entry.values() if isinstance(value, list)]
    spans = [span for value in lists for span in value if isinstance(span, Mapping)]
    result = [{"type": "labels", "value": span} for span in spans if "start" in span]
    own = {k: v for k, v in entry.items() if k not in _COLUMNS and k not in ("text", "report")}
    for key, value in own.items():
        texts = value.get("choices") if isinstance(value, Mapping) else value
        texts = [texts] if isinstance(texts, str) else texts
        if isinstance(texts, list) and texts and all(isinstance(one, str) for one in texts):
            result += [{"type": "textarea", "from_name": key, "value": {"text": texts}}]
    done = [{"result": result}] if "annotation_id" in entry or spans else []
    return {"id": entry.get("id"), "data": entry, "annotations": done}


def _document(where: str, task: _Task, number: int) -> Document:
    text = _text(where, task.data)
    named = task.data.get("case", task.id if task.id is not None else number)
    group = str(task.data.get("group") or "")
    done = [a for a in task.annotations if not a.was_cancelled]
    done.sort(key=lambda annotation: annotation.ground_truth)
    guesses = [p for p in task.predictions if isinstance(p, _Annotation)]
    chosen = (done or guesses)[-1:]
    marks = [in_order(_marks(where, text, annotation)) for annotation in chosen]
    given: dict[str, object] = {}
    for annotation in chosen:
        given |= _given(annotation)
    predicted = bool(marks and not done)
    return Document(str(named), text, marks[0] if marks else None, group, predicted, given=given)


def _given(annotation: _Annotation) -> dict[str, list[str]]:
    """Return what stands under names of controls that mark no text."""
    found: dict[str, list[str]] = {}
    for result in annotation.result:
        if result.type in _VALUES and result.from_name:
            value = result.value.get(_VALUES[result.type], [])
            texts = value if isinstance(value, list) else [value]
            found.setdefault(result.from_name, []).extend(map(str, texts))
    return found


def _text(where: str, data: Mapping[str, Any]) -> str:
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    for key in ("text", "report"):
        if key in texts:
            return texts[key]
    if not texts:
        raise UserError(f"{where}: no text in its data; {', '.join(data) or 'nothing'} is there")
    return max(texts.values(), key=len)


def _marks(where: str, text: str, annotation: _Annotation) -> Iterator[Mark]:
    for result in annotation.result:
        if result.type not in _KINDS:
            continue
        value = result.value
        labels = value.get("labels") or value.get("hypertextlabels") or []
        for label in labels:
            yield mark(where, text, _span(where, text, value), str(label))


def _span(where: str, text: str, value: Mapping[str, Any]) -> tuple[int, int]:
    """Return a region's place in code points: older versions count UTF-16 units, as browsers do."""
    given = value.get("globalOffsets") or value
    start, end, quote = given.get("start"), given.get("end"), value.get("text")
    if not isinstance(start, int) or not isinstance(end, int):
        raise UserError(f"{where}: a region at {start!r} to {end!r}; offsets are whole numbers")
    if quote is None or text[start:end] == quote:
        return start, end
    units = text.encode("utf-16-le", "surrogatepass")
    before, inside = units[: 2 * start], units[2 * start : 2 * end]
    found = inside.decode("utf-16-le", "replace")
    if found != quote:
        raise UserError(f"{where}: the text has {found[:40]!r} at {start}, not {str(quote)[:40]!r}")
    at = len(before.decode("utf-16-le", "replace"))
    return at, at + len(found)


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write tasks to import: marks of people as annotations, a program's as predictions."""
    write_whole(path, as_json([_task(document) for document in documents], indent=1) + "\n")


def _task(document: Document) -> dict[str, Any]:
    data = {"text": document.text, "case": document.id}
    if document.group:
        data["group"] = document.group
    if document.marks is None:
        return {"data": data}
    result = [
        {
            "id": f"m{number}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {
                "start": m.start,
                "end": m.end,
                "text": document.text[m.start : m.end],
                "labels": [m.category],
            },
        }
        for number, m in enumerate(document.marks)
    ]
    result += [_answer(key, answer) for key, answer in document.answers.items()]
    if document.predicted:
        return {"data": data, "predictions": [{"model_version": "crb_dspy", "result": result}]}
    return {"data": data, "annotations": [{"result": result}]}


def _answer(key: str, answer: Answer) -> dict[str, Any]:
    about = {"id": key, "from_name": key, "to_name": "text"}
    if answer.kind.offered:
        chosen = [answer.kind.chosen(item) for item in answer.items]
        return {**about, "type": "choices", "value": {"choices": chosen}}
    return {**about, "type": "textarea", "value": {"text": list(answer.items)}}


def interface(categories: Sequence[str], kinds: Mapping[str, Kind] = _NONE) -> str:
    """Return the labelling interface that a project needs to show these categories.

    `kinds` are those of further ones, which are no marks in the text.
    """
    labels = "".join(f'<Label value="{escape(name)}"/>' for name in categories)
    return (
        f'<View><Labels name="label" toName="text">{labels}</Labels>'
        f'<Text name="text" value="$text"/>{"".join(map(_control, kinds.items()))}</View>'
    )


def _control(own: tuple[str, Kind]) -> str:
    key, kind = own
    head = f'<Header value="{escape(key)}"/>'
    if not kind.offered:
        return f'{head}<TextArea name="{escape(key)}" toName="text" maxSubmissions="100"/>'
    choices = "".join(f'<Choice value="{escape(option)}"/>' for option in kind.offered)
    how = "multiple" if kind.many else "single"
    return f'{head}<Choices name="{escape(key)}" toName="text" choice="{how}">{choices}</Choices>'
