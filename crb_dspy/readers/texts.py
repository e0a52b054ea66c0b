"""Plain text: a file is a report of one section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crb_dspy.errors import UserError

HEADING = "Report"


def read(lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the text as it is, line ends included; UserError if it is not UTF-8 text."""
    data = b"".join(lines)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = "save it as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1)"
        raise UserError(f"{name}: not UTF-8 at byte {error.start}: {remedy}") from error
    if "\0" in text:
        raise UserError(f"{name}: not a text but binary; convert it to text first")
    yield "", {HEADING: text}
