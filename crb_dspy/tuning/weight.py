"""What a part asks about each case: comparable, whatever the cache knew or a trial gave up."""

from __future__ import annotations

from collections.abc import Sequence

from crb_dspy.data.cases import Case
from crb_dspy.models.engine import estimated_tokens
from crb_dspy.program import Part, Tunable


def sent(part: Tunable, cases: Sequence[Case]) -> float:
    """Return the prompt tokens that a part sends of one case, on average, by estimate.

    Nothing is sent of a case where its classifier sees nothing, or is taken in the model's place.
    """
    whole = sum(
        estimated_tokens(message["content"])
        for unit in part.units.values()
        for case in _asked(unit, cases)
        for message in unit.messages(unit.shown(case), unit.nearest(case))
    )
    return whole / max(1, len(cases))


def asked(part: Tunable, cases: Sequence[Case]) -> float:
    """Return the questions that a part asks about one case, on average."""
    whole = sum(len(_asked(unit, cases)) for unit in part.units.values())
    return whole / max(1, len(cases))


def _asked(unit: Part, cases: Sequence[Case]) -> list[Case]:
    """Return the cases of which a part asks anything."""
    return [
        case
        for case in cases
        if unit.shown(case).strip() and len(unit.silent(case)) < len(unit.keys)
    ]
