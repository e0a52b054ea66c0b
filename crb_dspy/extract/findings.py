"""The file of findings: a line a report, appended whole, held by one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from crb_dspy.data.readers import Report
from crb_dspy.errors import RunError, UserError
from crb_dspy.files import as_json, write_whole
from crb_dspy.models.server import PATIENCE

Line = dict[str, Any]
_NEEDED = {"id", "findings", "errors", "mended"}


@dataclass(frozen=True)
class Counts:
    """What is in a file of findings; a cell is a category of a report."""

    reports: int = 0
    findings: int = 0
    ungrounded: int = 0
    cells: int = 0
    failed: int = 0
    mended: int = 0


@contextmanager
def held(path: Path) -> Iterator[FindingsFile]:
    """Open findings to be written, held against other runs for as long as this process lives.

    UserError if the file cannot be written or another run holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{path}: another run is writing it; wait for it, or stop it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    with file:
        yield FindingsFile(path, file)


class FindingsFile:
    """A file of findings that is open and held; use it by `held`."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        self._beside = path.with_name(f"{path.name}.run.json")

    def begin(self, identity: Mapping[str, object]) -> None:
        """Note beside the file what it holds; UserError if it was begun with something else."""
        if not self._file.seek(0, os.SEEK_END):
            try:
                write_whole(self._beside, as_json(identity, indent=1) + "\n")
            except OSError as error:
                said = error.strerror or error
                raise UserError(f"{self._beside}: cannot be written: {said}") from error
            return
        then = self._noted()
        if differs := [name for name in identity if then.get(name) != identity[name]]:
            raise UserError(
                f"{self.path}: not the same {differs[0]} as when it was begun; go on with the "
                "same program, model and inputs, or name another --out"
            )

    def note(self, more: Mapping[str, object]) -> None:
        """Add to what is noted beside the file."""
        write_whole(self._beside, as_json({**self._noted(), **more}, indent=1) + "\n")

    def _noted(self) -> Mapping[str, object]:
        try:
            then = json.loads(self._beside.read_bytes())
        except (OSError, ValueError, RecursionError):
            then = None
        if not isinstance(then, dict):
            raise UserError(
                f"{self.path}: not empty, and {self._beside.name} does not say what it holds; "
                "name another --out"
            )
        return then

    def resume(
        self, reports: Iterable[Report], count: int, unanswered: Callable[[Line], int], window: int
    ) -> int:
        """Return how many of the reports, `count` in all, are done; cut off what is not whole.

        Where a run did not come to its end, its server may have been dying. It fails a few times
        before it is given up, and up to `window` reports done before are written after those: so
        much of the end is cut off as holds no more calls that were `unanswered` than can be due
        to that. UserError if the lines are not those of the reports.
        """
        self._file.seek(0)
        lines = size = 0
        # The last of those that were asked about: where they begin, and how often in vain.
        last: deque[tuple[int, int, int]] = deque(maxlen=PATIENCE + window)
        for line, report in zip(self._file, reports, strict=False):
            if (row := _row(line)) is None:
                break
            if row["id"] != report.case.id:
                raise UserError(
                    f"{self.path}, line {lines + 1}: '{row['id']}' where '{report.case.id}' "
                    "belongs; name another --out"
                )
            if not report.error:
                last.append((lines, size, unanswered(row)))
            lines, size = lines + 1, size + len(line)
        if lines < count:
            lines, size = _certain(last, (lines, size))
        self._file.truncate(size)
        return lines

    def append(self, row: Line) -> None:
        """Write a line that is on the disk when this returns."""
        try:
            self._file.write(f"{as_json(row)}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            said = f"{self.path}: {error.strerror or error}"
            raise RunError(f"{said}; make room, and the same command goes on") from error

    def rows(self) -> Iterator[Line]:
        """Yield what all lines hold, one at a time."""
        with self.path.open("rb") as file:
            yield from filter(None, map(_row, file))

    def total(self, count: Callable[[Line], int], reports: Iterable[Report], lines: int) -> int:
        """Return the sum of a count over the first lines, but those of unreadable reports."""
        pairs = islice(zip(self.rows(), reports, strict=False), lines)
        return sum(count(row) for row, report in pairs if not report.error)

    def rewrite(self, rows: Iterable[Line]) -> None:
        """Put these in the place of as many first lines, at once when all are there."""
        draft = self.path.with_name(f".{self.path.name}.again")
        try:
            with draft.open("w+b") as file:
                # The file that takes the place is held before it does.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                before = self.rows()
                for row in rows:
                    next(before)
                    file.write(f"{as_json(row)}\n".encode())
                for row in before:
                    file.write(f"{as_json(row)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
                draft.replace(self.path)
        except OSError as error:
            said = f"{self.path}: {error.strerror or error}"
            raise RunError(f"{said}; make room, and the same command goes on") from error
        finally:
            draft.unlink(missing_ok=True)

    def counts(self) -> Counts:
        """Count what all lines hold, one at a time."""
        total = Counts()
        for row in self.rows():
            quotes = [quote for found in row["findings"].values() for quote in found]
            total = replace(
                total,
                reports=total.reports + 1,
                findings=total.findings + len(quotes),
                ungrounded=total.ungrounded
                + sum("quote" in q and q["start"] is None for q in quotes),
                cells=total.cells + len(row["findings"]),
                failed=total.failed + len(row["errors"]),
                mended=total.mended + len(row["mended"]),
            )
        return total


def _certain(last: Iterable[tuple[int, int, int]], end: tuple[int, int]) -> tuple[int, int]:
    """Return line and byte up to which a file that ends there is not in doubt."""
    failures = 0
    for line, at, failed in reversed(list(last)):
        failures += failed
        # As many in a row end a run; asked again all at once, they would end the next one too.
        if failures >= PATIENCE:
            break
        end = (line, at) if failed else end
    return end


def _row(line: bytes) -> Line | None:
    """Return a line's row, None for one that was not written to its end."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and set(row) >= _NEEDED else None
