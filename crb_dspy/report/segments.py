"""A text cut at the borders of all quotes, so that those that overlap can all be shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

# What covers a segment: gold, the quotes of the two runs, a negation lost by each run.
GOLD, A, B, LOST_A, LOST_B, NEGATIVE = (1 << bit for bit in range(6))
VIEWS = ((A, LOST_A), (B, LOST_B))


class Stroke(NamedTuple):
    """A place [start, end) that a category marks, and as what."""

    start: int
    end: int
    category: int
    bits: int


@dataclass(frozen=True)
class Layer:
    """A category that marks a segment; `level` stays the same from one segment to the next."""

    category: int
    bits: int
    level: int

    def kind(self, view: int) -> str:
        """Say what the segment is to run 0 or 1: found, missed, wrong, lost negation or ""."""
        own, lost = VIEWS[view]
        if self.bits & lost:
            return "l"
        if self.bits & own:
            return "f" if self.bits & GOLD else "w"
        return "m" if self.bits & GOLD else ""


@dataclass(frozen=True)
class Segment:
    """A piece [start, end) of a text that is marked alike throughout."""

    start: int
    end: int
    layers: tuple[Layer, ...]


def segments(length: int, strokes: Iterable[Stroke], cuts: Iterable[int] = ()) -> list[Segment]:
    """Cut a text at the borders of all strokes and at `cuts`; the pieces are the text, in order."""
    strokes = [stroke for stroke in strokes if 0 <= stroke.start < stroke.end <= length]
    borders = {0, length, *(cut for cut in cuts if 0 < cut < length)}
    borders.update(at for stroke in strokes for at in stroke[:2])
    events: dict[int, list[tuple[Stroke, int]]] = {}
    for stroke in strokes:
        events.setdefault(stroke.start, []).append((stroke, 1))
        events.setdefault(stroke.end, []).append((stroke, -1))
    return list(_swept(sorted(borders), events))


def _swept(
    borders: Sequence[int], events: dict[int, list[tuple[Stroke, int]]]
) -> Iterator[Segment]:
    active: Counter[tuple[int, int]] = Counter()
    levels: dict[int, int] = {}
    for start, end in pairwise(borders):
        for stroke, change in events.get(start, ()):
            active[stroke.category, stroke.bits] += change
        bits: dict[int, int] = {}
        for (category, bit), count in active.items():
            if count:
                bits[category] = bits.get(category, 0) | bit
        levels = _levels(levels, bits)
        layers = (Layer(category, bits[category], level) for category, level in levels.items())
        yield Segment(start, end, tuple(sorted(layers, key=lambda layer: -layer.level)))


def _levels(before: dict[int, int], now: Iterable[int]) -> dict[int, int]:
    """Keep the level of each category that goes on and give the others the lowest free ones."""
    categories = sorted(now)
    levels = {category: before[category] for category in categories if category in before}
    for category in categories:
        if category not in levels:
            taken = set(levels.values())
            levels[category] = next(n for n in range(len(taken) + 1) if n not in taken)
    return levels
