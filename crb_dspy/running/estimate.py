"""What a compile may ask, by phase and role, before anything is asked."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy import recipe
from crb_dspy.cases import Split
from crb_dspy.models.budget import Amount
from crb_dspy.models.engine import estimated_tokens
from crb_dspy.program import Part
from crb_dspy.running.plan import Plan, Sides
from crb_dspy.tuning.headroom import probing

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


def estimate(planned: Plan) -> list[Phase]:
    """Return the phases of a compile with what each may ask at most.

    Prompt tokens are counted on rendered seed prompts, three bytes a token; answers come on top.
    """
    splits = [*planned.folds, planned.split]
    phases = [Phase("check", "task", 1, 20)]
    for split in splits:
        phases += _split_phases(planned, planned.sides(split))
    names = dict.fromkeys((phase.name, phase.role) for phase in phases)
    return [_summed([p for p in phases if (p.name, p.role) == name]) for name in names]


def total(phases: list[Phase]) -> tuple[int, int]:
    """Return calls and prompt tokens of all phases; what is unknown counts as none."""
    return sum(p.calls or 0 for p in phases), sum(p.tokens or 0 for p in phases)


def of_phase(phases: list[Phase], name: str) -> int:
    """Return the calls of a phase, all roles, 0 where unknown."""
    return sum(phase.calls or 0 for phase in phases if phase.name == name)


def kept_back(planned: Plan, sides: Sides, later: Sequence[Split]) -> Amount:
    """Return the calls and tokens that a search must leave for judging, its own and later ones."""
    gated = len(sides.test) + 2 * len(sides.confirm)
    to_come = [planned.sides(split) for split in later]
    cases = gated + sum(2 * len(s.test) + len(s.choose) + 2 * len(s.confirm) for s in to_come)
    parts = list(planned.program.parts.values())
    calls = cases * len(parts)
    # A tuned prompt has demonstrations and is longer than its seed, and answers come on top.
    return Amount(calls, round(LONGER * calls * prompt_tokens(parts, planned)))


def affordable(planned: Plan, sides: Sides, later: Sequence[Split], asked: int) -> float:
    """Return what share of a search's estimate its caps leave room for, at most 1.

    Searches to come are to have as much. `asked` counts what was asked up to now, from the cache
    or not: a run that goes on with a broken one must come to the same share. That rules out
    dollars and minutes, whose caps only end a search.
    """
    parts, experiment = list(planned.program.parts.values()), planned.experiment
    sizes, options = (len(sides.train), len(sides.choose)), experiment.options
    one = (recipe.calls(planned.recipe, *sizes, options) or 0) + recipe.reflections(
        planned.recipe, *sizes, options
    )
    wanted, each = max(1, one * len(parts)), prompt_tokens(parts, planned)
    kept = kept_back(planned, sides, later)
    rooms = []
    if experiment.max_calls is not None:
        rooms.append((experiment.max_calls - kept.calls - asked) / wanted)
    if experiment.max_tokens is not None:
        left = experiment.max_tokens - kept.tokens - asked * each
        rooms.append(left / (wanted * each * LONGER))
    return max(0.0, min([1.0, *(room / (len(later) + 1) for room in rooms)]))


def _split_phases(planned: Plan, sides: Sides) -> list[Phase]:
    parts = planned.program.parts
    count, options = len(parts), planned.experiment.options
    sizes = (len(sides.train), len(sides.choose))
    each = prompt_tokens(list(parts.values()), planned)
    one = recipe.calls(planned.recipe, *sizes, options)
    thoughts = recipe.reflections(planned.recipe, *sizes, options) * count
    shared = planned.experiment.shared
    # Guidance comes from what the seeds make of the training cases, and is met by validation.
    met = 0 if recipe.guided(planned.recipe) else len(sides.choose)
    tuning = None if one is None else (one + (len(sides.train) + met) * shared) * count
    chosen = len(sides.choose) * count

    def task(name: str, calls: int | None) -> Phase:
        return Phase(name, "task", calls, None if calls is None else calls * each)

    phases = [task("baseline", len(sides.test) * count), task("headroom", chosen)]
    if probing(planned, sides):
        phases.append(task("headroom test", probing(planned, sides)))
    phases.append(task("search", tuning))
    if thoughts := thoughts + recipe.ATTEMPTS * shared:
        phases.append(Phase("search", "reflection", thoughts, thoughts * REFLECTION))
    phases.append(task("gate", 2 * len(sides.confirm) * count))
    return [*phases, task("test", len(sides.test) * count)]


def prompt_tokens(parts: list[Part], planned: Plan) -> int:
    """Return the mean tokens of a seed prompt about these cases, about."""
    texts = [case.text for case in planned.loaded.cases]
    mean = statistics.fmean(len(text.encode("utf-8", "replace")) for text in texts) / 3
    frames = [estimated_tokens("".join(m["content"] for m in p.messages(""))) for p in parts]
    return round(mean + statistics.fmean(frames))


def _summed(phases: list[Phase]) -> Phase:
    calls = None if any(p.calls is None for p in phases) else sum(p.calls or 0 for p in phases)
    tokens = None if any(p.tokens is None for p in phases) else sum(p.tokens or 0 for p in phases)
    return Phase(phases[0].name, phases[0].role, calls, tokens)
