"""Category by category, with a second look over the same report for what was missed."""

from collections.abc import Sequence

import dspy

from crb_dspy.data.schema import Category, Schema
from crb_dspy.program import Demonstration, ExtractionProgram, Part, signature_for


class Review(ExtractionProgram):
    """Ask for each category, show what was quoted, and ask what was missed.

    Calls: two a category and case, the second cheap, since the report stands first in both.
    For models that stop too early; negative findings are asked for first.
    """

    def build(self, schema: Schema, *, cot: bool = False) -> dict[str, Part]:
        """Return one part a category."""
        # What holds one answer has nothing more to be found.
        return {
            c.key: (ReviewPart if c.holds.listed else Part)([c], cot=cot) for c in schema.categories
        }


class ReviewPart(Part):
    """Asks twice and joins the quotes."""

    twice = True

    def __init__(self, categories: Sequence[Category], *, cot: bool) -> None:
        super().__init__(categories, cot=cot)
        (category,) = categories
        again = signature_for(categories).with_instructions(
            f"An earlier reader was told: {category.instruction} {category.holds.teaching.again}"
        )
        self.review = dspy.Predict(again.insert(1, "found", dspy.InputField(), list[str]))

    def ask(self, report: str, nearest: Sequence[Demonstration] = ()) -> dspy.Prediction:
        """Ask, ask again, and return the quotes of both answers."""
        first = super().ask(report, nearest)
        (key,) = self.keys
        found = list(first[key] or [])
        limit = {"max_tokens": self.max_tokens}
        second = self.review(report=report, found=found, config=limit)
        faults = [p.irregular[key] for p in (first, second) if key in p.irregular]
        irregular = {key: "; ".join(faults)} if faults else {}
        joined = list(dict.fromkeys([*found, *second[key]]))
        return dspy.Prediction(**{key: joined}, irregular=irregular, silence=first.get("silence"))
