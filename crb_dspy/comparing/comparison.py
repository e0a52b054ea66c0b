"""Which strategies are better than a baseline on the same cases, by how much, and how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from crb_dspy import stats
from crb_dspy.errors import UserError

# Runs that differ in one of these have not answered the same question.
SAME = ("benchmark", "data_fingerprint", "split_fingerprint", "categories")
# What costs are compared by, dearest knowledge first; `asked` counts what the cache answered too.
COSTS = ("usd", "tokens", "asked")
POWER = 0.8
# Strategies that the verdict gives the numbers of.
TOLD = 3

# (case, category)
Key = tuple[str, str]


@dataclass(frozen=True)
class Strategy:
    """One program's test scores: cases x categories, and the metrics of its run."""

    label: str
    run: str
    scores: stats.Floats
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def by_case(self) -> stats.Floats:
        """Score of each case: the mean over its categories."""
        return np.asarray(self.scores.mean(axis=1), np.float64)

    @property
    def score(self) -> float:
        """Mean over cases."""
        return float(self.by_case.mean())


@dataclass(frozen=True)
class Board:
    """Strategies that answered the same cells; the first is the baseline."""

    cases: tuple[str, ...]
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    strategies: tuple[Strategy, ...]


@dataclass(frozen=True)
class Gain:
    """A strategy against the baseline.

    `difference` has the raw p and an interval for this pair alone, `holm` is p corrected for all
    pairs. `detectable` is the difference that would be shown with a power of 0.8 if it were the
    smallest p of the family. `categories` gives (difference, margin): Student's interval over
    groups, for reading, not tested.
    """

    strategy: Strategy
    difference: stats.Difference
    holm: float
    detectable: float
    categories: Mapping[str, tuple[float, float]]

    @property
    def verdict(self) -> str:
        """Say "improved" or "worse" where interval and corrected p agree on it."""
        return stats.verdict(replace(self.difference, p=self.holm))


@dataclass(frozen=True)
class Comparison:
    """All strategies of a board against its baseline, largest difference first."""

    board: Board
    gains: tuple[Gain, ...]
    cost: str
    cached: bool

    @property
    def baseline(self) -> Strategy:
        """What the others are compared with."""
        return self.board.strategies[0]

    @cached_property
    def front(self) -> frozenset[str]:
        """Labels of the strategies that none beats in both score and cost."""
        priced = {s.label: (s.score, self.price(s)) for s in self.board.strategies}
        known = {label: point for label, point in priced.items() if not math.isnan(point[1])}
        return frozenset(
            label
            for label, point in known.items()
            if not any(_dominates(other, point) for other in known.values())
        )

    def price(self, strategy: Strategy) -> float:
        """Return what a strategy's run cost, NaN where that is not known."""
        return strategy.metrics.get(f"cost/{self.cost}", math.nan)


def compare(board: Board, *, cost: str = "", draws: int = 10_000, seed: int = 0) -> Comparison:
    """Compare every strategy of a board with its baseline; UserError if that stands alone.

    Scores are held against `cost`, a metric of the runs without its `cost/`; by default one that
    all runs have. The same `seed` gives the same numbers.
    """
    baseline, *others = board.strategies
    if not others:
        raise UserError(f"{baseline.label} is the only run: there is nothing to compare it with")
    differences = [
        stats.paired_difference(
            baseline.by_case, other.by_case, board.groups, draws=draws, seed=seed
        )
        for other in others
    ]
    holm = stats.holm([difference.p for difference in differences])
    gains = [
        Gain(
            other,
            difference,
            corrected,
            stats.minimum_detectable(
                other.by_case - baseline.by_case,
                board.groups,
                power=POWER,
                alpha=(1 - difference.level) / len(others),
            ),
            _by_category(board, other),
        )
        for other, difference, corrected in zip(others, differences, holm, strict=True)
    ]
    gains.sort(key=lambda gain: -gain.difference.difference)
    cached = any(_cached(strategy.metrics) for strategy in board.strategies)
    return Comparison(board, tuple(gains), cost or _cost(board, cached=cached), cached)


