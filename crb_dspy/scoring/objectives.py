"""What a search may be told to maximise: the score, or any other metric of a cell by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from crb_dspy.data.kind import Judged
from crb_dspy.errors import UserError, unknown
from crb_dspy.scoring.halves import Halves
from crb_dspy.scoring.objective import CellScore
from crb_dspy.scoring.paper import PAPER

Quotes = Sequence[str]
SCORE = "score"


@dataclass(frozen=True)
class Objective:
    """A metric of a cell, 0 to 1, higher being better; NaN for a cell that does not count.

    `halved`: cells with and without gold are two halves, joined by the harmonic mean. The mean
    over cells is the value of any other.
    """

    name: str
    value: Callable[[Judged, Quotes, Quotes], float]
    halved: bool = False

    def halves(self, value: float, filled: object) -> Halves:
        """Return the halves of one cell; `filled` is false where nothing was to be found."""
        if math.isnan(value):
            return Halves()
        if self.halved and not filled:
            return Halves(empty=value, n_empty=1)
        return Halves(value, 1)


def find_objective(name: str) -> Objective:
    """Return an objective by name; UserError if there is none."""
    if name not in OBJECTIVES:
        raise UserError(unknown("objective", name, list(OBJECTIVES)))
    return OBJECTIVES[name]


def _f1(cell: Judged, gold: Quotes, predicted: Quotes) -> float:
    return cell.score


def _where(filled: bool, cell: Judged, gold: Quotes, predicted: Quotes) -> float:
    return cell.score if bool(cell.gold) == filled else math.nan


def _part(name: str, cell: Judged, gold: Quotes, predicted: Quotes) -> float:
    # Of cells that hold no quotes it is not known.
    return float(getattr(cell, name, math.nan))


def _negations(cell: Judged, gold: Quotes, predicted: Quotes) -> float:
    if not isinstance(cell, CellScore) or not cell.negatives:
        return math.nan
    return cell.negatives_found / cell.negatives


def _paper(name: str, cell: Judged, gold: Quotes, predicted: Quotes) -> float:
    if not isinstance(cell, CellScore):
        return math.nan
    metric = PAPER[name]
    share = metric.function(gold, predicted) / 100
    return share if metric.higher_is_better else 1 - share


OBJECTIVES: Mapping[str, Objective] = {
    SCORE: Objective(SCORE, _f1, halved=True),
    "cell_mean": Objective("cell_mean", _f1),
    "nonempty_f1": Objective("nonempty_f1", partial(_where, True)),
    "empty_agreement": Objective("empty_agreement", partial(_where, False)),
    "precision": Objective("precision", partial(_part, "precision")),
    "recall": Objective("recall", partial(_part, "recall")),
    "negation_recall": Objective("negation_recall", _negations),
    **{name: Objective(name, partial(_paper, name)) for name in PAPER},
}
