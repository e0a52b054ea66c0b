"""UGP: one prompt asks for the whole schema."""

from crb_dspy.data.schema import Schema
from crb_dspy.program import ExtractionProgram, Part


class Monolithic(ExtractionProgram):
    """Ask for all categories at once: one call a case, one prompt to tune."""

    def build(self, schema: Schema, *, cot: bool = False) -> dict[str, Part]:
        """Return the one part."""
        return {"all_categories": Part(schema.categories, cot=cot)}
