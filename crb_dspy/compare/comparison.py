"""Which strategies are better than a baseline on the same cases, by how much, and how surely."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from crb_dspy import stats
from crb_dspy.errors import UserError

# Runs that differ in one of these have not answered the same question.
SAME = (
    *("benchmark", "data_fingerprint", "split_fingerprint", "categories"),
    *("objective", "scoring", "category_keys"),
)
# What costs are compared by, dearest knowledge first; `asked` counts what the cache answered too.
COSTS = ("usd", "tokens", "asked")
POWER = 0.8

# (case, category)
Key = tuple[str, str]


@dataclass(frozen=True)
class Strategy:
    """One program's test scores: cases x categories, and the metrics of its run.

    `silent` are the cells whose score is the second half of the whole's, those without gold; with
    none, the whole's score is a mean. A score that is NaN does not count.
    """

    label: str
    run: str
    scores: stats.Floats
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    silent: stats.Floats | None = None

    @cached_property
    def halves(self) -> stats.Halves:
        """Sums and numbers of both kinds of cells by case."""
        return self.part(slice(None))

    def part(self, categories: slice) -> stats.Halves:
        """Return the halves of some categories."""
        scores = self.scores[:, categories]
        counted = ~np.isnan(scores)
        silent = np.zeros_like(counted) if self.silent is None else self.silent[:, categories] > 0
        values = np.nan_to_num(scores)
        kinds = (counted & ~silent, counted & silent)
        (first, n_first), (second, n_second) = (
            ((values * kind).sum(axis=1), kind.sum(axis=1)) for kind in kinds
        )
        return stats.Halves(first, n_first, second, n_second)

    @property
    def score(self) -> float:
        """The score over all cells."""
        return score_of(self.halves)


@dataclass(frozen=True)
class Board:
    """Strategies that answered the same cells; the first is the baseline."""

    cases: tuple[str, ...]
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    # Scores of systems that ask no model, by name.
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Gain:
    """A strategy against the baseline.

    `difference` has the raw p and an interval for this pair alone, `holm` is p corrected for all
    pairs. `detectable` is the difference that would be shown with a power of 0.8 if it were the
    smallest p of the family, `needed` how many cases would then show the difference found, were
    it the true one. `categories` gives (difference, margin): Student's interval over groups, for
    reading, not tested.
    """

    strategy: Strategy
    difference: stats.Difference
    holm: float
    detectable: float
    needed: float
    categories: Mapping[str, tuple[float, float]]

    @property
    def verdict(self) -> str:
        """Say "improved" or "worse" where the corrected p rules out that nothing differs."""
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
        stats.harmonic_difference(
            baseline.halves, other.halves, board.groups, draws=draws, seed=seed
        )
        for other in others
    ]
    holm = stats.holm([difference.p for difference in differences])
    gains = [
        _gain(board, other, difference, corrected)
        for other, difference, corrected in zip(others, differences, holm, strict=True)
    ]
    gains.sort(key=lambda gain: -gain.difference.difference)
    cached = any(_cached(strategy.metrics) for strategy in board.strategies)
    return Comparison(board, tuple(gains), cost or _cost(board, cached=cached), cached)


def board(
    strategies: Sequence[tuple[Strategy, Mapping[Key, float]]],
    groups: Mapping[str, str],
    silent: Collection[Key] = (),
) -> Board:
    """Put the cells of strategies side by side; UserError where they are not the same cells.

    The scores of the strategies given are replaced; `groups` names the group of each case,
    `silent` the cells without gold, where they are a half of the score.
    """
    (first, cells), *_ = strategies
    cases = tuple(dict.fromkeys(case for case, _ in cells))
    categories = tuple(dict.fromkeys(category for _, category in cells))
    empty = np.array([[float((c, k) in silent) for k in categories] for c in cases])
    laid = []
    for strategy, own in strategies:
        if own.keys() != cells.keys():
            raise UserError(f"{strategy.label} and {first.label} differ: {_unlike(own, cells)}")
        values = [[own[case, category] for category in categories] for case in cases]
        laid.append(replace(strategy, scores=np.array(values, np.float64), silent=empty))
    return Board(cases, tuple(groups[case] for case in cases), categories, tuple(laid))


def differing(params: Mapping[str, str], reference: Mapping[str, str]) -> str:
    """Say in what two runs cannot be compared; nothing if they can."""
    return ", ".join(
        f"{name} {params.get(name, 'unknown')}, not {reference.get(name, 'unknown')}"
        for name in SAME
        if params.get(name) != reference.get(name)
    )


def _gain(board: Board, other: Strategy, difference: stats.Difference, corrected: float) -> Gain:
    alpha = (1 - difference.level) / (len(board.strategies) - 1)
    return Gain(
        other,
        difference,
        corrected,
        stats.detectable(difference, power=POWER, alpha=alpha),
        stats.cases_needed(difference, power=POWER, alpha=alpha),
        _by_category(board, other),
    )


def _by_category(board: Board, strategy: Strategy) -> dict[str, tuple[float, float]]:
    found = {}
    for column, key in enumerate(board.categories):
        own = slice(column, column + 1)
        before, after = board.strategies[0].part(own), strategy.part(own)
        gain, error = stats.harmonic_gain(before, after, board.groups)
        found[key] = gain, stats.margin(error, len(set(board.groups)))
    return found


def score_of(halves: stats.Halves) -> float:
    """Return the score of halves over all cases."""
    whole = stats.Halves(*(float(np.sum(column)) for column in halves))
    return float(stats.harmonic_mean(whole)[0])


def _cached(metrics: Mapping[str, float]) -> bool:
    """Tell whether a run had answers from the cache, so that its cost is not what it takes."""
    answered = metrics.get("cost/calls", 0) + metrics.get("cost/lost", 0)
    return metrics.get("cost/asked", 0) > answered


def _cost(board: Board, *, cached: bool) -> str:
    """Choose what every run knows: what a report will cost, else what the compiles did.

    Of these dollars, else tokens; requests if the cache answered some.
    """
    priced = [s.metrics for s in board.strategies if s.metrics]
    if priced and all("cost/report_tokens" in metrics for metrics in priced):
        return "report_tokens"
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
