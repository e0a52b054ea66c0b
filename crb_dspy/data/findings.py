"""A finding as files keep it: the quote, where it stands in its report, how sure that is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Items, Kind
from crb_dspy.quotes.grounding import Placement


def findings_of(case: Case, kind: Kind, items: Items) -> list[dict[str, Any]]:
    """Return the items of a cell as findings: what they are, and the quote with its place."""
    found = []
    for item, place in zip(items, kind.placed(case.text, items), strict=True):
        quote = kind.quoted(item)
        placed = {} if quote is None else finding(case, replace(place, quote=quote))
        found.append({**kind.told(item), **placed})
    return found


def finding(case: Case, place: Placement) -> dict[str, Any]:
    """Return a quote with its first place, and the others it can mean in `also`.

    `start` and `end` point into the case's text, `section_start` into that of its section; null
    where the quote is not in the report.
    """
    (start, end), *others = place.spans or ((None, None),)
    section, at = (None, None) if start is None else case.place(start)
    return {
        "quote": place.quote,
        "status": place.status.value,
        "start": start,
        "end": end,
        "section": section,
        "section_start": at,
        "also": others,
    }
