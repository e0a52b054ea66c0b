"""Retrieve, then quote: a sentence classifier finds where to look, the model copies the phrases."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from crb_dspy.data.schema import Category, Schema
from crb_dspy.program import ExtractionProgram, Part, Use

Probability = Annotated[float, Field(ge=0, le=1)]
Few = Annotated[int, Field(ge=0, le=5)]


class Retrieve(ExtractionProgram):
    """Show each category the sentences alone that may hold its findings, with their neighbours.

    The sentences are those to which a classifier, learnt from the annotated cases, gives
    `reads`; beside them stand the `nearest` annotated sentences of other reports and `empty` ones
    that hold nothing. Without a sentence there is no call, and the cell is empty and says why.
    `cut = false`: whole sentences from `threshold` on are the findings, and no model is asked.
    At most one short call a category. Untaught, as printed by `prompts`, it shows whole reports.
    """

    def build(
        self,
        schema: Schema,
        *,
        reads: Probability = 0.1,
        nearest: Few = 2,
        empty: Few = 1,
        cut: bool = True,
        threshold: Probability = 0.4,
        cot: bool = False,
    ) -> dict[str, Part]:
        """Return one part a category."""
        asked = Use("sentences", reads, Use.NEVER, reads=reads, nearest=nearest, empty=empty)
        use = asked if cut else Use("sentences", Use.NEVER, threshold)
        return {c.key: RetrievePart([c], use, cot=cot) for c in schema.categories}


class RetrievePart(Part):
    """Reads what a classifier chose, once it has one."""

    def __init__(self, categories: Sequence[Category], use: Use, *, cot: bool) -> None:
        super().__init__(categories, cot=cot)
        self.use = use
