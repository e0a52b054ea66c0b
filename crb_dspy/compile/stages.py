"""The stages of a compile: their progress, and what each asked beside what was estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crb_dspy.compile.estimate import Phase
from crb_dspy.models.meter import Meter, Usage
from crb_dspy.progress import Progress, phase


@dataclass(frozen=True)
class Truth:
    """What a stage was estimated to ask of a role at most, and what it did ask."""

    stage: str
    role: str
    estimated_calls: int | None
    estimated_tokens: int | None
    usage: Usage


class Stages:
    """Stages by name; each may be entered several times, as with folds."""

    def __init__(self, meters: Mapping[str, Meter], estimates: Sequence[Phase]) -> None:
        self._meters, self._estimates = meters, estimates
        # Told of each stage that ended.
        self.ended: Callable[[str], None] = lambda name: None
        # Ticks by stage: one that is entered again goes on counting.
        self._done: dict[str, int] = {}
        # What was asked before the first stage was the check that the models answer.
        self._used = {("check", role): meter.usage for role, meter in meters.items()}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Show the progress of a stage and count what it asks."""
        before = {role: meter.usage for role, meter in self._meters.items()}
        try:
            most = sum(p.calls or 0 for p in self._estimates if p.name == name)
            with phase(name, most, self._done.get(name, 0)) as progress:
                yield progress
            self._done[name] = progress.done
        finally:
            for role, meter in self._meters.items():
                used = self._used.get((name, role), Usage())
                self._used[name, role] = used + (meter.usage - before[role])
        self.ended(name)

    @property
    def asked(self) -> int:
        """Return the requests of all stages up to now, those answered from the cache included.

        Not the check's, which a model that ever answered is spared.
        """
        return sum(used.asked for (stage, _), used in self._used.items() if stage != "check")

    def truths(self) -> list[Truth]:
        """Return what was estimated beside what was asked, stage by stage."""
        known = {(p.name, p.role): p for p in self._estimates}
        both = dict.fromkeys([*known, *(k for k, used in self._used.items() if used.asked)])
        found = []
        for key in both:
            guess = known.get(key, Phase(*key, None, None))
            used = self._used.get(key, Usage())
            found.append(Truth(*key, guess.calls, guess.tokens, used))
        return found
