"""The gate: a tuned part replaces its seed only if fresh cases show that it is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from crb_dspy import stats
from crb_dspy.data.cases import Case
from crb_dspy.models.budget import BudgetSpent
from crb_dspy.program import Tunable

# Stands for a part where all changed ones are judged as one.
TOGETHER = "together, which decides nothing"
IMPROVED, NO_GAIN, WORSE = "improved", "no gain shown", "worse, kept the seed"
# What a gate lets through that asks for less than SHOWN: nobody is told that it is better.
TAKEN = "taken"
KEPT = "seed kept"
# The one-sided chance of being wrong above which nothing is called better or worse.
SHOWN = 0.1
# The loosest gate: a part is taken that gained anything on the fresh cases.
LOOSEST = 0.49
ALL = f"--set gate={LOOSEST} takes each part that gained"


@dataclass(frozen=True)
class Verdict:
    """What became of a part: its outcome, why, and what decided, if anything did.

    That is the difference on fresh cases, or the gain in the whole's score that the search makes
    one expect, with the chance that there is one.
    """

    part: str
    outcome: str
    why: str = ""
    difference: stats.Difference | None = None
    gain: float = math.nan
    chance: float = math.nan

    @property
    def kept(self) -> bool:
        """Whether the tuned part replaces its seed."""
        return self.outcome in (IMPROVED, TAKEN)

    def __str__(self) -> str:
        gain = self.difference
        if not math.isnan(self.gain):
            sure = (
                f"{self.gain:+.3f} of the score expected, better with probability {self.chance:.2f}"
            )
            return f"{self.outcome}: {sure} ({self.why})"
        if gain is None or math.isnan(gain.low):
            return f"{self.outcome}{f' ({self.why})' if self.why else ''}"
        interval = f"{100 * gain.level:.0f} % interval {gain.low:+.3f} to {gain.high:+.3f}"
        told = f"{self.outcome}: {gain.difference:+.3f} on {gain.cases} fresh cases, {interval}"
        return f"{told} ({self.why})" if self.why else told


def confirmed(
    seeds: Mapping[str, Tunable],
    changed: Mapping[str, Tunable],
    cases: Sequence[Case],
    alpha: float,
    score: Callable[[Mapping[str, Tunable], Sequence[Case]], dict[str, list[float]]],
) -> tuple[dict[str, Verdict], Verdict | None]:
    """Judge changed parts against their seeds on fresh cases, by the scores that `score` finds.

    Beside them stands what all of them would do together to the whole, None for
    fewer than two: it decides nothing, but tells when there are too few cases for each alone.
    With `alpha` 1 every changed part is taken unseen.
    """
    if alpha >= 1:
        return {name: Verdict(name, TAKEN, "no gate") for name in changed}, None
    if not cases:
        why = "no fresh validation cases to confirm it on"
        return {name: Verdict(name, NO_GAIN, why) for name in changed}, None
    before = {f"{name}/0": seeds[name] for name in changed}
    after = {f"{name}/1": part for name, part in changed.items()}
    try:
        # Together, so that each report is read once.
        scores = score(before | after, cases) if changed else {}
    except BudgetSpent as error:
        why = f"stopped before it could be confirmed: {error}"
        return {name: Verdict(name, NO_GAIN, why) for name in changed}, None
    verdicts = {
        name: judged(name, cases, scores[f"{name}/0"], scores[f"{name}/1"], alpha)
        for name in changed
    }
    if len(changed) < 2:
        return verdicts, None
    total = sum(len(part.keys) for part in seeds.values())
    shares = {name: len(part.keys) / total for name, part in changed.items()}

    def mean(run: int) -> list[float]:
        weighted = ([its * s for s in scores[f"{name}/{run}"]] for name, its in shares.items())
        return [sum(case) for case in zip(*weighted, strict=True)]

    together = judged(TOGETHER, cases, mean(0), mean(1), min(alpha, SHOWN))
    left = alpha < LOOSEST and not all(verdict.kept for verdict in verdicts.values())
    told = left and together.outcome == IMPROVED
    return verdicts, replace(together, why=ALL) if told else together


def judged(
    part: str,
    cases: Sequence[Case],
    before: Sequence[float],
    after: Sequence[float],
    alpha: float,
) -> Verdict:
    """Compare a tuned part with its seed on cases that did not choose it.

    `before` and `after` are their scores, case by case. `alpha` is the one-sided chance of
    taking a part that is no better. Under four groups of cases nothing can be shown.
    """
    groups = [case.group for case in cases]

    def gain(alpha: float) -> stats.Difference:
        return stats.paired_difference(before, after, groups, level=1 - 2 * alpha)

    shown = gain(min(alpha, SHOWN))
    said = stats.verdict(shown)
    outcome = {"improved": IMPROVED, "worse": WORSE}.get(said, NO_GAIN)
    if outcome == NO_GAIN and stats.verdict(gain(min(alpha, LOOSEST))) == "improved":
        outcome = TAKEN
    why = "" if shown.groups > 3 else f"{shown.groups} fresh cases or groups are too few"
    return Verdict(part, outcome, why, shown)
