"""Which reports teach most: those unlike the others, with rare findings, with doubtful answers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Candidate:
    """A report that could be annotated: its words, the categories of which a program found any.

    `doubt`, 0 to 1, is how unsure its findings are, by whatever measure there is: that of a
    retriever that disagrees with the model is given here.
    """

    id: str
    words: frozenset[str]
    categories: frozenset[str]
    doubt: float = 0.0


@dataclass(frozen=True)
class Choice:
    """A report to annotate, and its share of each reason, 0 to 1."""

    id: str
    need: float
    novelty: float
    doubt: float

    @property
    def value(self) -> float:
        """What the order is by."""
        return self.need + self.novelty + self.doubt


def choose(
    candidates: Iterable[Candidate],
    n: int,
    known: Sequence[frozenset[str]] = (),
    have: Mapping[str, int] | None = None,
) -> list[Choice]:
    """Return up to n candidates, the most useful first, whatever order they come in.

    `known` are the words of reports that are annotated, `have` how many of these have findings of
    each category that is sought. Each choice counts as annotated for the next.
    """
    left = {one.id: one for one in sorted(candidates, key=lambda one: one.id)}
    weights = _weights([*known, *(one.words for one in left.values())])
    counts = Counter(have or {key: 0 for one in left.values() for key in one.categories})
    alike = {name: _closest(one.words, known, weights) for name, one in left.items()}
    chosen: list[Choice] = []
    while left and len(chosen) < n:
        ranked = [_valued(one, counts, alike[name]) for name, one in left.items()]
        best = max(ranked, key=lambda choice: choice.value)
        taken = left.pop(best.id)
        chosen.append(best)
        counts.update(key for key in taken.categories if key in counts)
        for name, one in left.items():
            alike[name] = max(alike[name], _likeness(one.words, taken.words, weights))
    return chosen


def words(text: str) -> frozenset[str]:
    """Return the words of a text that tell it from others."""
    return frozenset(_WORD.findall(text.lower()))


def _valued(one: Candidate, counts: Mapping[str, int], alike: float) -> Choice:
    lacks = {key: 1 / (1 + count) for key, count in counts.items()}
    need = sum(lacks[key] for key in one.categories if key in lacks) / max(1.0, sum(lacks.values()))
    return Choice(one.id, need, 1 - alike, one.doubt)


def _weights(texts: Sequence[frozenset[str]]) -> dict[str, float]:
    """Weigh words by how few texts have them."""
    counts = Counter(word for text in texts for word in text)
    return {word: math.log(1 + len(texts) / count) for word, count in counts.items()}


def _closest(
    own: frozenset[str], others: Sequence[frozenset[str]], weights: Mapping[str, float]
) -> float:
    return max((_likeness(own, other, weights) for other in others), default=0.0)


def _likeness(a: frozenset[str], b: frozenset[str], weights: Mapping[str, float]) -> float:
    """Return the weight of the words that two texts share, among those of both: 0 to 1."""
    shared, both = (math.fsum(weights[word] for word in sorted(s)) for s in (a & b, a | b))
    return shared / both if both else 1.0
