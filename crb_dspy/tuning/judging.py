"""What parts made of cases, in scores: for recipes, for DSPy's optimizers, and for the record."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import SAME, Kind, Same
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.evaluation.rows import DEFAULT, Row, row_of
from crb_dspy.models.tally import Tally, tallied
from crb_dspy.program import Part, Reading, Tunable
from crb_dspy.recipe.bridge import Student, tame
from crb_dspy.recipe.contract import Answer
from crb_dspy.recipe.reflection import Mistake
from crb_dspy.scoring.halves import EVEN, Halves, Weights, total
from crb_dspy.scoring.objectives import Objective

# Enters what a part made of a case, and what that cost.
Watch = Callable[[Tunable, Case, dspy.Prediction, Tally], None]


@dataclass(frozen=True)
class Judge:
    """Scores answers by an objective, and by weights where one number is wanted of its halves.

    `kinds` say what categories hold.
    """

    objective: Objective = DEFAULT
    weights: Weights = EVEN
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    # DSPy's own threads do not know it.
    same: Same | None = field(default_factory=SAME.get)

    def scored(
        self,
        parts: Mapping[str, Tunable],
        cases: Sequence[Case],
        *,
        threads: int = 1,
        progress: Callable[[], None] = lambda: None,
    ) -> dict[str, list[Halves]]:
        """Return the halves of several parts, case by case, each case's report being read once."""
        units = {(n, u): unit for n, part in parts.items() for u, unit in part.units.items()}
        readings = readings_of(list(units.values()), cases, threads=threads, progress=progress)
        scores: dict[str, list[Halves]] = {name: [] for name in parts}
        for case, answers in zip(cases, readings, strict=True):
            found = dict(zip(units, answers, strict=True))
            for name, part in parts.items():
                own = {u: found[name, u] for u in part.units}
                scores[name].append(total(row.halves for row in self.rows(part, case, own)))
        return scores

    def rows(self, part: Tunable, case: Case, readings: Mapping[str, Reading]) -> list[Row]:
        """Return a row for every category of a part, from the readings of its units."""
        units: Mapping[str, Part] = part.units
        return [
            row_of(case, key, readings[name], self.objective, unit.kinds[key])
            for name, unit in units.items()
            for key in unit.keys
        ]

    def answer(self, rows: Sequence[Row]) -> Answer:
        """Return what a recipe is told of a part's answer."""
        failed = any(row.failed for row in rows)
        quotes = {row.category: list(row.predicted) for row in rows}
        halves = total(row.halves for row in rows)
        return Answer(self.weights.mean(halves), None if failed else quotes, _reasons(rows), halves)

    def metric(
        self,
        example: Any,
        prediction: Any,
        trace: Any = None,
        name: str | None = None,
        own: Any = None,
    ) -> Any:
        """Return the score of a prediction; with feedback too where GEPA names a predictor.

        `own` is the predictor's part of the trace: it is told of its own categories. DSPy's
        optimizers take plain means over cases, so that a cell which counts less than others can
        lose less.
        """
        rows = self.predicted(example.gold, prediction)
        if name is None:
            return self._worth(rows)
        fields = own[0][0].signature.output_fields if own else ()
        told = [row for row in rows if row.category in fields] or rows
        found = {row.category: row.predicted for row in told}
        mistake = Mistake({}, found, _reasons(told), {row.category: row.kind for row in told})
        return dspy.Prediction(score=self._worth(rows), feedback=str(mistake))

    def predicted(self, case: Case, prediction: Any) -> list[Row]:
        """Return a row for every category that a student was asked for."""

        def reading(key: str) -> Reading:
            if key in prediction:
                return Reading({key: list(prediction[key] or [])})
            return Reading({}, error="the call failed")

        context = contextvars.copy_context()
        context.run(SAME.set, self.same)
        return [
            context.run(row_of, case, key, reading(key), self.objective, self.kinds.get(key))
            for key in prediction["asked_for"]
        ]

    def _worth(self, rows: Sequence[Row]) -> float:
        halves, weights = total(row.halves for row in rows), self.weights
        cells = halves.n_filled + halves.n_empty
        dearest = max(weights.filled, weights.empty) * max(1.0, cells)
        return 1.0 - (weights.weight(halves) - weights.value(halves)) / dearest


def _reasons(rows: Sequence[Row]) -> str:
    """Return why cells scored what they did; of several, whose it is too."""
    if len(rows) == 1:
        return rows[0].reason
    return "; ".join(f"{row.category}: {row.reason}" for row in rows)


class _Watched(Student):
    """A student whose answers are entered in the ledger, whichever optimizer asks.

    `asked_for` of a prediction names its categories. Those of parts that failed are left out of
    it, and score 0, here as everywhere.
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
                self.watch(self.part, case, dspy.Prediction(asked_for=self.part.keys), tally)
                raise
        self.watch(self.part, case, prediction, tally)
        return prediction

    def _answered(self, case: Case) -> dspy.Prediction:
        prediction = self.part(case=case)
        for name in prediction.get("errors") or {}:
            for key in self.part.units[name].keys:
                del prediction[key]
        prediction["asked_for"] = self.part.keys
        return prediction


def watched(part: Tunable, watch: Watch) -> Student:
    """Return a student whose answers are entered by `watch`, for DSPy's optimizers, tamed."""
    tame()
    return _Watched(part, watch)
