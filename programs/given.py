"""Predictions from a file, by rules, another tool or a published system: judged and combined."""

from collections.abc import Mapping, Sequence

import dspy

from crb_dspy.data.benchmarks.predictions import findings_of
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Category, Schema
from crb_dspy.program import ExtractionProgram, Part


class Given(ExtractionProgram):
    """Take the findings of a file for a model's answers; without a file, find nothing.

    `predictions` names lines {"id": ..., "findings": {category: [quote, ...]}}, as `score` reads
    them; a case or category that is missing is empty. No call: with `model = "none"` no model
    is needed, and with optimizer `auto` the sentence classifier alone is left.
    """

    def build(self, schema: Schema, *, predictions: str = "") -> dict[str, Part]:
        """Return one part a category."""
        found = findings_of(predictions, schema) if predictions else {}
        return {category.key: GivenPart([category], found) for category in schema.categories}


class GivenPart(Part):
    """Answers from what was given."""

    def __init__(
        self,
        categories: Sequence[Category],
        found: Mapping[str, Mapping[str, Sequence[str]]],
    ) -> None:
        super().__init__(categories)
        self.found = found

    def answers(self, case: Case, text: str) -> list[dspy.Prediction]:
        """Return what the file says of a case."""
        own = self.found.get(case.id, {})
        return [dspy.Prediction(**{key: list(own.get(key, ())) for key in self.keys}, irregular={})]
