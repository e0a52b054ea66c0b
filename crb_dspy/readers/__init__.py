"""One's own reports, read one at a time: text files, case JSONL, articles in JATS XML."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crb_dspy.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.readers import entries, jats, texts

STDIN = "-"


@dataclass(frozen=True)
class Report:
    """A report as a case without gold, where it was read, and why it could not be, if so."""

    case: Case
    source: str
    error: str = ""


# From the bytes of a file, line by line, and its name to (id or "", sections) of each report.
Reader = Callable[[Iterator[bytes], str], Iterator[tuple[str, Mapping[str, str]]]]
READERS: Mapping[str, Reader] = {
    ".jsonl": entries.read,
    ".xml": jats.read,
    ".nxml": jats.read,
    ".txt": texts.read,
    ".text": texts.read,
    ".md": texts.read,
}


@dataclass(frozen=True)
class _File:
    path: Path
    # What its report is called if it does not say so itself.
    name: str


@dataclass(frozen=True)
class Reports:
    """The reports of some files, in order; each iteration reads them anew, one at a time.

    A file that cannot be read is a report with an error, and so is an empty report; a faulty
    line of JSONL is a UserError, since it says that the data are of another kind. An id that
    was there before gets "#2", "#3" and so on. `ignored` counts files of a folder that are of
    no known kind.
    """

    files: tuple[_File, ...]
    ignored: int = 0
    stdin: bytes = b""

    def __iter__(self) -> Iterator[Report]:
        times: dict[str, int] = {}
        for file in self.files:
            for report in self._read(file):
                name = report.case.id
                while name in times:
                    times[report.case.id] += 1
                    name = f"{report.case.id}#{times[report.case.id]}"
                times[name] = 1
                case = report.case
                # Its cached text need not be made anew.
                yield report if name == case.id else replace(report, case=Case(name, case.sections))

    def _read(self, file: _File) -> Iterator[Report]:
        source = str(file.path)
        read = READERS.get(file.path.suffix.lower(), texts.read)
        try:
            for name, sections in read(self._lines(file), source):
                case = Case(name or file.name, sections)
                empty = not any(text.strip() for text in sections.values())
                yield Report(case, source, "the report is empty" if empty else "")
        except (OSError, UserError) as error:
            if read is entries.read:
                raise UserError(_said(error, source)) from error
            yield Report(Case(file.name, {}), source, _said(error, source))

    def _lines(self, file: _File) -> Iterator[bytes]:
        if str(file.path) == STDIN:
            yield self.stdin
            return
        with file.path.open("rb") as opened:
            yield from opened


def reports(names: Sequence[str], leave_out: Path) -> Reports:
    """Return the reports of files, folders (with all that is below them) and "-", stdin.

    In the order given, a folder's sorted by path; hidden files and `leave_out`, with all that is
    below it, are passed over.
    The id of a text file is its name, below a folder its path, without the ending. UserError
    for what is not there.
    """
    files: list[_File] = []
    ignored, own = 0, leave_out.resolve()
    for name in names:
        if name == STDIN or not Path(name).is_dir():
            files.append(_single(name))
            continue
        below = [file for file in _below(Path(name)) if not file.path.resolve().is_relative_to(own)]
        known = [file for file in below if file.path.suffix.lower() in READERS]
        files += known
        ignored += len(below) - len(known)
    if not files:
        kinds = ", ".join(READERS)
        raise UserError(f"{', '.join(names)}: no report in it; known endings are {kinds}")
    stdin = sys.stdin.buffer.read() if STDIN in names else b""
    return Reports(tuple(files), ignored, stdin)


def _single(name: str) -> _File:
    path = Path(name)
    if name == STDIN:
        return _File(path, "stdin")
    if not path.exists():
        raise UserError(f"{name}: no such file or folder of reports")
    return _File(path, path.stem)


def _below(folder: Path) -> Iterator[_File]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent) / name
            if not name.startswith(".") and path.is_file():
                yield _File(path, path.relative_to(folder).with_suffix("").as_posix())


def _said(error: OSError | UserError, source: str) -> str:
    if isinstance(error, OSError):
        return f"{source}: cannot be read: {error.strerror or error}"
    return str(error)
