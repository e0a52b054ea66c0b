"""No tuning: the seed prompts as they are."""

from collections.abc import Sequence

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.recipe import Context, estimated


@estimated(lambda train, validation: 0, chooses=False)
def none(
    part: Tunable, train: Sequence[Case], validation: Sequence[Case], context: Context
) -> Tunable:
    """Return the part untouched. Tunes nothing, costs nothing: the baseline of comparisons."""
    return part
