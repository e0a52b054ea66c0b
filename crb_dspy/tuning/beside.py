"""Ways of using a classifier beside the model that ask nothing new: the answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from crb_dspy.data.cases import Case
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.program import Tunable
from crb_dspy.retrieval.support import WEIGHED, Learnt, Support, supports
from crb_dspy.retrieval.weighing_fit import weighed
from crb_dspy.scoring.objective import score_cell


def ways(
    learnt: Learnt,
    seeds: Mapping[str, Tunable],
    cases: Sequence[Case],
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Support]:
    """Return what is worth trying beside these parts, by name, from what they make of the cases.

    The model's quotes and the classifier's units are weighed by what all parts' answers teach. That
    takes in what the rules of `supports` do one by one: beside it they would only be more to choose
    from, and are tried where too few answers teach no weighing. Of parts that ask no model, what
    asks none.
    """
    units = [unit for part in seeds.values() for unit in part.units.values()]
    if any(unit.support and not unit.support.asking for unit in units):
        return {name: own for name, own in supports(learnt).items() if not own.asking}
    found: dict[str, dict[str, Sequence[str]]] = {}
    readings = readings_of(units, cases, threads=threads, progress=progress)
    for case, answers in zip(cases, readings, strict=True):
        answered = [reading for reading in answers if not reading.error]
        found[case.id] = {key: q for reading in answered for key, q in reading.quotes.items()}
    keys = [key for unit in units for key, kind in unit.kinds.items() if kind.sentences]
    weighing = weighed(cases, keys, found, learnt.views, lambda *cell: score_cell(*cell).score)
    if not weighing:
        return supports(learnt)
    return {name: Support(learnt, use).but(weighing=weighing) for name, use in WEIGHED.items()}
