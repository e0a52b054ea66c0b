"""Where to spend: which parts can gain, by how much, and what share of the search each gets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Sides
from crb_dspy.program import Part, Tunable
from crb_dspy.recipe.demonstrations import selected
from crb_dspy.recipe.wording import worded
from crb_dspy.scoring.halves import Halves, Weights, total

# A part that scores this much on validation is at its ceiling.
CEILING = 0.97
# Fewer cases with something to find, train and validation together, teach nothing.
HANDFUL = 5
# Even the best of the strong candidates on each case must gain this much over the seed.
GAIN = 0.01
# The share of a part lies about between these; 1 is what the options say.
SHARES = (0.5, 2.0)


@dataclass(frozen=True)
class Headroom:
    """What a part's seed scored on validation, its share of the search, and why it has none."""

    part: str
    mean: float
    spread: float
    share: float = 1.0
    why: str = ""


def measured(
    name: str, part: Tunable, scores: Sequence[Halves], sides: Sides, weights: Weights, force: bool
) -> Headroom:
    """Say from what a seed scored on validation cases whether tuning a part can be worth it."""
    mean = weights.mean(total(scores))
    spread = statistics.pstdev(weights.mean(case) for case in scores) if scores else 0.0
    count = filled((*sides.train, *sides.choose), part.keys)
    why = ""
    if not force and count < HANDFUL:
        why = f"only {count} cases with something to find"
    elif not force and scores and mean >= CEILING:
        why = f"at its ceiling: {mean:.2f} on validation"
    return Headroom(name, mean, spread, 0.0 if why else 1.0, why)


def shared_out(rooms: Sequence[Headroom], affordable: float = 1.0) -> list[Headroom]:
    """Give each part that can gain its share: headroom times spread, 1 on the average.

    `affordable` is what share of all parts' searches the caps leave room for. What parts without
    headroom don't use goes to the others.
    """
    # A part that scores alike everywhere has no spread, but may all the same be bad.
    weights = {r.part: (1 - r.mean) * (r.spread + 0.05) for r in rooms if not r.why}
    each = min(1.0, affordable * len(rooms) / max(1, len(weights)))
    shares = {part: each * share for part, share in _balanced(weights).items()}
    return [replace(room, share=shares.get(room.part, room.share)) for room in rooms]


def probes(part: Tunable, train: Sequence[Case]) -> list[Tunable]:
    """Return strong candidates that cost no search: demonstrations, and two ways of asking."""
    wordings: list[Mapping[str, str]] = [
        {"length": "term", "care": "certain"},
        {"length": "phrase", "care": "complete"},
    ]
    units = part.units
    plain = [
        part.with_units({n: u.with_instruction(worded(u, words)) for n, u in units.items()})
        for words in wordings
    ]
    return [part.with_units({n: _taught(u, train) for n, u in units.items()}), *plain]


def hopeless(seed: Sequence[float], candidates: Sequence[Sequence[float]]) -> bool:
    """Say whether even the best candidate on each case would gain nothing over the seed."""
    best = [max(scores) for scores in zip(seed, *candidates, strict=True)]
    return statistics.fmean(best) - statistics.fmean(seed) < GAIN


def filled(cases: Sequence[Case], keys: Sequence[str]) -> int:
    """Count the cases with something to find for any of some categories."""
    return sum(any((case.gold or {}).get(key) for key in keys) for case in cases)


def _balanced(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights without extremes, 1 on the average, so that no estimate is exceeded."""
    usual = statistics.fmean(weights.values()) if weights else 0.0
    low, high = SHARES
    bounded = {p: min(high, max(low, w / usual)) if usual else 1.0 for p, w in weights.items()}
    mean = statistics.fmean(bounded.values()) if bounded else 1.0
    return {part: share / mean for part, share in bounded.items()}


def _taught(unit: Part, train: Sequence[Case]) -> Part:
    cases = selected("diverse", train, unit.keys, 2)
    return unit.with_demonstrations(unit.demonstration(case, case.gold or {}) for case in cases)
