"""What a report will cost whoever uses the tuned program, apart from what tuning cost."""

from __future__ import annotations

import json
from collections.abc import Sequence

from crb_dspy.data.cases import Case
from crb_dspy.evaluation.rows import Row
from crb_dspy.models.engine import estimated_tokens
from crb_dspy.models.meter import Usage
from crb_dspy.models.prices import price
from crb_dspy.program import ExtractionProgram
from crb_dspy.tuning import weight


def per_report(
    program: ExtractionProgram, cases: Sequence[Case], rows: Sequence[Row], model: str
) -> dict[str, float]:
    """Return tokens and dollars of one report, on average over the test cases.

    By estimate from prompts and quotes, so that answers from the cache count as what they are;
    dollars by LiteLLM's price list, 0 for a model that has none. Where a classifier stands in the
    model's place nothing is sent, and nothing comes back.
    """
    read = _read(cases, rows)
    sent = sum(weight.sent(part, read) for part in program.parts.values())
    asking = {
        key
        for part in program.parts.values()
        for unit in part.units.values()
        if weight.sent(unit, read)
        for key in unit.keys
    }
    answers = (
        json.dumps({row.category: list(row.predicted)}) for row in rows if row.category in asking
    )
    received = sum(map(estimated_tokens, answers)) / max(1, len(read))
    return {
        "cost/report_tokens": sent + received,
        "cost/report_usd": price(model, 1_000_000, 0) * sent / 1e6
        + price(model, 0, 1_000_000) * received / 1e6,
    }


def seconds_per_report(
    program: ExtractionProgram, cases: Sequence[Case], rows: Sequence[Row], usage: Usage
) -> dict[str, float]:
    """Return seconds of the model for one report, by the mean of the calls that were made.

    Nothing where none was made: answers from the cache took no time that would tell.
    """
    read = _read(cases, rows)
    if not usage.calls:
        return {}
    asked = sum(weight.asked(part, read) for part in program.parts.values())
    return {"cost/report_seconds": asked * usage.seconds / usage.calls}


def _read(cases: Sequence[Case], rows: Sequence[Row]) -> list[Case]:
    judged = {row.case for row in rows}
    return [case for case in cases if case.id in judged]
