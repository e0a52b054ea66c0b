"""Case JSONL, line by line, for reports only: gold and all other fields are passed over.

{"id": "C1", "sections": {"Case": "A boy ..."}}

`text` stands in for sections of one heading; a file may also be one JSON array of such objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from crb_dspy.errors import UserError, one_line

BOM = b"\xef\xbb\xbf"
HEADING = "Case report"
EXAMPLE = '{"id": "c1", "text": "A boy ..."}'


def _one_line(text: str | int) -> str:
    name = str(text).strip()
    if not name.isprintable():
        raise ValueError("must be one plain line")
    return name


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True)

    id: Annotated[str | int, AfterValidator(_one_line)]
    sections: dict[Annotated[str, AfterValidator(_one_line)], str]


def read(lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield id and sections of every line; UserError that names a faulty one."""
    first = next(lines, b"").removeprefix(BOM)
    if first.lstrip().startswith(b"["):
        entries = _array(b"".join([first, *lines]), name)
    else:
        whole = chain([first], lines)
        entries = ((f"line {n}", line) for n, line in enumerate(whole, 1) if line.strip())
    for where, text in entries:
        try:
            entry = _Entry.model_validate(_sectioned(_loaded(text)))
        except ValidationError as error:
            # The value itself may be a whole report.
            wrong = error.errors()[0]
            place = ".".join(str(part) for part in wrong["loc"][:2])
            said = f"{place}: {wrong['msg'].lower()}" if place else "it must be an object"
            raise UserError(f"{name}, {where}: {said}; write {EXAMPLE}") from error
        except (ValueError, RecursionError) as error:
            said = f"not JSON: {one_line(error, 80)}; write {EXAMPLE}"
            raise UserError(f"{name}, {where}: {said}") from error
        yield str(entry.id), entry.sections


def _loaded(text: bytes) -> Any:
    """Return what a line holds; ValueError for half a character too, which no file can hold."""
    found = json.loads(text)
    if b"\\ud" in text.lower():
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _array(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not JSON: {one_line(error, 80)}") from error
    return ((f"entry {n}", json.dumps(entry).encode()) for n, entry in enumerate(entries, 1))


def _sectioned(entry: Any) -> Any:
    """Return an entry with its `text` as a section, if it has no sections."""
    if isinstance(entry, dict) and "sections" not in entry and isinstance(entry.get("text"), str):
        return {**entry, "sections": {HEADING: entry["text"]}}
    return entry
