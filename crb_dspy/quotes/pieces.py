"""Long reports: cut where the text allows it, with overlap, and put together again by place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from crb_dspy.quotes.grounding import ground

# Units a report is cut at, coarsest first: headings, paragraphs, sentences, words.
_BREAKS = (r"\n+(?=## )", r"\n+", r"(?<=[.!?;])\s+", r"\s+")
# Share of a piece that the next one repeats, so that no finding is cut in two.
OVERLAP = 0.1

Count = Callable[[str], int]


def pieces(text: str, room: int, count: Count) -> list[str]:
    """Return a text whole if it has at most `room` tokens, else overlapping pieces that fit.

    ValueError if there is no room.
    """
    if room < 1:
        raise ValueError(f"the question leaves {room} tokens of the model's context for a report")
    if count(text) <= room:
        return [text]
    cut: list[list[str]] = [[]]
    sizes = [0]
    for unit in _units(text, max(1, room // 4), count):
        size = count(unit)
        if cut[-1] and sizes[-1] + size > room:
            tail = _tail(cut[-1], int(room * OVERLAP), count)
            cut.append(tail)
            sizes.append(sum(map(count, tail)))
        cut[-1].append(unit)
        sizes[-1] += size
    return ["".join(units) for units in cut]


def _units(text: str, most: int, count: Count, level: int = 0) -> Iterator[str]:
    """Yield what a text is made of, each of at most `most` tokens where it has breaks at all."""
    if level == len(_BREAKS) or count(text) <= most:
        yield from _chunks(text, most, count)
        return
    ends = [match.end() for match in re.finditer(_BREAKS[level], text)]
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        if start < end:
            yield from _units(text[start:end], most, count, level + 1)


def _chunks(text: str, most: int, count: Count) -> Iterator[str]:
    """Yield a text whole, or halved until its parts fit: only for text without any break."""
    if count(text) <= most or len(text) < 2:
        yield text
        return
    for half in (text[: len(text) // 2], text[len(text) // 2 :]):
        yield from _chunks(half, most, count)


def _tail(units: Sequence[str], room: int, count: Count) -> list[str]:
    """Return the last units that fit."""
    kept: list[str] = []
    for unit in reversed(units):
        if (room := room - count(unit)) < 0:
            break
        kept.insert(0, unit)
    return kept


def merge(text: str, found: Sequence[Sequence[str]]) -> list[str]:
    """Join the quotes of several pieces in the order of the text.

    A quote that lies inside another one is that one cut short at the end of a piece.
    """
    places = {
        quote: ground(text, quote).spans or ((len(text), len(text)),)
        for quotes in found
        for quote in quotes
    }
    ordered = sorted(places, key=lambda quote: places[quote][0])
    return [
        quote
        for quote in ordered
        if not any(
            _inside(places[quote][0], places[other][0]) for other in ordered if other != quote
        )
    ]


def _inside(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span[0] < span[1] and other[0] <= span[0] and span[1] <= other[1] and span != other
