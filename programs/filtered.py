"""FCSP: one prompt a category, on the general sections and those that are its own."""

from collections.abc import Sequence

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Category, Schema
from crb_dspy.program import ExtractionProgram, Part


class Filtered(ExtractionProgram):
    """Show each category only the sections that may concern it.

    A section whose heading clearly belongs to one category (by the schema's rules) goes there
    alone, any other to all. General sections come first, so that they stay a shared prefix. A
    category is not asked about a case that has nothing for it: at most one call a category.
    """

    def build(self, schema: Schema, *, cot: bool = False) -> dict[str, Part]:
        """Return one part a category."""
        return {c.key: FilteredPart([c], schema, cot=cot) for c in schema.categories}


class FilteredPart(Part):
    """Reads the general sections of a case, then its category's own."""

    chooses_sections = True

    def __init__(self, categories: Sequence[Category], schema: Schema, *, cot: bool) -> None:
        super().__init__(categories, cot=cot)
        self.schema = schema

    def text_for(self, case: Case) -> str:
        """Return the sections for this part's category, each under its heading."""
        owners = {heading: self.schema.owner(heading) for heading in case.sections}
        general = [heading for heading, owner in owners.items() if owner is None]
        own = [heading for heading, owner in owners.items() if owner in self.keys]
        shown = {heading: case.sections[heading] for heading in general + own}
        return Case(case.id, shown).text
