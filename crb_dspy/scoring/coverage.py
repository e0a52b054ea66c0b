"""Which tokens of gold the predicted quotes cover, and which others.

A quote that stands once means that place, and a gold quote what it means in gold. Of another that
stands several times, each token is worth one gold token for every place where it touches a
predicted quote inside gold (as the halves of a split quote do), or else one in all; none, if it
only touches what is outside gold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest

from crb_dspy.scoring.matching import matched
from crb_dspy.scoring.places import Edges, Gold, Places, Quotes, gold_tokens
from crb_dspy.scoring.tokens import Report


@dataclass(frozen=True)
class Coverage:
    """Gold tokens, those of them that were found, and predicted tokens that are not gold."""

    gold: set[int]
    found: set[int]
    extra: set[int]


def cover(report: Report, gold: Quotes, predicted: Quotes) -> Coverage:
    """Compare what gold and predicted quotes cover."""
    target = gold_tokens(report, gold.places)
    readings = [_Reading(report, target, spans) for spans in predicted.places]
    _attach(report, readings)
    return Coverage(target.tokens, _found(target, readings), _extra(report, readings))


class _Reading:
    """What a predicted quote may mean: its places, and of which of them there is evidence."""

    def __init__(self, report: Report, gold: Gold, spans: Places) -> None:
        self.spans = spans
        self.is_gold = spans in gold.meant
        self.inside = tuple(s for s in spans if not gold.inside.isdisjoint(report.within(s)))
        self.outside = tuple(s for s in spans if s not in self.inside)
        self.tokens = {span: report.tokens(span) for span in spans}
        self.best = max(spans, key=lambda span: len(gold.of(self.tokens[span])))
        self.wrong = {token for token in self.tokens[self.best] if not gold.of([token])}
        self.anchored: Places = ()
        self.strays: Places = ()

    @property
    def sure(self) -> bool:
        return len(self.spans) == 1

    def slots(self, gold: Gold, found: Set[int]) -> Iterator[list[int]]:
        """Yield the gold tokens that each of its tokens may be, once for each it is worth."""
        spans = (*self.anchored, *(span for span in self.inside if span not in self.anchored))
        for row in zip_longest(*(self.tokens[span] for span in spans)):
            touched = [token for token in row[: len(self.anchored)] if token is not None]
            spare = not (self.is_gold or (self.strays and not touched))
            if worth := len(set(gold.of(touched)) - found) or spare:
                candidates = gold.of(token for token in row if token is not None)
                yield from [[token for token in candidates if token not in found]] * worth


def _attach(report: Report, readings: Sequence[_Reading]) -> None:
    """Find the places of quotes where they touch others: inside gold, and outside."""
    edges = Edges(report.text, (span for reading in readings for span in reading.inside))
    for reading in readings:
        reading.anchored = edges.touching(reading.inside)
    wrong = (reading for reading in readings if reading.wrong)
    edges = Edges(report.text, (span for reading in wrong for span in reading.spans))
    # A gold quote never strays, or leaving it out could raise the score.
    loose = [reading for reading in readings if not (reading.sure or reading.is_gold)]
    grown = True
    while grown:
        grown = False
        for reading in loose:
            strays = edges.touching(reading.outside)
            grown |= len(strays) > len(reading.strays)
            reading.strays = strays
            edges.add(strays)


def _found(gold: Gold, readings: Sequence[_Reading]) -> set[int]:
    found: set[int] = set()
    for reading in readings:
        found |= gold.meant.get(reading.spans, set())
        if reading.sure:
            found.update(gold.of(reading.tokens[reading.best]))
    unsure = (reading for reading in readings if not reading.sure)
    return found | matched([slot for reading in unsure for slot in reading.slots(gold, found)])


def _extra(report: Report, readings: Sequence[_Reading]) -> set[int]:
    guesses = [reading for reading in readings if not reading.is_gold]
    taken = Counter(i for guess in guesses for span in guess.spans for i in report.within(span))
    extra: set[int] = set()
    for reading in readings:
        bound = set(reading.strays)
        if not reading.inside:
            bound |= {s for s in reading.spans if any(taken[i] > 1 for i in report.within(s))}
        extra.update(token for span in bound for token in reading.tokens[span])
        if reading.inside or not bound:
            extra |= reading.wrong
    return extra
