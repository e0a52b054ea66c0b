"""Ways of using a classifier beside the model that ask nothing new: the answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from crb_dspy.data.cases import Case
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.program import Tunable
from crb_dspy.retrieval.support import ALONE, WEIGHED, Learnt, Support, supports
from crb_dspy.retrieval.use import Use
from crb_dspy.retrieval.weighing_fit import Found, weighed
from crb_dspy.scoring.objective import score_cell


def ways(
    learnt: Learnt,
    seeds: Mapping[str, Tunable],
    cases: Sequence[Case],
    annotated: Sequence[Case],
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Support]:
    """Return what is worth trying beside these parts, by name, from what they make of the cases.

    The model's quotes and the classifier's units are weighed by what all parts' answers teach, and
    the units alone by all cases that are annotated. That takes in what the rules of `supports` do
    one by one: beside it they would only be more to choose from, and are tried where too few
    answers teach no weighing. Of parts that ask no model, what asks none.
    """
    units = [unit for part in seeds.values() for unit in part.units.values()]
    keys = [key for unit in units for key, kind in unit.kinds.items() if kind.sentences]

    def tried(uses: Mapping[str, Use], found: Found) -> dict[str, Support]:
        weighing = weighed(annotated, keys, found, learnt.views, _score)
        own = {name: Support(learnt, use).but(weighing=weighing) for name, use in uses.items()}
        return own if weighing else {}

    rules = supports(learnt)
    silent = tried(ALONE, {case.id: dict.fromkeys(keys, ()) for case in annotated})
    silent = silent or {name: own for name, own in rules.items() if not own.asking}
    if any(unit.support and not unit.support.asking for unit in units):
        return silent
    found: dict[str, dict[str, Sequence[str]]] = {}
    readings = readings_of(units, cases, threads=threads, progress=progress)
    for case, answers in zip(cases, readings, strict=True):
        answered = [reading for reading in answers if not reading.error]
        found[case.id] = {key: q for reading in answered for key, q in reading.quotes.items()}
    together = tried(WEIGHED, found)
    return silent | (together or {name: own for name, own in rules.items() if own.asking})


def _score(report: str, gold: Sequence[str], found: Sequence[str]) -> float:
    return score_cell(report, gold, found).score
