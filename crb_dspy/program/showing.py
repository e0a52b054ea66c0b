"""Cases cut down to demonstrations, whatever their categories hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crb_dspy.data.kind import Kind
from crb_dspy.quotes.excerpts import excerpt


def cut(
    report: str, items: Mapping[str, Sequence[str]], kinds: Mapping[str, Kind]
) -> tuple[str, dict[str, list[str]]]:
    """Return the sentences that items stand in, or are told near, and the items told by them.

    An item that quotes something which they do not hold is dropped; one that quotes nothing
    stays. The excerpt of an excerpt is itself.
    """
    near = {
        key: [anchor for item in own for anchor in kinds[key].anchors(item, report)]
        for key, own in items.items()
    }
    text, held = excerpt(report, near)
    kept = {
        key: [item for item in own if _told(kinds[key], item, held[key])]
        for key, own in items.items()
    }
    return text, kept


def _told(kind: Kind, item: str, held: Sequence[str]) -> bool:
    quote = kind.quoted(item)
    return quote is None or quote in held
