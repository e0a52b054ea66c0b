"""One cap over all workers: each holds a few calls in advance and gives back what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crb_dspy.models.budget import Amount, Budget, Caps, Phase, Reservation

# Calls that a worker asks for at once: so many may be left over in each when a cap is reached.
AHEAD = 16


@dataclass
class Allowance:
    """What is left of the caps; one for all workers, and an actor of Ray."""

    calls: int | None = None
    tokens: int | None = None

    def take(self, calls: int, tokens: int) -> tuple[int, int]:
        """Hand out at most so many calls and tokens; what a worker that dies holds is gone."""
        given = (
            calls if self.calls is None else min(calls, self.calls),
            tokens if self.tokens is None else min(tokens, self.tokens),
        )
        self.give(-given[0], -given[1])
        return given

    def give(self, calls: int, tokens: int) -> None:
        """Take back what was not used."""
        self.calls = None if self.calls is None else self.calls + calls
        self.tokens = None if self.tokens is None else self.tokens + tokens


class Leased(Budget):
    """A worker's part of an allowance: reserves out of what it holds, and asks for more.

    `take` and `give` are those of the allowance. BudgetSpent from the first call on that does
    not fit.
    """

    def __init__(
        self,
        caps: Caps,
        take: Callable[[int, int], tuple[int, int]],
        give: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self.caps = caps
        self._take, self._give = take, give
        self._calls = self._tokens = 0

    def reserve(self, tokens: int, usd: float = 0.0, phase: Phase | None = None) -> Reservation:
        """Set aside one call of at most so much."""
        with self._changed:
            phase = phase or self.phase
            phase.check()
            if self._calls < 1 or self._tokens < tokens:
                calls, more = self._take(AHEAD, max(0, AHEAD * tokens - self._tokens))
                self._calls, self._tokens = self._calls + calls, self._tokens + more
            if self._calls < 1 or self._tokens < tokens:
                self._return()
                name = "calls" if self._calls < 1 else "tokens"
                phase.ended = f"--max-{name} {getattr(self.caps, name)} reached"
                phase.check()
            self._calls, self._tokens = self._calls - 1, self._tokens - tokens
            reservation = Reservation(Amount(1, tokens, usd))
            self._reserved.add(reservation)
            return reservation

    def settle(self, reservation: Reservation, tokens: int = 0, usd: float = 0.0) -> None:
        """Keep what a call left of its reservation, for the next."""
        with self._changed:
            self._tokens += reservation.amount.tokens - tokens
            super().settle(reservation, tokens, usd)

    def check(self, phase: Phase) -> None:
        """BudgetSpent if a call did not fit."""
        with self._changed:
            phase.check()

    def _return(self) -> None:
        self._give(self._calls, self._tokens)
        self._calls = self._tokens = 0
