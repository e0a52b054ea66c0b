"""Rules and demonstrations from answers that vary (SIMBA)."""

from collections.abc import Sequence

import dspy
from pydantic import NonNegativeInt, PositiveInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.recipe import Context, adopted, estimated, examples

BATCH = 8


@estimated(
    lambda train, validation, steps=2, candidates=3, **_: (
        steps * (2 * candidates + 1) * min(BATCH, train) + (candidates + 1) * train + 2 * validation
    ),
    # A rule that comes to nothing makes it go on to the next case of the batch.
    reflections=lambda train, validation, steps=2, **_: steps * min(BATCH, train),
)
def simba(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    steps: PositiveInt = 2,
    candidates: PositiveInt = 3,
    demonstrations: NonNegativeInt = 2,
) -> Tunable:
    """Turn the difference between a model's good and bad answers into rules or demonstrations.

    Tunes instructions and demonstrations. Each of `steps` samples a batch of eight training
    cases `candidates` times at temperature 1 and tries as many changes on it; the seed and the
    winner meet on validation. Costs steps x (2 candidates + 1) x 8 + (candidates + 1) x train + 2
    x validation calls a part. Use it with a model whose answers vary. DSPy's SIMBA does the
    search.
    """
    optimizer = dspy.SIMBA(
        metric=lambda example, prediction: context.metric(example, prediction),
        bsize=min(BATCH, len(train)),
        num_candidates=candidates,
        max_steps=context.rounds(steps),
        max_demos=demonstrations,
        prompt_model=context.reflection,
        num_threads=context.threads,
        demo_input_field_maxlen=20_000,
    )
    student = context.student(part)
    found = optimizer.compile(
        student, trainset=examples(train), seed=context.random.getrandbits(30)
    )
    winner = adopted(part, found)
    before = context.trial("seed", part, validation)
    after = context.trial("winner", winner, validation, "seed")
    return winner if after > before else part
