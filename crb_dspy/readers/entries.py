"""Case JSONL, line by line, for reports only: gold and all other fields are passed over.

{"id": "C1", "sections": {"Case": "A boy ..."}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from crb_dspy.errors import UserError

BOM = b"\xef\xbb\xbf"


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
    for number, line in enumerate(lines, 1):
        if not (text := line.removeprefix(BOM) if number == 1 else line).strip():
            continue
        try:
            entry = _Entry.model_validate_json(text)
        except ValidationError as error:
            # The value itself may be a whole report.
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"][:2])
            said = f"{place}: {first['msg'].lower()}" if place else first["msg"]
            raise UserError(f"{name}, line {number}: {said}") from error
        yield str(entry.id), entry.sections
