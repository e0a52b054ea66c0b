"""No tuning: the seed prompts as they are."""

from collections.abc import Sequence

from crb_dspy.cases import Case
from crb_dspy.program import Part
from crb_dspy.recipe import Context, estimated


@estimated(lambda train, validation: 0)
def none(part: Part, train: Sequence[Case], validation: Sequence[Case], context: Context) -> Part:
    """Return the part untouched. Tunes nothing, costs nothing: the baseline of comparisons."""
    return part
