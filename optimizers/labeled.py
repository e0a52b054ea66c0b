"""Few-shot from the annotations: demonstrations straight from training cases."""

from collections.abc import Sequence

from pydantic import PositiveInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.recipe import Context, estimated, shown


@estimated(lambda train, validation, **_: 0, chooses=False)
def labeled(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    demonstrations: PositiveInt = 3,
) -> Tunable:
    """Show gold findings of some training cases.

    Tunes the demonstrations; costs no call. Use it first: it needs no validation data and is
    the yardstick for everything dearer. At most one of the cases shown has nothing to find.
    """
    cases = context.random.sample(list(train), len(train))
    filled = [case for case in cases if any((case.gold or {}).get(key) for key in part.keys)]
    empty = [case for case in cases if case not in filled]
    with_empty = filled[: demonstrations - 1] + empty[:1]
    chosen = with_empty if demonstrations > 1 and empty else filled[:demonstrations]
    tuned = shown(part, [(case, case.gold or {}) for case in chosen])
    context.note(f"{len(chosen)} demonstrations", tuned, "seed")
    return tuned
