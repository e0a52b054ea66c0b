"""Which rule finds a category: one for all, and another only where the evidence is strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crb_dspy.retrieval.classifier import Matrix
from crb_dspy.retrieval.sentences import SIZES, Size

# How many standard errors a category's gain must reach for a rule of its own.
EVIDENCE = 1.0


@dataclass(frozen=True, order=True)
class Rule:
    """Quote every sentence, or clause, whose probability is at least the threshold."""

    size: Size
    threshold: float


# Few, since the more there are to choose from, the more of a choice is chance.
RULES = tuple(
    Rule(size, threshold) for size in SIZES for threshold in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
)


@dataclass(frozen=True)
class Cells:
    """What each rule scores in each cell, cases x categories, and which cells have gold."""

    scores: Mapping[Rule, Matrix]
    gold: NDArray[np.bool_]
    # Of each case: what belongs together counts as one piece of evidence.
    groups: Sequence[str]


def objective(scores: Matrix, gold: NDArray[np.bool_]) -> float:
    """Return the harmonic mean of the mean over cells with gold and that over those without.

    Where there is one kind of cell only, its mean.
    """
    halves = [float(scores[mask].mean()) for mask in (gold, ~gold) if mask.any()]
    if len(halves) < 2:
        return sum(halves)
    return 2 * halves[0] * halves[1] / sum(halves) if sum(halves) else 0.0


def choose(cells: Cells, evidence: float = EVIDENCE) -> list[Rule]:
    """Return a rule for each category: the best of one for all, unless its own gains enough.

    What a category gains is taken at the common rule: of the objective there, by the cells that
    change; `evidence` is in standard errors, over groups.
    """
    values = {rule: objective(scores, cells.gold) for rule, scores in cells.scores.items()}
    common = max(values, key=values.__getitem__)
    worth = _worth(cells.scores[common], cells.gold)
    chosen = [(0.0, common)] * cells.gold.shape[1]
    for rule, scores in cells.scores.items():
        gains = _by_group((scores - cells.scores[common]) * worth, cells.groups)
        error = gains.std(axis=0, ddof=1) * len(gains) ** 0.5 if len(gains) > 1 else 0.0
        for column, lead in enumerate((gains.sum(axis=0) - evidence * error).tolist()):
            if lead > chosen[column][0] + 1e-12:
                chosen[column] = lead, rule
    return [rule for _, rule in chosen]


def _by_group(values: Matrix, groups: Sequence[str]) -> Matrix:
    """Sum the rows of each group."""
    names = list(dict.fromkeys(groups))
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, [names.index(name) for name in groups], values)
    return sums


def _worth(scores: Matrix, gold: NDArray[np.bool_]) -> Matrix:
    """Return how much the objective rises for each point that a cell gains."""
    if gold.all() or not gold.any():
        return np.full(scores.shape, 1 / scores.size)
    a, b = float(scores[gold].mean()), float(scores[~gold].mean())
    total = (a + b) ** 2 or 1.0
    found, silent = 2 * b * b / total / int(gold.sum()), 2 * a * a / total / int((~gold).sum())
    return np.where(gold, found, silent).astype(np.float64)
