"""What a compile may ask, by phase and role, before anything is asked."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy import recipe
from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Sides
from crb_dspy.models.budget import Amount, Caps
from crb_dspy.models.engine import estimated_tokens
from crb_dspy.program import ExtractionProgram
from crb_dspy.recipe.contract import ATTEMPTS
from crb_dspy.tuning.tuning import Tuning

# Tokens of a request for reflection, and of its answer, about.
REFLECTION = 1200
# A tuned prompt is longer than its seed, in multiples of it.
LONGER = 1.6


@dataclass(frozen=True)
class Phase:
    """Calls of a phase at most, and about how many prompt tokens; None where unknown."""

    name: str
    role: str
    calls: int | None
    tokens: int | None


@dataclass(frozen=True)
class Round:
    """Calls of one split: of its search, of what follows it, and of all but the search."""

    search: int
    after: int
    judging: int


@dataclass(frozen=True)
class Estimate:
    """The phases of a compile, its rounds, one a split, and the prompt tokens of a call, about."""

    phases: tuple[Phase, ...]
    rounds: tuple[Round, ...]
    each: int

    @property
    def calls(self) -> int:
        """Calls of all phases at most; what is unknown counts as none."""
        return self.of()[0]

    @property
    def tokens(self) -> int:
        """Prompt tokens of all phases, about."""
        return self.of()[1]

    def of(self, *names: str) -> tuple[int, int]:
        """Return calls and prompt tokens of some phases, all roles; of all where none is named."""
        counted = [phase for phase in self.phases if not names or phase.name in names]
        return sum(p.calls or 0 for p in counted), sum(p.tokens or 0 for p in counted)

    def kept_back(self, number: int) -> Amount:
        """Return the calls and tokens that a round's search must leave for judging, later too."""
        later = self.rounds[number + 1 :]
        calls = self.rounds[number].after + sum(other.judging for other in later)
        # A tuned prompt has demonstrations and is longer than its seed, and answers come on top.
        return Amount(calls, round(LONGER * calls * self.each))

    def affordable(self, number: int, caps: Caps, asked: int) -> float:
        """Return what share of a round's search the caps leave room for, at most 1.

        Searches to come are to have as much. `asked` counts what was asked up to now, from the
        cache or not: a run that goes on with a broken one must come to the same share. That
        rules out dollars and minutes, whose caps only end a search.
        """
        wanted, kept = max(1, self.rounds[number].search), self.kept_back(number)
        rooms = []
        if caps.calls is not None:
            rooms.append((caps.calls - kept.calls - asked) / wanted)
        if caps.tokens is not None:
            left = caps.tokens - kept.tokens - asked * self.each
            rooms.append(left / (wanted * self.each * LONGER))
        share = len(self.rounds) - number
        return max(0.0, min([1.0, *(room / share for room in rooms)]))


def estimate(tuning: Tuning, sides: Sequence[Sides], cases: Sequence[Case]) -> Estimate:
    """Return what a compile may ask at most, with one search and its judging for each of `sides`.

    Prompt tokens are counted on rendered seed prompts, three bytes a token; answers come on top.
    """
    each = prompt_tokens(tuning.program, cases)
    phases = [Phase("check", "task", 1, 20)]
    for some in sides:
        phases += _phases(tuning, some, each)
    names = dict.fromkeys((phase.name, phase.role) for phase in phases)
    summed = [_summed([p for p in phases if (p.name, p.role) == name]) for name in names]
    return Estimate(tuple(summed), tuple(_round(tuning, some) for some in sides), each)


def prompt_tokens(program: ExtractionProgram, cases: Sequence[Case]) -> int:
    """Return the mean tokens of a seed prompt about these cases, about."""
    mean = statistics.fmean(len(c.text.encode("utf-8", "replace")) for c in cases) / 3
    parts = program.parts.values()
    frames = [estimated_tokens("".join(m["content"] for m in p.messages(""))) for p in parts]
    return round(mean + statistics.fmean(frames))


def _round(tuning: Tuning, sides: Sides) -> Round:
    count = len(tuning.program.parts)
    after = len(sides.test) + _gate(tuning, sides)
    search = (tuning.calls(sides) or 0) + tuning.reflections(sides)
    judging = after + len(sides.test) + len(sides.choose)
    return Round(search * count, after * count, judging * count)


def _phases(tuning: Tuning, sides: Sides, each: int) -> list[Phase]:
    count, shared = len(tuning.program.parts), tuning.shared
    one, thoughts = tuning.calls(sides), tuning.reflections(sides) * count
    # Guidance comes from what the seeds make of the training cases, and is met by validation.
    met = 0 if recipe.guided(tuning.recipe) else len(sides.choose)
    search = None if one is None else (one + (len(sides.train) + met) * shared) * count

    def task(name: str, calls: int | None) -> Phase:
        return Phase(name, "task", calls, None if calls is None else calls * each)

    test = len(sides.test) * count
    phases = [task("baseline", test), task("headroom", len(sides.choose) * count)]
    if probes := tuning.probes(sides):
        phases.append(task("headroom test", probes))
    phases.append(task("search", search))
    if thoughts := thoughts + ATTEMPTS * shared:
        phases.append(Phase("search", "reflection", thoughts, thoughts * REFLECTION))
    return [*phases, task("gate", _gate(tuning, sides) * count), task("test", test)]


def _gate(tuning: Tuning, sides: Sides) -> int:
    """Return the calls of a part to judge what a search found: none for what chose it."""
    unseen = tuning.expected and not recipe.chooses(tuning.recipe)
    return 2 * len(sides.confirm) + len(sides.choose) * unseen


def _summed(phases: list[Phase]) -> Phase:
    calls = None if any(p.calls is None for p in phases) else sum(p.calls or 0 for p in phases)
    tokens = None if any(p.tokens is None for p in phases) else sum(p.tokens or 0 for p in phases)
    return Phase(phases[0].name, phases[0].role, calls, tokens)
