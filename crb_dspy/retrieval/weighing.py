"""Clauses or words, cut where a model's quotes begin and end, quoted for what both say of them.

A model and a sentence classifier are wrong in different places. The pieces on which they differ
are weighed by a regression over what each says of them, learnt from annotated reports: what was
quoted is left out where the classifier is sure enough against it; the rest of a clause, or one that
the model passed over, is taken where it is sure enough in favour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.quotes.grounding import ground
from crb_dspy.retrieval.sentences import Size, Unit

# A report's units of each size, and the probability of a category for each.
View = tuple[Sequence[Unit], Sequence[float]]
Views = Mapping[Size, View]
# Numbers by name, in the order of `NAMES`.
Row = tuple[float, ...]
NAMES = ("clause", "sentence", "quoted", "quoted x clause", "quoted x sentence", "beside", "found")
_PARTING = re.compile(r"[^\W_]|[,;:()\[\]]")
# Probabilities beyond which none is told from another.
_SURE = 1e-4


@dataclass(frozen=True)
class Piece:
    """A clause, or what a quote's ends leave of one: its place, and what is said of it."""

    start: int
    end: int
    sentence: int
    row: Row


@dataclass(frozen=True)
class Weights:
    """A bias and weights for what is said of a piece; of each category, what it adds to two."""

    bias: float
    weights: Row
    # By category: what is added to the bias, and to the weight of being quoted.
    own: Mapping[str, tuple[float, float]]

    def probability(self, row: Row, key: str) -> float:
        """Return how likely gold is to cover a piece."""
        bias, quoted = self.own.get(key, (0.0, 0.0))
        sums = math.fsum(weight * value for weight, value in zip(self.weights, row, strict=True))
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.bias + bias + sums + quoted * row[2]))))


@dataclass(frozen=True)
class Weighing:
    """Weights, the probability from which on a piece is quoted, and others by group of a report.

    Those of a group were learnt without it.
    """

    weights: Weights
    threshold: float
    others: Mapping[str, Weights] = field(default_factory=dict)
    # The units that are cut.
    fine: Size = "clauses"

    def quotes(self, case: Case, key: str, views: Views, found: Sequence[str]) -> list[str]:
        """Return what is quoted of a report for a category, given a model's quotes."""
        weights = self.others.get(case.group, self.weights)
        kept = [
            piece
            for piece in pieces(case, views, found, self.fine)
            if weights.probability(piece.row, key) >= self.threshold
        ]
        return joined(case.text, kept)

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, without what was learnt for reports of the search."""
        own = {key: list(pair) for key, pair in self.weights.own.items()}
        table = dict(zip(NAMES, self.weights.weights, strict=True))
        known = {"bias": self.weights.bias, "weights": table, "own": own}
        fine = {"fine": self.fine} if self.fine != "clauses" else {}
        return {**known, "threshold": self.threshold, **fine}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Weighing:
        """Return the weighing of `plain`; KeyError for other tables."""
        row = tuple(plain["weights"][name] for name in NAMES)
        own = {key: (bias, quoted) for key, (bias, quoted) in plain["own"].items()}
        weights = Weights(plain["bias"], row, own)
        return cls(weights, plain["threshold"], fine=plain.get("fine", "clauses"))


def pieces(case: Case, views: Views, found: Sequence[str], fine: Size = "clauses") -> list[Piece]:
    """Return the pieces of a report in order, with what both say of each."""
    quoted = _covered(case.text, found)
    sentences, whole = views["sentences"]
    touched = {i for i, unit in enumerate(sentences) if any(quoted[unit.start : unit.end])}
    clauses, likely = views[fine]
    cut = []
    for unit, probability in zip(clauses, likely, strict=True):
        clause, sentence = _odds(probability), _odds(whole[unit.sentence])
        inner = range(unit.start + 1, unit.end)
        ends = [unit.start, *(at for at in inner if quoted[at] != quoted[at - 1]), unit.end]
        for start, end in pairwise(ends):
            if not _telling(case.text[start:end]):
                continue
            inside = float(quoted[start])
            beside = float(unit.sentence in touched and not inside)
            row = (clause, sentence, inside, inside * clause, inside * sentence, beside)
            cut.append(Piece(start, end, unit.sentence, (*row, float(bool(found)))))
    return cut


def joined(text: str, kept: Sequence[Piece]) -> list[str]:
    """Return the texts of pieces; those of one sentence with nothing between are one quote."""
    spans: list[tuple[int, int, int]] = []
    for piece in kept:
        start = piece.start
        if spans and spans[-1][2] == piece.sentence and not apart(text[spans[-1][1] : start]):
            start = spans.pop()[0]
        spans.append((start, piece.end, piece.sentence))
    return list(dict.fromkeys(text[start:end].strip(" ,;") for start, end, _ in spans))


def _covered(text: str, quotes: Sequence[str]) -> list[bool]:
    """Say of each character whether a quote covers it; of several places the first."""
    covered = [False] * (len(text) + 1)
    for quote in quotes:
        for start, end in ground(text, quote).spans[:1]:
            covered[start:end] = [True] * (end - start)
    return covered


def apart(between: str) -> bool:
    """Say whether a word or a mark that parts two findings stands between two units."""
    return bool(_PARTING.search(between))


def _telling(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _odds(probability: float) -> float:
    bounded = min(1 - _SURE, max(_SURE, probability))
    return math.log(bounded / (1 - bounded))
