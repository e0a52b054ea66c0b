"""The objective: two-sided agreement on the tokens of the report that gold and prediction cover."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crb_dspy.data.kind import Judged
from crb_dspy.scoring.coverage import Coverage, cover
from crb_dspy.scoring.halves import harmonic
from crb_dspy.scoring.places import Quotes, locate
from crb_dspy.scoring.reason import explain, negations
from crb_dspy.scoring.tokens import Level, Report, tokenized

Scored = tuple[str, str, Judged]


@dataclass(frozen=True, kw_only=True)
class CellScore(Judged):
    """The objective of a cell of quotes, its reason in at most 300 characters, and its counts.

    `predicted` and `gold` count distinct quotes, `ungrounded` those predicted that are not in
    the report; `negatives` are negations in gold, `negatives_found` those found with what they
    negate, `polarity_errors` those whose finding was quoted without them. Precision or recall
    is NaN where there is nothing predicted or no gold.
    """

    precision: float
    recall: float
    negatives: int
    negatives_found: int
    polarity_errors: int
    gold_tokens: int
    found_tokens: int
    extra_tokens: int


def score_cell(text: str, gold: Sequence[str], predicted: Sequence[str]) -> CellScore:
    """Score predicted against gold quotes of one category of a report.

    F1 over content tokens; tokens of a quote that is not in the report count as extra. Two
    empty cells score 1, one empty cell 0. Blank quotes are no quotes. Where gold has no content
    word (function words, marks), all words count, or else all marks.
    """
    wanted, given = _quotes(gold), _quotes(predicted)
    for level in Level:
        report = tokenized(text, level)
        sought, found = locate(report, wanted), locate(report, given)
        coverage = cover(report, sought, found)
        if coverage.gold or sought.unknown or not wanted:
            break
    return _scored(report, sought, found, coverage)


def summarise(rows: Iterable[Scored]) -> dict[str, float]:
    """Return the metrics of scored cells (case id, category, score); NaN where undefined.

    `nonempty_f1` and `empty_agreement`: mean over the cells with and without gold. `score`: their
    harmonic mean, or the one that there is. `cell_mean`: mean over a case's categories, then over
    cases, which silence can win. `ungrounded`: share of predicted
    quotes. `over_extraction`: tokens beyond gold for each gold token. `negation_recall`: share
    of gold's negations. `polarity_errors`: their number.
    """
    cases: dict[str, list[float]] = {}
    cells = []
    for case, _, cell in rows:
        if not math.isnan(cell.score):
            cases.setdefault(case, []).append(cell.score)
            cells.append(cell)
    told = [cell for cell in cells if isinstance(cell, CellScore)]
    negatives = sum(cell.negatives for cell in told)
    filled = _mean([cell.score for cell in cells if cell.gold])
    silent = _mean([cell.score for cell in cells if not cell.gold])
    return {
        "score": harmonic(filled, silent),
        "nonempty_f1": filled,
        "empty_agreement": silent,
        "cell_mean": _mean([_mean(scores) for scores in cases.values()]),
        "negation_recall": _ratio(sum(cell.negatives_found for cell in told), negatives),
        "ungrounded": _ratio(
            sum(cell.ungrounded for cell in cells), sum(cell.predicted for cell in cells)
        ),
        "over_extraction": _ratio(
            sum(cell.extra_tokens for cell in told), sum(cell.gold_tokens for cell in told)
        ),
        "polarity_errors": float(sum(cell.polarity_errors for cell in told)),
    }


def by_category(rows: Iterable[Scored]) -> dict[str, dict[str, float]]:
    """Return the metrics of `summarise` for each category, in the order they first come."""
    groups: dict[str, list[Scored]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    return {category: summarise(group) for category, group in groups.items()}


def _quotes(quotes: Iterable[str]) -> set[str]:
    return {quote.strip() for quote in quotes} - {""}


def _scored(report: Report, sought: Quotes, given: Quotes, coverage: Coverage) -> CellScore:
    found = len(coverage.found) + len(sought.unknown & given.unknown)
    extra = len(coverage.extra) + len(given.unknown - sought.unknown)
    gold = len(coverage.gold) + len(sought.unknown)
    negation = negations(report, coverage, given.ungrounded)
    return CellScore(
        score=_f1(sought.count, given.count, 2 * found / max(1, found + extra + gold)),
        reason=explain(report, sought, given, coverage, negation.lost),
        precision=_ratio(found, found + extra),
        recall=_ratio(found, gold),
        predicted=given.count,
        gold=sought.count,
        ungrounded=len(given.ungrounded),
        negatives=len(negation.all),
        negatives_found=len(negation.found),
        polarity_errors=len(negation.lost),
        gold_tokens=gold,
        found_tokens=found,
        extra_tokens=extra,
    )


def _f1(gold: int, predicted: int, f1: float) -> float:
    return f1 if gold and predicted else float(gold == predicted)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
