"""A few related categories a prompt: between one prompt for all and one for each."""

from crb_dspy.data.schema import Category, Schema
from crb_dspy.program import ExtractionProgram, Part


class Grouped(ExtractionProgram):
    """Ask for the categories of a schema's group at once; one without a group is asked alone.

    Calls: one a group and case. Answers stay short enough for small models, and related
    categories can be told apart by being seen together.
    """

    def build(self, schema: Schema, *, cot: bool = False) -> dict[str, Part]:
        """Return one part a group, named by its categories."""
        groups: dict[str, list[Category]] = {}
        for category in schema.categories:
            groups.setdefault(category.group or category.key, []).append(category)
        return {
            "_".join(category.key for category in group): Part(group, cot=cot)
            for group in groups.values()
        }
