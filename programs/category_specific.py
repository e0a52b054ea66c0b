"""UCP: one prompt a category, each on the whole report."""

from crb_dspy.data.schema import Schema
from crb_dspy.program import ExtractionProgram, Part


class CategorySpecific(ExtractionProgram):
    """Ask for each category on its own, so that each can be tuned on its own.

    Calls: one a category and case. The report stands first and is the same for all, so a
    server that keeps prefixes computes it once.
    """

    def build(self, schema: Schema, *, cot: bool = False) -> dict[str, Part]:
        """Return one part a category."""
        return {category.key: Part([category], cot=cot) for category in schema.categories}
