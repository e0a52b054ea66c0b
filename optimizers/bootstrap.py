"""Random search over sets of demonstrations, some of them the model's own good answers."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, PositiveInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.recipe import Context, estimated, shown

Pool = list[tuple[Case, Mapping[str, Sequence[str]]]]


@estimated(
    lambda train, validation, candidates=6, **_: train + (candidates + 1) * validation,
)
def bootstrap(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    candidates: PositiveInt = 6,
    demonstrations: PositiveInt = 3,
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.7,
) -> Tunable:
    """Keep the set of demonstrations that scores best on validation cases.

    The seed answers every training case once. Answers of at least `threshold` (0 to 1) become
    demonstrations as the model wrote them; the other cases show their gold. `candidates`
    random sets of one to `demonstrations` of them, and the seed, are scored on validation.
    Costs train + (candidates + 1) x validation calls a part. Use it with ten or more
    training cases and a model that is right now and then.
    """
    pool = _pool(part, train, context, threshold)
    best, best_score = part, context.trial("seed", part, validation)
    for number in range(1, context.rounds(candidates) + 1):
        size = context.random.randint(1, min(demonstrations, len(pool)))
        candidate = shown(part, context.random.sample(pool, size))
        name = f"set {number}: {size} demonstrations"
        score = context.trial(name, candidate, validation, "seed", best)
        if score > best_score:
            best, best_score = candidate, score
    return best


def _pool(part: Tunable, train: Sequence[Case], context: Context, threshold: float) -> Pool:
    pairs = zip(train, context.answers(part, train), strict=True)
    return [
        (case, answer.quotes if answer.quotes and answer.score >= threshold else case.gold or {})
        for case, answer in pairs
    ]
