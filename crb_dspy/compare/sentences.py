"""A comparison in a sentence or two."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crb_dspy.compare.comparison import Comparison, Gain

# Strategies that the verdict gives the numbers of.
TOLD = 3
# Cases that nobody will annotate.
MANY = 10_000
NO_GAIN = "no gain shown"


def sentence(comparison: Comparison) -> str:
    """Say in a sentence what the statistics show, whatever the largest number is.

    A second one names leaders that are undecided, and how many cases would be likely to decide.
    """
    base, gains = comparison.baseline.label, comparison.gains
    better = [gain for gain in gains if gain.verdict == "improved"]
    worse = [gain.strategy.label for gain in gains if gain.verdict == "worse"]
    if len(better) == 1:
        text = f"{better[0].strategy.label} is better than {base} by {_evidence(better[0])}"
    elif better:
        told = [f"{gain.strategy.label} by {_evidence(gain)}" for gain in better]
        text = f"{len(better)} of {len(gains)} strategies are better than {base}: {_first(told)}"
    else:
        text = f"no strategy is shown to be better than {base} ({_reach(comparison)})"
    if worse:
        text += f"; {', '.join(worse)} {'is' if len(worse) == 1 else 'are'} worse"
    return text + _undecided(comparison, better) + _unbeaten(comparison)


def _first(told: Sequence[str]) -> str:
    more = f", and {len(told) - TOLD} more" if len(told) > TOLD else ""
    return ", ".join(told[:TOLD]) + more


def _unbeaten(comparison: Comparison) -> str:
    """Say which strategies beat the best system that asks no model, if not all do."""
    board = comparison.board
    if not board.beside:
        return ""
    name, score = max(board.beside.items(), key=lambda pair: pair[1])
    above = [s.label for s in board.strategies if s.score > score]
    if len(above) == len(board.strategies):
        return ""
    return f". Above the {name}, which asks no model ({score:.3f}): {_first(above) or 'none'}"


def _undecided(comparison: Comparison, better: Sequence[Gain]) -> str:
    """Name those ahead of all that are shown to be better, or of the baseline if none is."""
    shown = max((gain.difference.difference for gain in better), default=0.0)
    ahead = [
        gain
        for gain in comparison.gains
        if gain.verdict == NO_GAIN
        and gain.difference.difference > shown
        and round(gain.difference.difference, 3) > 0
        and not math.isnan(gain.needed)
    ]
    if not ahead:
        return ""
    told = [
        f"{gain.strategy.label} by {gain.difference.difference:+.3f} (Holm p = {gain.holm:.2g}"
        f"{_decisive(gain)})"
        for gain in ahead
    ]
    return f". Ahead but undecided: {_first(told)}"


def _decisive(gain: Gain) -> str:
    """Say how many cases would be likely to decide, to two digits: more is not known."""
    if gain.needed <= gain.difference.cases:
        return ""
    if gain.needed > MANY:
        return f"; to decide, more than {MANY:,} cases"
    cases = int(gain.needed)
    return f"; to decide, about {round(cases, min(2 - len(str(cases)), 0)):,} cases"


def _evidence(gain: Gain) -> str:
    found = gain.difference
    level = f"{found.level:.0%}".replace("%", " %")
    interval = f"{level} interval {found.low:+.3f} to {found.high:+.3f}"
    return f"{found.difference:+.3f} ({interval}, Holm p = {gain.holm:.2g})"


def _reach(comparison: Comparison) -> str:
    """Say what could have been seen."""
    groups, cases = len(set(comparison.board.groups)), len(comparison.board.cases)
    size = f"{cases} test cases" + (
        "" if groups == cases else f" in {groups} group{'s' * (groups > 1)}"
    )
    limits = [gain.detectable for gain in comparison.gains if gain.detectable > 0]
    if groups == 1:
        return f"{size}: a single group shows nothing"
    if not limits:
        return size
    low, high = f"{min(limits):.3f}", f"{max(limits):.3f}"
    seen = low if low == high else f"{low} to {high}"
    return f"{size}; a difference of {seen} would have been likely to show"
