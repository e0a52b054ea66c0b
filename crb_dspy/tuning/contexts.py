"""What a recipe is given: answers on cases that enter the record, and DSPy's view of a part."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Sides
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.models.tally import Tally, tallied
from crb_dspy.program import ExtractionProgram, Tunable
from crb_dspy.recipe import Answer, Context
from crb_dspy.retrieval.support import Support
from crb_dspy.scoring.halves import total
from crb_dspy.tuning.judging import Judge, watched
from crb_dspy.tuning.ledger import Ledger
from crb_dspy.tuning.tuning import Tuning


@dataclass(frozen=True)
class Given:
    """All that the context of a part is made of."""

    tuning: Tuning
    judge: Judge
    ledger: Ledger
    sides: Sides
    reflection: Any
    supports: Mapping[str, Support]


def context_of(given: Given, share: float, guidance: str, say: Callable[[], None]) -> Context:
    """Return what the recipe of a part may use; `say` tells that an answer came."""
    ledger, threads, judge = given.ledger, given.tuning.threads, given.judge
    seed = given.tuning.seeds[ledger.name]

    def candidate(part: Tunable) -> bool:
        # A unit of a whole program is none.
        return isinstance(part, ExtractionProgram) == isinstance(seed, ExtractionProgram)

    sentences = any(kind.sentences for kind in seed.kinds.values())
    gold = {case.id: case for case in (*given.sides.train, *given.sides.choose)}

    def answers(part: Tunable, cases: Sequence[Case]) -> list[Answer]:
        found = []
        with tallied() as tally:
            readings = readings_of(list(part.units.values()), cases, threads=threads, progress=say)
        for case, own in zip(cases, readings, strict=True):
            rows = judge.rows(part, case, dict(zip(part.units, own, strict=True)))
            told = any(reading.told for reading in own)
            found.append(replace(judge.answer(rows), told=told))
            if candidate(part):
                ledger.saw(part, case.id, found[-1].sums)
        ledger.spent(part if candidate(part) else seed, tally.calls, tally.tokens)
        return found

    def watch(part: Tunable, case: Case, prediction: Any, tally: Tally) -> None:
        rows = judge.predicted(gold[case.id], prediction)
        ledger.saw(part, case.id, total(row.halves for row in rows))
        ledger.spent(part, tally.calls, tally.tokens)
        say()

    return Context(
        answers=answers,
        random=random.Random(f"{given.tuning.seed}/{ledger.name}"),
        note=ledger.note,
        share=share,
        guidance=guidance,
        threads=threads,
        reflection=given.reflection,
        student=lambda part: watched(part, watch),
        metric=judge.metric,
        weights=judge.weights,
        supports=given.supports if sentences else {},
    )
