"""What the page needs to know of a report so that its findings can be corrected in the browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind
from crb_dspy.files import as_json
from crb_dspy.report.cells import Pair
from crb_dspy.report.placing import WRONG, Placed


def data(case: Case, cells: Iterable[tuple[str, Pair, Placed]], kinds: Mapping[str, Kind]) -> str:
    """Return sections, marks and fields of a report as JSON.

    Marks are the gold quotes, and those that the second run quoted and gold does not have; their
    offsets are code points of the case's text. Categories that hold no quotes are fields: their
    items in gold and in the second run, and which of those that are offered each is.
    """
    marks: list[dict[str, Any]] = []
    fields: list[dict[str, Any]] = []
    for key, pair, placed in cells:
        if kinds[key].verbatim:
            marks += _marks(key, placed)
        else:
            fields.append(_field(key, kinds[key], pair))
    sections = [[heading, len(body)] for heading, body in case.sections.items()]
    group = "" if case.group == case.id else case.group
    about = {"id": case.id, "group": group, "sections": sections}
    return as_json({**about, "marks": marks, "fields": fields})


def _marks(key: str, placed: Placed) -> list[dict[str, Any]]:
    wrong = (quote for quote in placed.predicted[1] if quote.kind == WRONG)
    found = []
    for gold, quotes in ((True, placed.gold), (False, wrong)):
        spans = [quote.spans[0] for quote in quotes if quote.spans]
        found += [{"key": key, "start": s, "end": e, "gold": gold} for s, e in spans]
    return found


def _field(key: str, kind: Kind, pair: Pair) -> dict[str, Any]:
    known = dict.fromkeys([*pair.a.gold, *pair.b.predicted])
    return {
        "key": key,
        "gold": list(pair.a.gold),
        "found": list(pair.b.predicted),
        "offered": list(kind.offered),
        "many": kind.many,
        "chosen": {item: kind.chosen(item) for item in known},
    }
