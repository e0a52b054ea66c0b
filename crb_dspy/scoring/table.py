"""Scores of a whole set of predictions: cells, categories, summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Cell, Judged, Kind, usual
from crb_dspy.scoring import paper, spans
from crb_dspy.scoring.objective import by_category, summarise

# Which families of metrics there are; each can be left out.
FAMILIES = ("objective", "paper", "field")

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
    kinds: Mapping[str, Kind] | None = None,
) -> Scores:
    """Score predictions, items by case id and category; what is missing counts as empty.

    `kinds` say what categories hold, quotes where they say nothing; metrics of quotes are of those
    alone, and other kinds have their own among the field's.

    The objective and the field's metrics run from 0 to 1, the paper's from 0 to 100. The
    objective is a mean over a case's categories, then over cases; the paper's over cases, then
    over categories, as there; the field's are pooled, or (`macro`, in the summary only) means
    over categories.
    """
    holds = {key: (kinds or {}).get(key) or usual() for key in keys}
    rows: list[tuple[str, str, Judged]] = []
    counts: dict[str, list[spans.Counts]] = {k: [] for k in keys if holds[k].verbatim}
    others: dict[str, list[Cell]] = {key: [] for key in keys if key not in counts}
    cells = []
    for case, key in product(cases, keys):
        gold = tuple((case.gold or {}).get(key, ()))
        predicted = tuple(predictions.get(case.id, {}).get(key, ()))
        metrics: Metrics = {}
        reason = ""
        if "objective" in families:
            cell = holds[key].score(case.text, gold, predicted)
            rows.append((case.id, key, cell))
            ratios = {name: getattr(cell, name, math.nan) for name in ("precision", "recall")}
            metrics = summarise(rows[-1:]) | ratios
            reason = cell.reason
        if "paper" in families and key in counts:
            metrics |= paper.score_cell(gold, predicted)
        if "field" in families and key in counts:
            counts[key].append(spans.count(case.text, gold, predicted))
            metrics |= spans.pooled(counts[key][-1:])
        elif "field" in families:
            others[key].append((case.id, gold, predicted))
        cells.append((case.id, key, metrics, reason))
    summary, categories = _means(rows, cells, keys, families)
    if "field" in families:
        fields = _fields(counts) | {key: holds[key].metrics(own) for key, own in others.items()}
        summary |= spans.pooled(chain(*counts.values())) if counts else {}
        summary |= spans.averaged(counts.values()) if counts else {}
        summary |= summed({key: fields[key] for key in others}, holds)
        categories = {key: own | fields[key] for key, own in categories.items()}
    return Scores(summary, categories, cells)


def _fields(counts: Mapping[str, Sequence[spans.Counts]]) -> dict[str, Metrics]:
    return {key: spans.pooled(own) for key, own in counts.items()}


def _means(
    rows: Sequence[tuple[str, str, Judged]],
    cells: Sequence[tuple[str, str, Metrics, str]],
    keys: Sequence[str],
    families: Sequence[str],
) -> tuple[Metrics, dict[str, Metrics]]:
    summary = summarise(rows) if "objective" in families else {}
    categories: dict[str, Metrics] = by_category(rows) if "objective" in families else {}
    categories = {key: categories.get(key, {}) for key in keys}
    quoted = dict.fromkeys(key for _, key, own, _ in cells if paper.PAPER.keys() & own.keys())
    for name in paper.PAPER if "paper" in families and quoted else ():
        values = {key: [m[name] for _, own, m, _ in cells if own == key] for key in quoted}
        summary[name] = paper.aggregate(values)
        for key in quoted:
            categories[key][name] = paper.aggregate({key: values[key]})
    return summary, categories


def plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics for JSON: null where undefined."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def summed(found: Mapping[str, Mapping[str, float]], kinds: Mapping[str, Kind]) -> dict[str, float]:
    """Return the metrics of categories as those of each kind over its own."""
    groups: dict[type[Kind], list[str]] = {}
    for key in found:
        groups.setdefault(type(kinds[key]), []).append(key)
    pooled = (kinds[keys[0]].pooled([found[key] for key in keys]) for keys in groups.values())
    return {name: value for own in pooled for name, value in own.items()}
