"""What a compile found, in rows, one sentence, and the metrics that every run has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from crb_dspy import stats
from crb_dspy.compile.stages import Truth
from crb_dspy.evaluation import figures
from crb_dspy.evaluation.rows import Row, fully_asked, score_of
from crb_dspy.models.meter import Usage
from crb_dspy.retrieval.use import INSTEAD
from crb_dspy.scoring.halves import total
from crb_dspy.scoring.paper import PAPER
from crb_dspy.tuning.choice import Choice
from crb_dspy.tuning.contamination import Hit
from crb_dspy.tuning.gate import Verdict
from crb_dspy.tuning.ledger import Record


@dataclass(frozen=True)
class Result:
    """What a compile found: test rows of seed and tuned program, their difference, the cost.

    `verdicts` say what became of each part, `together` what all changed ones would do, `stopped`
    which cap was reached, `leaks` where a tuned prompt shares text with a report that chose or
    judged it, `systems` what those that ask no model made of the test cases, `choice` what the
    search expects, `stages` what it expected after each of its stages, `usages` what each role
    asked, `truths` the same by stage beside the estimate, `learnt` what was learnt of the servers.
    """

    baseline: list[Row]
    tuned: list[Row]
    difference: stats.Difference
    verdicts: list[Verdict]
    together: Verdict | None
    candidates: list[Record]
    stopped: str
    leaks: list[Hit]
    systems: Mapping[str, list[Row]]
    choice: Choice | None
    stages: Mapping[str, float]
    usages: Mapping[str, Usage]
    truths: list[Truth]
    seconds: float
    folder: Path
    run: str
    learnt: Sequence[str] = ()

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
    both = fully_asked(baseline) & fully_asked(tuned)
    return [r for r in baseline if r.case in both], [r for r in tuned if r.case in both]


def headline(result: Result) -> str:
    """Say in one sentence what a compile gained, and how sure that is."""
    gain = result.difference
    interval = (
        "no interval from a single group"
        if math.isnan(gain.low)
        else f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}, p = {gain.p:.2g}"
    )
    return f"{gain.difference:+.3f}  {interval}: {stats.verdict(gain)}"


def shortly(result: Result) -> str:
    """Say it in a table's cell: scores to three digits, and the verdict."""
    before, after = score_of(result.baseline), score_of(result.tuned)
    return f"{before:.3f} → {after:.3f}, {stats.verdict(result.difference)}"


def metrics(result: Result) -> dict[str, float]:
    """Return the metrics of a result under the names they have everywhere.

    `test/score` is that of the objective; the project's own score, where that is another, stands
    beside it as `test/harmonic`.
    """
    rows, found = result.tuned, figures.metrics(result.tuned)
    harmonic = found.pop("score")
    own = {name: value for name, value in found.items() if name not in PAPER}
    paper = {name: value for name, value in found.items() if name in PAPER}
    by_category = figures.categories(rows).items()
    cost = {f"cost/{name}": value for name, value in asdict(result.usage).items()}
    return {
        **{f"test/{name}": value for name, value in figures.known(own).items()},
        **{f"paper/{name}": value for name, value in figures.known(paper).items()},
        **figures.known({f"test/{key}": values["objective"] for key, values in by_category}),
        **figures.known(
            {
                f"test/{key}/{name}": value
                for key, own in figures.of_kinds(rows).items()
                for name, value in own.items()
            }
        ),
        "test/score": score_of(rows),
        "test/harmonic": harmonic,
        "test/score_baseline": score_of(result.baseline),
        "test/difference": result.difference.difference,
        "test/improved_parts": float(sum(v.kept for v in result.verdicts)),
        "test/errors": float(sum(bool(row.error) for row in rows)),
        **beside(result),
        **figures.known({f"expected/after_{name}": s for name, s in result.stages.items()}),
        **cost,
        "cost/tokens": float(result.usage.tokens),
        "cost/seconds": result.seconds,
    }


def beside(result: Result) -> dict[str, float]:
    """Return score and halves of the systems that ask no model, on the same test cases."""
    found: dict[str, float] = {}
    for name, rows in result.systems.items():
        halves = total(row.halves for row in rows)
        values = {"score": halves.score, "nonempty_f1": halves.nonempty_f1}
        values |= {"empty_agreement": halves.empty_agreement}
        found |= {f"{slug(name)}/{metric}": value for metric, value in values.items()}
    return figures.known(found)


def told(result: Result) -> str:
    """Say in one sentence what the systems that ask no model score, and what follows."""
    scores = {name: score_of(rows) for name, rows in result.systems.items()}
    beside = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    better = [name for name, score in scores.items() if score >= score_of(result.tuned)]
    text = f"Without a model, on the same cases: {beside}"
    if better:
        text += f"; the tuned program does not beat the {better[-1]} and should not be deployed"
    if alone := sum(row.reason.endswith(INSTEAD) for row in result.tuned):
        cells = f"{alone} of {len(result.tuned)} cells"
        text += f". In {cells} it asks no model: its classifier is expected to find as much"
    return f"{text}."


def slug(system: str) -> str:
    """Return the name of a system as part of a metric's."""
    return system.replace(" ", "_")
