"""Instructions that evolve by reflection on mistakes (GEPA)."""

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from gepa.core import engine
from pydantic import PositiveInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.recipe import Context, NoBar, adopted, estimated, examples
from crb_dspy.recipe.reflection import taught_by

MINIBATCH = 3


def _round(train: int, validation: int) -> int:
    # A minibatch twice and, where it helps, validation.
    return 2 * min(MINIBATCH, train) + validation


def _metric_calls(train: int, validation: int, rounds: int = 6, **_: Any) -> int:
    # The seed is judged on validation first.
    return validation + rounds * _round(train, validation)


@estimated(_metric_calls, reflections=lambda train, validation, rounds=6, **_: 2 * rounds)
def gepa(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    rounds: PositiveInt = 6,
) -> Tunable:
    """Evolve instructions: reflect on mistakes, keep what helps on a Pareto front of cases.

    Tunes instructions only. Costs at most validation + rounds x (6 + validation) calls a part
    and 2 x rounds for reflection. Use it with a strong reflection model and few cases. DSPy's
    GEPA (Agrawal et al. 2025) does the search, with a budget computed here (its own formula is
    stale, dspy#10245) and short reflections of ours, which fit a small model's context.
    """
    engine.tqdm = NoBar
    sizes = len(train), len(validation)
    most = _metric_calls(*sizes, context.rounds(rounds))
    student = context.student(part)
    optimizer = dspy.GEPA(
        metric=context.metric,
        # It looks before a round only: the last may begin while there is room for a whole one.
        max_metric_calls=most - _round(*sizes) + 1,
        reflection_minibatch_size=min(MINIBATCH, len(train)),
        instruction_proposer=_Proposer(part, context, student),
        num_threads=context.threads,
        use_merge=False,
        seed=context.random.getrandbits(30),
        warn_on_score_mismatch=False,
        gepa_kwargs={"stop_callbacks": _stops(context.rounds(rounds))},
    )
    found = optimizer.compile(student, trainset=examples(train), valset=examples(validation))
    return adopted(part, found)


def _stops(rounds: int) -> list[Any]:
    from gepa.utils.stop_condition import MaxCandidateProposalsStopper, ScoreThresholdStopper

    # Rounds whose minibatch is perfect cost no reflection, but would go on for ever; proposals
    # that fail on their minibatch are cheap, so that there may be twice as many.
    return [MaxCandidateProposalsStopper(2 * rounds), ScoreThresholdStopper(1.0)]


class _Proposer:
    """GEPA's seam for writing instructions; puts each on record, whatever becomes of it."""

    def __init__(self, part: Tunable, context: Context, student: dspy.Module) -> None:
        self._part, self._context, self._student = part, context, student
        # Names by instructions; those that were not proposed here are the seed's.
        self._named: dict[tuple[str, ...], str] = {}
        self._about = {
            f"part.{unit}.{label}" if unit else f"part.{label}": module.kinds
            for unit, module in part.units.items()
            for label, _ in module.named_predictors()
        }

    def __call__(
        self,
        candidate: Mapping[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: Sequence[str],
    ) -> dict[str, str]:
        """Return a new instruction for each predictor named."""
        proposed = {
            name: self._context.proposal(
                candidate[name],
                self._about[name],
                [record["Feedback"] for record in reflective_dataset[name]],
                f"Say {', '.join(taught_by(self._about[name]).rules)}.",
            )
            for name in components_to_update
        }
        tried = {**candidate, **proposed}
        parent = self._named.get(tuple(candidate.values()), "seed")
        known = self._context.note(f"proposal {len(self._named) + 1}", self._with(tried), parent)
        self._named.setdefault(tuple(tried.values()), known)
        return proposed

    def _with(self, instructions: Mapping[str, str]) -> Tunable:
        changed = self._student.deepcopy()
        for name, predictor in changed.named_predictors():
            predictor.signature = predictor.signature.with_instructions(instructions[name])
        return adopted(self._part, changed)
