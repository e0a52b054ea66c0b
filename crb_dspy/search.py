"""The search by parts: a recipe tunes each part on its own, and the parts are put together."""

from __future__ import annotations

import random
from collections.abc import Sequence

from crb_dspy import recipe
from crb_dspy.cases import Case
from crb_dspy.config import Experiment
from crb_dspy.evaluate import Row, read, row_of
from crb_dspy.plan import Plan, estimate
from crb_dspy.program import ExtractionProgram, Part
from crb_dspy.progress import Tick, phase

# What the record says of a candidate: its part, its name, its score on validation.
Candidate = dict[str, object]


def optimized(planned: Plan) -> tuple[ExtractionProgram, list[Candidate]]:
    """Tune each part on its own and put the parts together; also return the candidates."""
    experiment, sides = planned.experiment, planned.split
    candidates: list[Candidate] = []
    with phase("optimize", estimate(planned)["optimize"] or 0) as tick:
        tuned = {}
        for name, part in planned.program.parts.items():
            context = _context(experiment, name, tick, candidates)
            tuned[name] = planned.recipe(
                part, sides.train, sides.validation, context, **experiment.options
            )
    return planned.program.with_parts(tuned), candidates


def _context(
    experiment: Experiment, name: str, tick: Tick, candidates: list[Candidate]
) -> recipe.Context:
    def rows(part: Part, cases: Sequence[Case]) -> list[list[Row]]:
        readings = read([part], cases, threads=experiment.threads, progress=tick)
        pairs = zip(cases, readings, strict=True)
        return [[row_of(case, key, reading[0]) for key in part.keys] for case, reading in pairs]

    def answers(part: Part, cases: Sequence[Case]) -> list[recipe.Answer]:
        return [_answer(cell) for cell in rows(part, cases)]

    def note(candidate: str, validation: float) -> None:
        candidates.append({"part": name, "candidate": candidate, "validation": validation})

    return recipe.Context(answers, random.Random(f"{experiment.seed}/{name}"), note)


def _answer(rows: Sequence[Row]) -> recipe.Answer:
    failed = any(row.error and not row.salvaged for row in rows)
    quotes = {row.category: list(row.predicted) for row in rows}
    score = sum(row.score for row in rows) / len(rows)
    return recipe.Answer(score, None if failed else quotes)
