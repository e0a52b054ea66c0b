"""Plain text: a file is a report of one section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crb_dspy.errors import UserError

HEADING = "Report"
_OTHER = {
    b"%PDF": "a PDF, not a text: make one of it first (pdftotext report.pdf report.txt)",
    b"PK\x03\x04": "a Word file or an archive, not a text: save it as plain text first",
    b"\xd0\xcf\x11\xe0": "a Word file, not a text: save it as plain text first",
    b"{\\rtf": "rich text: save it as plain text first",
}


def read(lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the text as it is, line ends included; UserError if it is not UTF-8 text."""
    data = b"".join(lines)
    if other := next((kind for begin, kind in _OTHER.items() if data.startswith(begin)), None):
        raise UserError(f"{name}: {other}")
    text = decoded(data, name)
    if "\0" in text:
        raise UserError(f"{name}: not a text but binary; convert it to text first")
    yield "", {HEADING: text}


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file, without a mark at its beginning; UserError if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = "save it as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1)"
        raise UserError(f"{name}: not UTF-8 at byte {error.start}: {remedy}") from error
