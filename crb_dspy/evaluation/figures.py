"""Figures of rows: every metric, how sure a score is, and how sure a difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from crb_dspy import stats
from crb_dspy.data.kind import Cell, Kind
from crb_dspy.evaluation.rows import Row, by_case, score_of
from crb_dspy.scoring import paper
from crb_dspy.scoring.halves import Halves
from crb_dspy.scoring.objective import by_category, summarise
from crb_dspy.scoring.table import summed


def metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Return the metrics of rows, NaN where undefined: this project's, the paper's, the kinds'."""
    cells = [(row.case, row.category, row.cell) for row in rows]
    return summarise(cells) | _paper(rows) | summed(of_kinds(rows), _kinds(rows))


def categories(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the metrics of rows for each category, in the order in which they come."""
    own = by_category([(row.case, row.category, row.cell) for row in rows])
    groups: dict[str, list[Row]] = {key: [] for key in own}
    for row in rows:
        groups[row.category].append(row)
    objective = {key: {"objective": score_of(group)} for key, group in groups.items()}
    kinds = of_kinds(rows)
    return {
        key: own[key] | objective[key] | _paper(groups[key]) | kinds.get(key, {}) for key in own
    }


def of_kinds(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return what the kinds of categories measure themselves, but for quotes that papers score."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if not row.kind.verbatim:
            groups.setdefault(row.category, []).append(row)
    return {key: own[0].kind.metrics([_cell(row) for row in own]) for key, own in groups.items()}


def interval(rows: Sequence[Row]) -> stats.Estimate:
    """Return the score of rows with its interval, groups being resampled."""
    cases = by_case(rows)
    return stats.harmonic_interval(columns(cases.values()), _groups(rows, cases))


def difference(baseline: Sequence[Row], tuned: Sequence[Row]) -> stats.Difference:
    """Compare the scores of two sets of rows on the same cases, groups being resampled."""
    before, after = by_case(baseline), by_case(tuned)
    theirs = columns(after[case] for case in before)
    return stats.harmonic_difference(columns(before.values()), theirs, _groups(baseline, before))


def columns(cases: Iterable[Halves]) -> stats.Halves:
    """Return the halves of cases side by side, as statistics want them."""
    rows = [(case.filled, case.n_filled, case.empty, case.n_empty) for case in cases]
    return stats.Halves(*map(list, zip(*rows, strict=True)))


def known(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are defined."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _groups(rows: Sequence[Row], cases: Iterable[str]) -> list[str]:
    groups = {row.case: row.group for row in rows}
    return [groups[case] for case in cases]


def _kinds(rows: Sequence[Row]) -> dict[str, Kind]:
    return {row.category: row.kind for row in rows}


def _cell(row: Row) -> Cell:
    return row.case, row.gold, row.predicted


def _paper(rows: Sequence[Row]) -> dict[str, float]:
    """Return the paper's metrics of quotes, 0 to 100, aggregated as there; none without quotes."""
    quoted = [row for row in rows if row.kind.verbatim]
    cells = [(row.category, paper.score_cell(row.gold, row.predicted)) for row in quoted]
    keys = dict.fromkeys(category for category, _ in cells)
    if not keys:
        return {}
    return {
        name: paper.aggregate({key: [m[name] for own, m in cells if own == key] for key in keys})
        for name in paper.PAPER
    }
