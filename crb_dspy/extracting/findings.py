"""The file of findings: a line a report, appended whole, held by one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from crb_dspy.errors import RunError, UserError
from crb_dspy.models.line import PATIENCE
from crb_dspy.readers import Report
from crb_dspy.saved import as_json, write_whole

Row = dict[str, Any]


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
def held(path: Path) -> Iterator[Findings]:
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
        yield Findings(path, file)


class Findings:
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

    def _noted(self) -> Mapping[str, object]:
        try:
            then = json.loads(self._beside.read_bytes())
        except (OSError, ValueError):
            then = None
        if not isinstance(then, dict):
            raise UserError(
                f"{self.path}: not empty, and {self._beside.name} does not say what it holds; "
                "name another --out"
            )
        return then

    def resume(
        self, reports: Iterable[Report], count: int, unanswered: Callable[[Row], int], window: int
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

    def append(self, row: Row) -> None:
        """Write a line that is on the disk when this returns."""
        try:
            self._file.write(f"{as_json(row)}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            said = f"{self.path}: {error.strerror or error}"
            raise RunError(f"{said}; make room, and the same command goes on") from error

    def counts(self) -> Counts:
        """Count what all lines hold, one at a time."""
        self._file.seek(0)
        total = Counts()
        for row in filter(None, map(_row, self._file)):
            quotes = [quote for found in row["findings"].values() for quote in found]
            total = replace(
                total,
                reports=total.reports + 1,
                findings=total.findings + len(quotes),
                ungrounded=total.ungrounded + sum(quote["start"] is None for quote in quotes),
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


def _row(line: bytes) -> Row | None:
    """Return a line's row, None for one that was not written to its end."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"id", "findings", "errors"} <= set(row) else None
