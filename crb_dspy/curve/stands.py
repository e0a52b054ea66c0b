"""An experiment carried out with few of its annotated cases, then with more, on the same test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crb_dspy import stats
from crb_dspy.compile.flow import run
from crb_dspy.compile.plan import Plan, arranged, divided
from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Split
from crb_dspy.errors import UserError
from crb_dspy.evaluation import figures
from crb_dspy.evaluation.systems import CLASSIFIER
from crb_dspy.files import fingerprint

# Below this there is nothing to divide into cases that teach and cases that choose.
FEWEST = 3


@dataclass(frozen=True)
class Stand:
    """What so many annotated cases give: scores with intervals by system, and the gain."""

    size: int
    scores: Mapping[str, stats.Estimate]
    gain: stats.Difference
    run: str


def check(planned: Plan, sizes: Sequence[int]) -> None:
    """UserError for a size that there are not as many cases for, or that is too small."""
    most = min(len(split.train) + len(split.validation) for split in planned.splits)
    for size in sizes:
        if not FEWEST <= size <= most:
            raise UserError(f"--sizes {size}: from {FEWEST} to {most} cases can tune here")


def stands(planned: Plan, sizes: Sequence[int]) -> Iterator[Stand]:
    """Carry an experiment out with each number of annotated cases, fewest first.

    Smaller sets are parts of larger ones, and the test cases stay the same, so that an answer
    about one of them is asked for once.
    """
    for size in sorted(set(sizes)):
        result = run(shortened(planned, size))
        rows = {
            "baseline": result.baseline,
            CLASSIFIER: result.systems[CLASSIFIER],
            "tuned": result.tuned,
        }
        scores = {name: figures.interval(own) for name, own in rows.items()}
        yield Stand(size, scores, result.difference, result.run)


def shortened(planned: Plan, size: int) -> Plan:
    """Return the plan with so many of its cases to tune on."""
    experiment = planned.experiment
    named = experiment.model_copy(update={"name": f"{experiment.name}-{size}-cases"})
    splits = tuple(_few(planned, split, size) for split in planned.splits)
    return arranged(named, planned.schema, planned.loaded, planned.tuning, splits)


def _few(planned: Plan, split: Split, size: int) -> Split:
    def turn(case: Case) -> str:
        return fingerprint(planned.experiment.seed, case.group, case.id)

    some = sorted((*split.train, *split.validation), key=turn)[:size]
    return divided(planned.experiment, some, split.test)
