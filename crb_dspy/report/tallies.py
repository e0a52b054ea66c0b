"""What was found, missed and wrong in a set of cells, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy import stats
from crb_dspy.evaluation.figures import columns
from crb_dspy.report.cells import Pair
from crb_dspy.report.placing import FOUND, MISSED, UNGROUNDED, WRONG, Placed
from crb_dspy.scoring.halves import Halves, total

Placing = tuple[Pair, Placed]


@dataclass(frozen=True)
class Tally:
    """Counts of one run: gold quotes found and missed, predicted ones wrong and nowhere.

    `lost` counts negations that their findings were quoted without, `failed` cells without an
    answer, `mended` those whose answer had to be repaired.
    """

    halves: Halves
    found: int
    missed: int
    wrong: int
    ungrounded: int
    lost: int
    failed: int
    mended: int

    @property
    def score(self) -> float:
        """The score of the cells."""
        return self.halves.score

    @property
    def counts(self) -> str:
        """What the filters count: found, missed, wrong, negations lost, nowhere, no answer."""
        counted = (self.found, self.missed, self.wrong, self.lost, self.ungrounded, self.failed)
        return " ".join(map(str, counted))


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
        halves=total(cell.halves for cell in own),
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
    difference = stats.harmonic_difference(
        columns(pair.a.halves for pair in pairs),
        columns(pair.b.halves for pair in pairs),
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
