"""What a run has spent, call by call, on disk: one that goes on starts from there."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from crb_dspy.errors import UserError
from crb_dspy.models.budget import Amount, Budget
from crb_dspy.models.meter import Meter, Usage

NAME = "spent.jsonl"


class Journal:
    """The calls of a run in all its processes, a line each; one process at a time holds it."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        handle.seek(0)
        text = handle.read()
        self._lines = list(_lines(text, handle.name))
        if text and not text.endswith(b"\n"):
            handle.write(b"\n")

    def restart(self) -> None:
        """Forget everything: what was spent answered another question."""
        self._handle.truncate(0)
        self._lines = []

    @property
    def spent(self) -> Amount:
        """What counts against the caps, failed calls included."""
        total = sum(self.usages.values(), Usage())
        minutes = max((line["minutes"] for line in self._lines), default=0.0)
        return Amount(total.calls + total.failures, total.tokens, total.usd, minutes)

    @property
    def usages(self) -> dict[str, Usage]:
        """What each role had asked of its model when the journal was opened."""
        found: dict[str, Usage] = {}
        for line in self._lines:
            amounts = {k: v for k, v in line.items() if k not in ("role", "minutes")}
            found[line["role"]] = found.get(line["role"], Usage()) + Usage(**amounts)
        return found

    def follow(self, meters: Mapping[str, Meter], budget: Budget) -> None:
        """Write down from here on what reaches a model."""
        for role, meter in meters.items():
            meter.told = partial(self._note, role, budget)

    def _note(self, role: str, budget: Budget, amounts: Mapping[str, float]) -> None:
        if self._handle.closed or not {"calls", "failures"} & set(amounts):
            return
        line = {"role": role, "minutes": budget.minutes, **amounts}
        # Unbuffered and appended, so that it is whole or not there, whichever thread writes.
        self._handle.write(f"{json.dumps(line)}\n".encode())


@contextmanager
def held(folder: Path) -> Iterator[Journal]:
    """Make a run's folder and hold its journal.

    UserError if it cannot be written, or if another process is at the same run.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / NAME).open("ab+", buffering=0)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process is at this very run; wait for it or end it"
            ) from None
        try:
            yield Journal(handle)
        finally:
            _unless_begun(folder)


def _unless_begun(folder: Path) -> None:
    """Take away a folder in which no call was answered, as where the model was not reached."""
    if [path.name for path in folder.iterdir()] != [NAME]:
        return
    text = (folder / NAME).read_bytes()
    if not any(line.get("calls") for line in _lines(text, NAME)):
        (folder / NAME).unlink()
        folder.rmdir()


def _lines(text: bytes, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found = json.loads(line)
        # A line that was being written when the process was killed.
        except (ValueError, RecursionError):
            continue
        if not _is_entry(found):
            said = f"{name}, line {number}: no entry of this version"
            raise UserError(f"{said}; remove the folder, and the run begins anew")
        yield found


def _is_entry(found: object) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("role"), str):
        return False
    amounts = {name: amount for name, amount in found.items() if name != "role"}
    known = {"minutes", *Usage.__dataclass_fields__}
    numbers = all(type(n) in (int, float) and math.isfinite(n) for n in amounts.values())
    return numbers and "minutes" in amounts and set(amounts) <= known
