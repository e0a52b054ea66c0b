"""One budget for many points."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from crb_dspy.compile.estimate import LONGER
from crb_dspy.compile.plan import Plan
from crb_dspy.errors import RunError
from crb_dspy.models.budget import Amount, Caps
from crb_dspy.sweep.grid import Point


class SharedBudget:
    """One budget for all points: each is given what judging takes, and a share of the rest.

    What a point leaves goes to those that come later. `chosen` is what share of the points will
    be carried out. Minutes are everybody's.
    """

    def __init__(self, caps: Caps, points: Sequence[Point], chosen: float = 1.0) -> None:
        self.caps, self._taken, self._started = caps, Amount(), time.monotonic()
        self._waiting = {point.name: judging(point.planned) for point in points}
        self._chosen, self._changed, self._given = chosen, threading.Condition(), 0

    def left(self) -> Caps:
        """Return what was neither spent nor given."""
        taken = self._taken + Amount(minutes=(time.monotonic() - self._started) / 60)
        pairs = zip(astuple(self.caps), astuple(taken), strict=True)
        return Caps(*(None if cap is None else max(0, cap - its) for cap, its in pairs))

    def give(self, point: Point) -> Caps:
        """Set a share aside for a point, waiting for what others may leave.

        RunError if there is too little to judge it.
        """
        need = judging(point.planned)
        with self._changed:
            self._waiting.pop(point.name, None)
            while (short := self._short(need)) and self._given:
                self._changed.wait()
            if short:
                raise RunError(short)
            left = {name: its for name, its in vars(self.left()).items() if its is not None}
            shares: dict[str, Any] = {n: self._share(n, its, need) for n, its in left.items()}
            given = Caps(**shares)
            self._taken, self._given = self._taken + _amount(given), self._given + 1
            return given

    def settle(self, given: Caps, spent: Amount) -> None:
        """Enter what a point has spent in place of what it was given."""
        back = _amount(given)
        calls, tokens = spent.calls - back.calls, spent.tokens - back.tokens
        with self._changed:
            self._taken += Amount(calls, tokens, spent.usd - back.usd)
            self._given -= 1
            self._changed.notify_all()

    def spend(self, spent: Amount) -> None:
        """Enter what was spent for all points."""
        with self._changed:
            self._taken += spent

    def skip(self, point: Point) -> None:
        """Keep nothing back for a point that needs nothing."""
        with self._changed:
            self._waiting.pop(point.name, None)

    def _short(self, need: Amount) -> str:
        for name, left in vars(self.left()).items():
            own = getattr(need, name)
            if left is not None and (left <= 0 or left < own):
                kept = f", and judging may take {own:.12g}" if own else ""
                return f"--max-{name} {getattr(self.caps, name):.12g}: {left:.12g} left{kept}"
        return ""

    def _share(self, name: str, left: float, need: Amount) -> float:
        if name == "minutes":
            return left
        own = getattr(need, name)
        others = self._chosen * sum(getattr(other, name) for other in self._waiting.values())
        count = 1 + self._chosen * len(self._waiting)
        share: float = own + max(0.0, left - own - others) / count
        return share if name == "usd" else math.floor(share)


def _amount(caps: Caps) -> Amount:
    return Amount(caps.calls or 0, caps.tokens or 0, caps.usd or 0.0)


def judging(planned: Plan) -> Amount:
    """Return what a point takes at most for all but its search."""
    calls, tokens = planned.estimate.of("baseline", "gate", "test")
    return Amount(calls, round(LONGER * tokens))
