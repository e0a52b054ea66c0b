"""One's own reports, read one at a time: text files, case JSONL, tables, JATS XML."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from crb_dspy.data.cases import Case
from crb_dspy.data.readers import entries, jats, parquet, remote, tables, texts
from crb_dspy.errors import UserError
from crb_dspy.files import plain_file

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
    ".json": entries.read,
    ".parquet": parquet.read,
    ".csv": tables.read,
    ".tsv": tables.read,
    ".xlsx": tables.read,
    ".xml": jats.read,
    ".nxml": jats.read,
    ".txt": texts.read,
    ".text": texts.read,
    ".md": texts.read,
}
# In a folder there may be JSON and tables of all kinds: they are read where they are named, tables
# where their columns are.
NAMED = (".json", ".csv", ".tsv", ".xlsx")


@dataclass(frozen=True)
class _File:
    path: Path
    # What its report is called if it does not say so itself.
    name: str
    # Where it is, if that is no path of this machine.
    uri: str = ""


@dataclass(frozen=True)
class Place:
    """Where a report begins: the number of its file, a byte of it, and how many come before.

    A line of JSONL is found by its byte; a report in another file is one of those read from it.
    """

    file: int
    offset: int
    index: int


class Counted:
    """The lines of a file, with the byte at which the last one began."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines, self.before, self._end = lines, 0, 0

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> bytes:
        line = next(self._lines)
        self.before, self._end = self._end, self._end + len(line)
        return line


@dataclass(frozen=True)
class Reports:
    """The reports of some files, in order; each iteration reads them anew, one at a time.

    A file that cannot be read is a report with an error, and so is an empty report; a faulty
    line of JSONL, or a table without the columns that are wanted (`columns`, as `tables.read` has
    them), is a UserError, since it says that the data are of another kind. An id that
    was there before gets "#2", "#3" and so on. `ignored` counts what lies in a folder and is of
    no known kind, or no file, as a link that leads nowhere.
    """

    files: tuple[_File, ...]
    ignored: int = 0
    stdin: bytes = b""
    columns: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Report]:
        for report, _ in self.placed():
            yield report

    def placed(self) -> Iterator[tuple[Report, Place]]:
        """Yield the reports with the places from which they can be read again."""
        times: dict[str, int] = {}
        for number, file in enumerate(self.files):
            lines = Counted(self._lines(file))
            each = file.path.suffix.lower() in (".jsonl",)
            for index, report in enumerate(self._read(file, lines)):
                place = Place(number, lines.before if each else 0, 0 if each else index)
                name = report.case.id
                while name in times:
                    times[report.case.id] += 1
                    name = f"{report.case.id}#{times[report.case.id]}"
                times[name] = 1
                case = report.case
                # Its cached text need not be made anew.
                if name != case.id:
                    report = replace(report, case=Case(name, case.sections))
                yield report, place

    def again(self, place: Place) -> Iterator[Report]:
        """Yield the reports of a file from a place on, under the names that the file gives."""
        file = self.files[place.file]
        return islice(self._read(file, self._lines(file, place.offset)), place.index, None)

    def _read(self, file: _File, lines: Iterator[bytes]) -> Iterator[Report]:
        source, suffix = file.uri or str(file.path), file.path.suffix.lower()
        read = READERS.get(suffix, texts.read)
        if self.columns and suffix in tables.KINDS:
            read = partial(tables.read, columns=self.columns)
        try:
            for name, sections in read(lines, source):
                case = Case(name or file.name, sections)
                empty = not any(text.strip() for text in sections.values())
                yield Report(case, source, "the report is empty" if empty else "")
        except (OSError, UserError) as error:
            if read not in (parquet.read, jats.read, texts.read):
                raise UserError(_said(error, source)) from error
            yield Report(Case(file.name, {}), source, _said(error, source))

    def _lines(self, file: _File, offset: int = 0) -> Iterator[bytes]:
        if str(file.path) == STDIN:
            yield self.stdin
            return
        with remote.opened(file.uri) if file.uri else file.path.open("rb") as opened:
            opened.seek(offset)
            yield from opened


def reports(
    names: Sequence[str], leave_out: Path, columns: Mapping[str, str] | None = None
) -> Reports:
    """Return the reports of files, folders (with all that is below them) and "-", stdin.

    In the order given, a folder's sorted by path; hidden files and `leave_out`, with all that is
    below it, are passed over.
    The id of a text file is its name, below a folder its path, without the ending. A name with
    "://" is a file or folder of whatever pyarrow reaches (s3, gs, hdfs). `columns` are those of
    tables. UserError for what is not there.
    """
    files: list[_File] = []
    ignored, own = 0, leave_out.resolve()
    for name in names:
        if "://" in name:
            files += [_File(Path(its), its_name, uri) for uri, its, its_name in remote.below(name)]
            continue
        if name == STDIN or not Path(name).is_dir():
            files.append(_single(name))
            continue
        below = [file for file in _below(Path(name)) if not file.path.resolve().is_relative_to(own)]
        endings = READERS.keys() - {*NAMED} | {*(tables.KINDS if columns else ())}
        known = [f for f in below if f.path.suffix.lower() in endings and f.path.is_file()]
        files += known
        ignored += len(below) - len(known)
    if not files:
        kinds = ", ".join(READERS)
        raise UserError(f"{', '.join(names)}: no report in it; known endings are {kinds}")
    if columns and not any(file.path.suffix.lower() in tables.KINDS for file in files):
        raise UserError(f"--columns is for tables, and there is none: {', '.join(tables.KINDS)}")
    stdin = sys.stdin.buffer.read() if STDIN in names else b""
    return Reports(tuple(files), ignored, stdin, columns or {})


def _single(name: str) -> _File:
    path = Path(name)
    if name == STDIN:
        return _File(path, "stdin")
    if not path.exists():
        raise UserError(f"{name}: no such file or folder of reports")
    if wrong := plain_file(path):
        raise UserError(f"{name}: {wrong}, or give - and send it to the command")
    return _File(path, path.stem)


def _below(folder: Path) -> Iterator[_File]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent) / name
            if not name.startswith("."):
                yield _File(path, path.relative_to(folder).with_suffix("").as_posix())


def _said(error: OSError | UserError, source: str) -> str:
    if isinstance(error, OSError):
        return f"{source}: cannot be read: {error.strerror or error}"
    return str(error)
