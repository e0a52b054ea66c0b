"""Scores of a whole set of predictions: cells, categories, summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crb_dspy.cases import Case
from crb_dspy.scoring import paper
from crb_dspy.scoring.objective import CellScore, by_category, score_cell, summarise

# Which families of metrics there are; each can be left out.
FAMILIES = ("objective", "paper")

Predictions = Mapping[str, Mapping[str, Sequence[str]]]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Scores:
    """Metrics of a set of predictions; NaN where a metric is undefined.

    `cells` holds, in the order of cases and categories, case id, category, metrics and reason; a
    metric means the same for a cell, a category and all, but precision and recall are a cell's.
    """

    summary: Metrics
    categories: dict[str, Metrics]
    cells: list[tuple[str, str, Metrics, str]]


def score(
    cases: Iterable[Case],
    keys: Sequence[str],
    predictions: Predictions,
    families: Sequence[str] = FAMILIES,
) -> Scores:
    """Score predictions, quotes by case id and category; what is missing counts as empty.

    The objective runs from 0 to 1, the paper's metrics from 0 to 100. Means are over a case's
    categories, then over cases; for the paper's over cases, then over categories, as there.
    """
    rows: list[tuple[str, str, CellScore]] = []
    cells = []
    for case in cases:
        for key in keys:
            gold = tuple((case.gold or {}).get(key, ()))
            predicted = tuple(predictions.get(case.id, {}).get(key, ()))
            metrics: Metrics = {}
            reason = ""
            if "objective" in families:
                cell = score_cell(case.text, gold, predicted)
                rows.append((case.id, key, cell))
                metrics = summarise(rows[-1:]) | {
                    "precision": cell.precision,
                    "recall": cell.recall,
                }
                reason = cell.reason
            if "paper" in families:
                metrics |= paper.score_cell(gold, predicted)
            cells.append((case.id, key, metrics, reason))
    return Scores(*_means(rows, cells, keys, families), cells)


def _means(
    rows: Sequence[tuple[str, str, CellScore]],
    cells: Sequence[tuple[str, str, Metrics, str]],
    keys: Sequence[str],
    families: Sequence[str],
) -> tuple[Metrics, dict[str, Metrics]]:
    summary: Metrics = summarise(rows) if "objective" in families else {}
    categories: dict[str, Metrics] = by_category(rows) if "objective" in families else {}
    categories = {key: categories.get(key, {}) for key in keys}
    for name in paper.PAPER if "paper" in families else ():
        values = {key: [m[name] for _, own, m, _ in cells if own == key] for key in keys}
        summary[name] = paper.aggregate(values)
        for key in keys:
            categories[key][name] = paper.aggregate({key: values[key]})
    return summary, categories


def plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics for JSON: null where undefined."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}
