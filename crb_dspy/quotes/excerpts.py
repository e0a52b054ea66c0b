"""Short demonstrations: the few sentences around the quotes in place of a whole report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from crb_dspy.quotes.grounding import ground

# Longest excerpt, in characters: what a demonstration may cost in every prompt it stands in.
LONGEST = 900
GAP = "[...]"
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z\d(\"'])|\n+")

Span = tuple[int, int]


def excerpt(report: str, findings: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, list[str]]]:
    """Return the sentences that hold the quotes, each with a neighbour, and the quotes in them.

    At most `LONGEST` characters where sentences allow; without any quote in the report, its
    opening. Quotes that stand elsewhere, or nowhere, are dropped with the text they belong to.
    The excerpt of an excerpt is itself.
    """
    sentences = _sentences(report)
    places = {
        quote: ground(report, quote).spans[:1] for quotes in findings.values() for quote in quotes
    }
    holding = sorted({i for spans in places.values() for i in _overlapping(sentences, spans)})
    text = _join(report, _chosen(sentences, holding))
    kept = {
        key: [quote for quote in quotes if ground(text, quote).spans]
        for key, quotes in findings.items()
    }
    return text, kept


def _sentences(text: str) -> list[Span | None]:
    """Return the spans of the sentences, None where an earlier excerpt left a gap."""
    cuts = [0, *(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    spans = ((a, b) for a, b in pairwise(cuts) if text[a:b].strip())
    return [None if text[a:b].strip() == GAP else (a, b) for a, b in spans]


def _overlapping(sentences: Sequence[Span | None], spans: Sequence[Span]) -> list[int]:
    return [
        i
        for i, sentence in enumerate(sentences)
        if sentence and any(sentence[0] < end and start < sentence[1] for start, end in spans)
    ]


def _chosen(sentences: Sequence[Span | None], holding: Sequence[int]) -> dict[int, Span]:
    """Take sentences with quotes from the first on, then their neighbours, as far as they fit."""
    neighbours = [i + 1 for i in holding] + [i - 1 for i in holding]
    wanted = [*holding, *neighbours] if holding else range(3)
    chosen: dict[int, Span] = {}
    left = LONGEST
    for i in dict.fromkeys(wanted):
        if 0 <= i < len(sentences) and (span := sentences[i]):
            left -= span[1] - span[0]
            if chosen and left < 0:
                break
            chosen[i] = span
    return dict(sorted(chosen.items()))


def _join(text: str, chosen: Mapping[int, Span]) -> str:
    parts: list[str] = []
    for i, span in chosen.items():
        if parts and i - 1 not in chosen:
            parts.append(GAP)
        parts.append(" ".join(text[slice(*span)].split()))
    return "\n".join(parts)
