"""The score of a set of cells: agreement where there is gold, silence where there is none.

Neither half alone is worth anything: an empty answer has all of the second and nothing of the
first, a quote everywhere the other way round. The score is their harmonic mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Halves:
    """Sums over cells: values of those with gold and how many, values of those without, how many.

    An objective that knows no halves has all its cells in the first.
    """

    filled: float = 0.0
    n_filled: float = 0.0
    empty: float = 0.0
    n_empty: float = 0.0

    def __add__(self, other: Halves) -> Halves:
        return Halves(
            self.filled + other.filled,
            self.n_filled + other.n_filled,
            self.empty + other.empty,
            self.n_empty + other.n_empty,
        )

    def __sub__(self, other: Halves) -> Halves:
        """Return by how much the values differ on the same cells."""
        return Halves(
            self.filled - other.filled, self.n_filled, self.empty - other.empty, self.n_empty
        )

    @property
    def nonempty_f1(self) -> float:
        """Mean value of the cells with gold, NaN without any."""
        return self.filled / self.n_filled if self.n_filled else math.nan

    @property
    def empty_agreement(self) -> float:
        """Mean value of the cells without gold, NaN without any."""
        return self.empty / self.n_empty if self.n_empty else math.nan

    @property
    def score(self) -> float:
        """Harmonic mean of both, the one that there is where cells are of one kind, NaN of none."""
        return harmonic(self.nonempty_f1, self.empty_agreement)


def harmonic(a: float, b: float) -> float:
    """Return the harmonic mean of two numbers from 0 to 1; of one that is NaN, the other."""
    if math.isnan(a) or math.isnan(b):
        return b if math.isnan(a) else a
    return 2 * a * b / (a + b) if a + b else 0.0


def total(halves: Iterable[Halves]) -> Halves:
    """Return the sum of halves, exactly rounded, so that equals stay equal in any order."""
    rows = [(own.filled, own.n_filled, own.empty, own.n_empty) for own in halves]
    return Halves(*(math.fsum(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Weights:
    """What a cell with gold and one without count where a single number has to steer a search.

    The score is no mean over cells, so no weights stand for it everywhere: those that a search
    uses are where the best program assembled so far lies.
    """

    filled: float = 1.0
    empty: float = 1.0

    @classmethod
    def balanced(cls, balance: float, cells: Halves) -> Weights:
        """Return weights by which the first half of so many cells counts `balance`, of 1 in all."""
        if not (cells.n_filled and cells.n_empty):
            return cls()
        whole = cells.n_filled + cells.n_empty
        return cls(balance * whole / cells.n_filled, (1 - balance) * whole / cells.n_empty)

    def value(self, halves: Halves) -> float:
        """Return the weighted sum of the values."""
        return self.filled * halves.filled + self.empty * halves.empty

    def weight(self, halves: Halves) -> float:
        """Return the weight of the cells."""
        return self.filled * halves.n_filled + self.empty * halves.n_empty

    def mean(self, halves: Halves) -> float:
        """Return the weighted mean of the values, 0 of nothing."""
        return self.value(halves) / (self.weight(halves) or 1.0)

    def by_case(self, cases: Sequence[Halves]) -> list[float]:
        """Return a number a case whose plain mean is the weighted mean of all."""
        scale = len(cases) / (self.weight(total(cases)) or 1.0)
        return [self.value(case) * scale for case in cases]


# Every cell counts alike.
EVEN = Weights()
