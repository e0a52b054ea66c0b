"""What a compile found, in rows, one sentence, and the metrics that every run has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from crb_dspy import stats
from crb_dspy.evaluation import Row, asked, case_scores
from crb_dspy.models.meter import Usage
from crb_dspy.running.stages import Truth
from crb_dspy.scoring import paper
from crb_dspy.scoring.objective import summarise
from crb_dspy.tuning.contamination import Hit
from crb_dspy.tuning.gate import IMPROVED, Verdict
from crb_dspy.tuning.ledger import Row as CandidateRow


@dataclass(frozen=True)
class Result:
    """What a compile found: test rows of seed and tuned program, their difference, the cost.

    `verdicts` say what became of each part, `together` what all changed ones would do, `stopped`
    which cap was reached, `leaks` where a tuned prompt shares text with a report that chose or
    judged it, `usages` what each role asked, `truths` the same by stage beside the estimate.
    """

    baseline: list[Row]
    tuned: list[Row]
    difference: stats.Difference
    verdicts: list[Verdict]
    together: Verdict | None
    candidates: list[CandidateRow]
    stopped: str
    leaks: list[Hit]
    usages: Mapping[str, Usage]
    truths: list[Truth]
    seconds: float
    folder: Path
    run: str

    @property
    def parts(self) -> list[tuple[str, str]]:
        """What became of each part, and what all of them would do, by name."""
        beside = [self.together] if self.together else []
        return [(verdict.part, str(verdict)) for verdict in (*self.verdicts, *beside)]

    @property
    def usage(self) -> Usage:
        """What all roles asked together."""
        return sum(self.usages.values(), Usage())


def fair(baseline: Sequence[Row], tuned: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of the cases that a spent budget left unasked by neither."""
    both = asked(baseline) & asked(tuned)
    return [r for r in baseline if r.case in both], [r for r in tuned if r.case in both]


def difference(baseline: Sequence[Row], tuned: Sequence[Row]) -> stats.Difference:
    """Compare two sets of rows on the same cases, case by case, groups being resampled."""
    before, after = case_scores(baseline), case_scores(tuned)
    groups = {row.case: row.group for row in baseline}
    return stats.paired_difference(
        list(before.values()), [after[case] for case in before], [groups[case] for case in before]
    )


def headline(result: Result) -> str:
    """Say in one sentence what a compile gained, and how sure that is."""
    gain = result.difference
    interval = (
        "no interval from a single group"
        if math.isnan(gain.low)
        else f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}, p = {gain.p:.2g}"
    )
    return f"{gain.difference:+.3f}  {interval}: {stats.verdict(gain)}"


def metrics(result: Result) -> dict[str, float]:
    """Return the metrics of a result under the names they have everywhere."""
    summary = summarise([(row.case, row.category, row.cell) for row in result.tuned])
    by_category: dict[str, list[float]] = {}
    for row in result.tuned:
        by_category.setdefault(row.category, []).append(row.score)
    categories = {f"test/{key}": sum(v) / len(v) for key, v in by_category.items()}
    cost = {f"cost/{name}": value for name, value in asdict(result.usage).items()}
    rows = result.tuned
    return {
        **{f"test/{name}": value for name, value in summary.items() if not math.isnan(value)},
        **{f"paper/{name}": value for name, value in _paper(rows).items()},
        **categories,
        "test/score": _mean(rows),
        "test/score_baseline": _mean(result.baseline),
        "test/difference": result.difference.difference,
        "test/improved_parts": float(sum(v.outcome == IMPROVED for v in result.verdicts)),
        "test/errors": float(sum(bool(row.error) for row in rows)),
        **cost,
        "cost/tokens": float(result.usage.tokens),
        "cost/seconds": result.seconds,
    }


def _paper(rows: Sequence[Row]) -> dict[str, float]:
    """Return the paper's metrics, 0 to 100, aggregated as there."""
    cells = [(row.category, paper.score_cell(row.gold, row.predicted)) for row in rows]
    keys = dict.fromkeys(category for category, _ in cells)
    return {
        name: paper.aggregate({key: [m[name] for own, m in cells if own == key] for key in keys})
        for name in paper.PAPER
    }


def _mean(rows: Sequence[Row]) -> float:
    scores = case_scores(rows)
    return sum(scores.values()) / len(scores)
