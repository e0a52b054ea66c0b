"""What parts made of cases, in scores: for recipes, for DSPy's optimizers, and for the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from crb_dspy import recipe
from crb_dspy.cases import Case
from crb_dspy.evaluation import Row, read, row_of
from crb_dspy.models.tally import Tally, tallied
from crb_dspy.program import Part, Reading, Tunable

# Enters what a part made of a case, and what that cost.
Watch = Callable[[Tunable, Case, dspy.Prediction, Tally], None]


class Watched(recipe.Student):
    """A student whose answers are entered in the ledger, whichever optimizer asks.

    `asked` of a prediction names its categories. Those of parts that failed are left out of it,
    and score 0, here as everywhere.
    """

    def __init__(self, part: Tunable, watch: Watch) -> None:
        super().__init__(part)
        self.watch = watch

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask about a case, and enter what came of it."""
        with tallied() as tally:
            try:
                prediction = self._answered(case)
            except Exception:
                self.watch(self.part, case, dspy.Prediction(asked=self.part.keys), tally)
                raise
        self.watch(self.part, case, prediction, tally)
        return prediction

    def _answered(self, case: Case) -> dspy.Prediction:
        prediction = self.part(case=case)
        for name in prediction.get("errors") or {}:
            for key in self.part.units[name].keys:
                del prediction[key]
        prediction["asked"] = self.part.keys
        return prediction


def metric(
    example: Any, prediction: Any, trace: Any = None, name: str | None = None, own: Any = None
) -> Any:
    """Return the mean score of a prediction; with feedback too where GEPA names a predictor.

    `own` is the predictor's part of the trace: it is told of its own categories.
    """
    rows = predicted(example.gold, prediction)
    if name is None:
        return mean(rows)
    fields = own[0][0].signature.output_fields if own else ()
    told = [row for row in rows if row.category in fields] or rows
    return dspy.Prediction(score=mean(rows), feedback="; ".join(row.reason for row in told))


def predicted(case: Case, prediction: Any) -> list[Row]:
    """Return a row for every category that a student was asked for."""

    def reading(key: str) -> Reading:
        if key in prediction:
            return Reading({key: list(prediction[key] or [])})
        return Reading({}, error="the call failed")

    return [row_of(case, key, reading(key)) for key in prediction["asked"]]


def rows(part: Tunable, case: Case, readings: Mapping[str, Reading]) -> list[Row]:
    """Return a row for every category of a part, from the readings of its units."""
    units: Mapping[str, Part] = part.units
    return [row_of(case, key, readings[n]) for n, unit in units.items() for key in unit.keys]


def scored(
    parts: Mapping[str, Tunable],
    cases: Sequence[Case],
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Return the scores of several parts, case by case, each case's report being read once."""
    units = {(n, u): unit for n, part in parts.items() for u, unit in part.units.items()}
    readings = read(list(units.values()), cases, threads=threads, progress=progress)
    scores: dict[str, list[float]] = {name: [] for name in parts}
    for case, answers in zip(cases, readings, strict=True):
        found = dict(zip(units, answers, strict=True))
        for name, part in parts.items():
            scores[name].append(mean(rows(part, case, {u: found[name, u] for u in part.units})))
    return scores


def mean(rows: Sequence[Row]) -> float:
    """Return the mean score of rows, 0 of none."""
    return sum(row.score for row in rows) / max(1, len(rows))


def answer(rows: Sequence[Row]) -> recipe.Answer:
    """Return what a recipe is told of a part's answer."""
    failed = any(row.error and not row.salvaged for row in rows)
    quotes = {row.category: list(row.predicted) for row in rows}
    reasons = "; ".join(row.reason for row in rows)
    return recipe.Answer(mean(rows), None if failed else quotes, reasons)
