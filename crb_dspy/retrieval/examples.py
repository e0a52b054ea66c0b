"""Annotated sentences of training reports, and which of them are nearest to a report at hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.quotes.grounding import ground
from crb_dspy.retrieval.features import words
from crb_dspy.retrieval.sentences import units

# Shorter sentences say too little to be alike, longer ones cost too much to be shown.
SHORTEST, LONGEST = 20, 600


@dataclass(frozen=True)
class Example:
    """A sentence of a training report with what was quoted from it, by category; empty if nothing.

    `group` is that of its report, which it is never shown to.
    """

    case: str
    group: str
    text: str
    quotes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Examples:
    """Annotated sentences; what is nearest depends on nothing but them and the report at hand."""

    sentences: tuple[Example, ...]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Examples:
        """Return the sentences of annotated reports, the same for the same reports in any order.

        A quote that runs over several sentences is cut at their ends.
        """
        annotated = (case for case in cases if case.gold is not None)
        ordered = sorted(annotated, key=lambda case: case.id)
        return cls(tuple(example for case in ordered for example in _sentences(case)))

    def nearest(
        self, case: Case, told: Sequence[str], keys: Sequence[str], filled: int, empty: int
    ) -> list[dict[str, Any]]:
        """Return demonstrations for some categories, the nearest last, beside the question.

        `told` are the sentences of the report that may hold findings; nearest is what shares most
        of its rare words with one of them. `filled` of them hold findings, `empty` hold none: the
        sentences that a reader would take for one. None is of the report's own group, and none
        has a text that the report has.
        """
        vectors = [self._vector(text) for text in told]
        ranked = sorted(
            (
                (max((_cosine(own, other) for other in vectors), default=0.0), -number)
                for number, own in enumerate(self._vectors)
                if self.sentences[number].group != case.group
            ),
            reverse=True,
        )
        known = [self.sentences[-number] for near, number in ranked if near > 0]
        found = [e for e in known if e.text not in case.text]
        having = [e for e in found if any(e.quotes.get(key) for key in keys)]
        lacking = [e for e in found if not any(e.quotes.get(key) for key in keys)]
        shown = [*lacking[:empty][::-1], *having[:filled][::-1]]
        return [
            {"case": e.case, "report": e.text, **{key: list(e.quotes.get(key, ())) for key in keys}}
            for e in shown
        ]

    def plain(self) -> list[dict[str, Any]]:
        """Return it for JSON; `Examples.from_plain` gives the same back."""
        return [
            {
                "case": e.case,
                "group": e.group,
                "text": e.text,
                "quotes": {key: list(own) for key, own in e.quotes.items()},
            }
            for e in self.sentences
        ]

    @classmethod
    def from_plain(cls, rows: Sequence[Mapping[str, Any]]) -> Examples:
        """Return the examples of `plain`."""
        return cls(
            tuple(
                Example(
                    row["case"],
                    row["group"],
                    row["text"],
                    {key: tuple(own) for key, own in row["quotes"].items()},
                )
                for row in rows
            )
        )

    @cached_property
    def _rarity(self) -> dict[str, float]:
        counts = Counter(word for e in self.sentences for word in set(words(e.text)))
        return {word: math.log(1 + len(self.sentences) / n) for word, n in counts.items()}

    @cached_property
    def _vectors(self) -> list[dict[str, float]]:
        return [self._vector(e.text) for e in self.sentences]

    def _vector(self, text: str) -> dict[str, float]:
        """Return a text's known words, weighted by rarity, as a row of length 1."""
        row = {word: self._rarity[word] for word in set(words(text)) if word in self._rarity}
        length = math.sqrt(math.fsum(value * value for value in row.values()))
        return {word: value / length for word, value in sorted(row.items())}


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return math.fsum(value * other[word] for word, value in one.items() if word in other)


def _sentences(case: Case) -> Iterator[Example]:
    places = {
        key: [span for quote in quotes for span in ground(case.text, quote).spans]
        for key, quotes in (case.gold or {}).items()
    }
    for unit in units(case, "sentences"):
        if not SHORTEST <= unit.end - unit.start <= LONGEST:
            continue
        found = {}
        for key, spans in places.items():
            cut = ((max(a, unit.start), min(b, unit.end)) for a, b in spans)
            texts = (case.text[a:b].strip(" ,;") for a, b in cut if a < b)
            if own := tuple(dict.fromkeys(text for text in texts if text)):
                found[key] = own
        yield Example(case.id, case.group, case.text[unit.start : unit.end], found)
