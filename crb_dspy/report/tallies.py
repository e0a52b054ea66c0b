"""What was found, missed and wrong in a set of cells, and how sure a difference is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy import stats
from crb_dspy.report.cells import Pair
from crb_dspy.report.placing import FOUND, MISSED, UNGROUNDED, WRONG, Placed

Placing = tuple[Pair, Placed]


@dataclass(frozen=True)
class Tally:
    """Counts of one run: gold quotes found and missed, predicted ones wrong and nowhere.

    `lost` counts negations that their findings were quoted without, `failed` cells without an
    answer, `mended` those whose answer had to be repaired.
    """

    score: float
    found: int
    missed: int
    wrong: int
    ungrounded: int
    lost: int
    failed: int
    mended: int


@dataclass(frozen=True)
class CategoryRow:
    """A category in both runs, with the interval of its difference."""

    number: int
    key: str
    title: str
    gold: int
    runs: tuple[Tally, Tally]
    difference: stats.Difference
    verdict: str


def tally(cells: Sequence[Placing], run: int) -> Tally:
    """Count what became of the quotes of some cells in run 0 or 1; scores are averaged."""
    own = [pair.b if run else pair.a for pair, _ in cells]
    gold = [quote.kinds[run] for _, placed in cells for quote in placed.gold]
    given = [quote.kind for _, placed in cells for quote in placed.predicted[run]]
    return Tally(
        score=math.fsum(cell.score for cell in own) / max(1, len(own)),
        found=gold.count(FOUND),
        missed=gold.count(MISSED),
        wrong=given.count(WRONG),
        ungrounded=given.count(UNGROUNDED),
        lost=sum(len(placed.lost[run]) for _, placed in cells),
        failed=sum(cell.failed for cell in own),
        mended=sum(cell.salvaged for cell in own),
    )


def category_row(number: int, key: str, title: str, cells: Sequence[Placing]) -> CategoryRow:
    """Sum up a category over all cases, whole groups being the units of chance."""
    pairs = [pair for pair, _ in cells]
    difference = stats.paired_difference(
        [pair.a.score for pair in pairs],
        [pair.b.score for pair in pairs],
        [pair.a.group for pair in pairs],
    )
    return CategoryRow(
        number=number,
        key=key,
        title=title,
        gold=sum(len(placed.gold) for _, placed in cells),
        runs=(tally(cells, 0), tally(cells, 1)),
        difference=difference,
        verdict=stats.verdict(difference),
    )
