"""What a run may spend, over all calls of all roles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field

# The name under which DSPy's settings, which every worker thread gets, carry the phase.
_CARRIED = "budget_phase"
# Calls from which the dollars and minutes of others are foretold, at least.
KNOWN = 8
_SHOWN = (
    "{:,} of {:,} calls",
    "{:,} of {:,} tokens",
    "${:.2f} of ${:.2f}",
    "{:.0f} of {:g} minutes",
)


class BudgetSpent(BaseException):
    """A cap was reached; not an Exception, so that no optimizer takes it for a score."""


@dataclass(frozen=True)
class Caps:
    """The most that a run may spend in calls, tokens, dollars and minutes; None is no cap."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    minutes: float | None = None


_NONE = Caps()


@dataclass(frozen=True)
class Amount:
    """Calls, tokens, dollars and minutes that are spent, reserved, or kept back."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    minutes: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.usd + other.usd,
            self.minutes + other.minutes,
        )


@dataclass(eq=False)
class Phase:
    """A stretch of a run that keeps something back; `ended` says why it may spend no more."""

    held: Amount = field(default_factory=Amount)
    ended: str = ""

    def check(self) -> None:
        """BudgetSpent if the phase is over."""
        if self.ended:
            raise BudgetSpent(self.ended)


@dataclass(eq=False)
class Reservation:
    """One call that is under way, for at most so much."""

    amount: Amount


class Budget:
    """Reserves before each call and settles after it, so that no cap is overrun; thread-safe.

    `spent` is what the same run had spent before, `clock` gives seconds. A call that exceeds its
    own reservation, since its prompt was estimated too low, is all that can take a total beyond
    its cap.
    """

    def __init__(
        self,
        caps: Caps | None = None,
        spent: Amount | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caps = caps or Caps()
        self._clock, self._started = clock, clock()
        self._changed = threading.Condition()
        self._spent, self._reserved = spent or Amount(), set[Reservation]()
        self._phases = [Phase()]
        self._first_end = ""

    @property
    def spent(self) -> str:
        """Which cap ended a phase of the run, "" if none did."""
        return self._first_end

    @property
    def phase(self) -> Phase:
        """The phase that the calling thread works for: the one it was started in, else the latest.

        Threads that outlive their phase so can't spend what was kept back from it.
        """
        import dspy

        carried = dspy.settings.get(_CARRIED)
        mine = isinstance(carried, tuple) and carried[0] is self
        phase: Phase = carried[1] if mine else self._phases[-1]
        return phase

    def reserve(self, tokens: int, usd: float = 0.0, phase: Phase | None = None) -> Reservation:
        """Set aside one call of at most so much, waiting while only calls under way prevent it.

        BudgetSpent if it would not fit even with nothing else under way; from then on for every
        call of the phase.
        """
        wanted = Amount(1, tokens, usd)
        with self._changed:
            phase = phase or self.phase
            self._end_if(phase, wanted)
            while self.caps != _NONE and self._beyond(self._under_way() + wanted):
                self._changed.wait(self._seconds_left())
                self._end_if(phase, wanted)
            reservation = Reservation(wanted)
            self._reserved.add(reservation)
            return reservation

    def check(self, phase: Phase) -> None:
        """BudgetSpent if the phase is over, or its time is."""
        with self._changed:
            self._end_if(phase, Amount())

    def settle(self, reservation: Reservation, tokens: int = 0, usd: float = 0.0) -> None:
        """Enter what a call really took, in place of what was set aside; failed calls count too."""
        with self._changed:
            self._reserved.remove(reservation)
            self._spent += Amount(1, tokens, usd)
            self._changed.notify_all()

    @contextmanager
    def holding(self, amount: Amount) -> Iterator[Phase]:
        """Lower every cap by an amount while inside: a search may not use what the test needs.

        Reaching a lowered cap ends the phase only; threads left over from it stay refused.
        """
        import dspy

        phase = Phase(amount)
        with self._changed:
            self._phases.append(phase)
        try:
            with dspy.context(**{_CARRIED: (self, phase)}):
                yield phase
        finally:
            with self._changed:
                self._phases.remove(phase)
                phase.ended = phase.ended or "this phase of the run is over"
                self._changed.notify_all()

    @property
    def minutes(self) -> float:
        """The minutes that the run has taken up to now."""
        with self._changed:
            return self._now().minutes

    def expected(self, calls: int) -> Amount:
        """Return what so many more calls may take in dollars and minutes, as calls did up to now.

        A third of the cap as long as a handful of calls tells too little.
        """
        with self._changed:
            now = self._now()
        if now.calls >= KNOWN:
            return Amount(usd=now.usd * calls / now.calls, minutes=now.minutes * calls / now.calls)
        caps = self.caps
        return Amount(usd=(caps.usd or 0.0) / 3, minutes=(caps.minutes or 0.0) / 3)

    def left(self) -> str:
        """Say for a progress line what is left of each cap, "" without caps."""
        with self._changed:
            used = self._now() + self._held()
        triples = zip(_SHOWN, astuple(self.caps), astuple(used), strict=True)
        shown = [f.format(max(0, cap - its), cap) for f, cap, its in triples if cap is not None]
        return f"{', '.join(shown)} left" if shown else ""

    def _now(self) -> Amount:
        return self._spent + Amount(minutes=(self._clock() - self._started) / 60)

    def _held(self) -> Amount:
        return sum((phase.held for phase in self._phases), Amount())

    def _under_way(self) -> Amount:
        return sum((reservation.amount for reservation in self._reserved), Amount())

    def _beyond(self, more: Amount) -> str:
        """Return the cap that would be passed by spending more, "" if none would."""
        held, total = self._held(), self._now() + self._held() + more
        for name, cap in vars(self.caps).items():
            if cap is None:
                continue
            # The last minute may be used up, but nothing begins when it is over.
            over = getattr(total, name) >= cap if name == "minutes" else getattr(total, name) > cap
            if over:
                kept = getattr(held, name)
                note = f" ({kept:.12g} kept back)" if kept else ""
                return f"--max-{name} {cap:.12g} reached{note}"
        return ""

    def _end_if(self, phase: Phase, wanted: Amount) -> None:
        """End the phase if a call would not fit beside what is spent; BudgetSpent if it is over."""
        if not phase.ended and self.caps != _NONE and (reason := self._beyond(wanted)):
            phase.ended = reason
            self._first_end = self._first_end or reason
            self._changed.notify_all()
        phase.check()

    def _seconds_left(self) -> float | None:
        if self.caps.minutes is None:
            return None
        left = self.caps.minutes - (self._now() + self._held()).minutes
        return max(0.0, left * 60)