def board(
    strategies: Sequence[tuple[Strategy, Mapping[Key, float]]], groups: Mapping[str, str]
) -> Board:
    """Put the cells of strategies side by side; UserError where they are not the same cells.

    The scores of the strategies given are replaced; `groups` names the group of each case.
    """
    (first, cells), *_ = strategies
    cases = tuple(dict.fromkeys(case for case, _ in cells))
    categories = tuple(dict.fromkeys(category for _, category in cells))
    laid = []
    for strategy, own in strategies:
        if own.keys() != cells.keys():
            raise UserError(f"{strategy.label} and {first.label} differ: {_unlike(own, cells)}")
        values = [[own[case, category] for category in categories] for case in cases]
        laid.append(replace(strategy, scores=np.array(values, np.float64)))
    return Board(cases, tuple(groups[case] for case in cases), categories, tuple(laid))


def differing(params: Mapping[str, str], reference: Mapping[str, str]) -> str:
    """Say in what two runs cannot be compared; nothing if they can."""
    return ", ".join(
        f"{name} {params.get(name, 'unknown')}, not {reference.get(name, 'unknown')}"
        for name in SAME
        if params.get(name) != reference.get(name)
    )


def sentence(comparison: Comparison) -> str:
    """Say in one sentence what the statistics show, whatever the largest number is."""
    base, gains = comparison.baseline.label, comparison.gains
    better = [gain for gain in gains if gain.verdict == "improved"]
    worse = [gain.strategy.label for gain in gains if gain.verdict == "worse"]
    if len(better) == 1:
        text = f"{better[0].strategy.label} is better than {base} by {_evidence(better[0])}"
    elif better:
        told = [f"{gain.strategy.label} by {_evidence(gain)}" for gain in better[:TOLD]]
        more = f", and {len(better) - TOLD} more" if len(better) > TOLD else ""
        text = f"{len(better)} of {len(gains)} strategies are better than {base}: "
        text += ", ".join(told) + more
    else:
        text = f"no strategy is shown to be better than {base} ({_reach(comparison)})"
    if worse:
        text += f"; {', '.join(worse)} {'is' if len(worse) == 1 else 'are'} worse"
    return text


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


def _by_category(board: Board, strategy: Strategy) -> dict[str, tuple[float, float]]:
    gains = strategy.scores - board.strategies[0].scores
    # What is detected half of the time is what the interval's margin just reaches.
    return {
        key: (
            float(gains[:, column].mean()),
            stats.minimum_detectable(gains[:, column], board.groups, power=0.5),
        )
        for column, key in enumerate(board.categories)
    }


def _cached(metrics: Mapping[str, float]) -> bool:
    """Tell whether a run had answers from the cache, so that its cost is not what it takes."""
    answered = metrics.get("cost/calls", 0) + metrics.get("cost/lost", 0)
    return metrics.get("cost/asked", 0) > answered


def _cost(board: Board, *, cached: bool) -> str:
    """Choose what every run knows: dollars, else tokens; requests if the cache answered some."""
    priced = [s.metrics for s in board.strategies if s.metrics]
    for name in COSTS if not cached else ("asked",):
        if priced and all(metrics.get(f"cost/{name}", 0) > 0 for metrics in priced):
            return name
    return "asked"


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def _unlike(own: Mapping[Key, float], cells: Mapping[Key, float]) -> str:
    for place, what in ((0, "cases"), (1, "categories")):
        mine, theirs = ({key[place] for key in side} for side in (own, cells))
        if mine != theirs:
            odd = sorted(mine ^ theirs)
            return f"{len(mine)} test {what}, not {len(theirs)} (such as {odd[0]})"
    return f"{len(own)} cells, not {len(cells)}"
