"""The harmonic mean of two means over different cells: as one number, and as a difference."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crb_dspy.stats.estimates import (
    UNIT,
    Difference,
    Estimate,
    by_group,
    compared,
    estimated,
)
from crb_dspy.stats.resampling import Floats, curve, standard_error


class Halves(NamedTuple):
    """Sum and number of scores by case, over its cells of two kinds: a and b.

    Such as F1 of cells with gold, and 1 for each cell without gold that was left empty.
    """

    sum_a: ArrayLike
    n_a: ArrayLike
    sum_b: ArrayLike
    n_b: ArrayLike


def harmonic_mean(halves: Halves) -> Floats:
    """Return the harmonic mean of mean a and mean b, element by element; 0 where both are 0.

    Where there is only one kind of cell it is that kind's mean; where there is none, 0.
    """
    columns = [np.atleast_1d(np.asarray(column, np.float64)) for column in halves]
    return _harmonic(np.column_stack(columns))[0]


def harmonic_difference(
    baseline: Halves,
    treatment: Halves,
    groups: Sequence[Hashable],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare the harmonic means of two systems on the same cases, groups being units of chance.

    As `paired_difference`, but each draw recomputes both means and the ratio: labels of both
    systems are swapped in random halves of the groups (at no difference: the permutation test),
    and groups are resampled with the delta method's error of each draw. Wins and losses are of
    cases by their own harmonic mean. A case without any cell does not count.
    """
    before, after, labels = _counted(baseline, treatment, groups)
    gain = _harmonic(after)[0] - _harmonic(before)[0]
    sums = by_group(np.hstack([after, before]), labels)
    found = None
    if len(sums) > 1 and (after != before).any():
        found = curve(
            sums,
            _harmonic_gain,
            draws=draws,
            seed=seed,
            swapped=np.roll(sums, 4, axis=1),
            sizes=_weights(sums[:, :4] + sums[:, 4:]),
        )
    return compared(found, gain, sums, (-1.0, 1.0), level)


def harmonic_gain(
    baseline: Halves, treatment: Halves, groups: Sequence[Hashable]
) -> tuple[float, float]:
    """Return the difference of two harmonic means and its standard error by the delta method.

    For reading, where many are wanted; the error is NaN with under two groups.
    """
    before, after, labels = _counted(baseline, treatment, groups)
    sums = by_group(np.hstack([after, before]), labels)
    value = float(_harmonic_gain(sums.sum(axis=0)[None])[0][0])
    return value, standard_error(sums, _harmonic_gain)


def harmonic_interval(
    halves: Halves,
    groups: Sequence[Hashable],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the harmonic mean over all cases with its interval, within 0 and 1.

    Each draw recomputes both means and the ratio. A case without any cell does not count.
    """
    parts, _, labels = _counted(halves, halves, groups)
    sums = by_group(parts, labels)
    found = curve(sums, _harmonic, draws=draws, seed=seed) if len(sums) > 1 else None
    return estimated(found, _harmonic(parts)[0], sums, UNIT, level)


def _weights(pooled: Floats) -> Floats:
    """Return what the cells of each group weigh in the score of both systems together."""
    gradient = _harmonic(pooled.sum(axis=0)[None])[1][0]
    return np.asarray(pooled[:, [1, 3]] @ gradient[[0, 2]])


def _counted(
    baseline: Halves, treatment: Halves, groups: Sequence[Hashable]
) -> tuple[Floats, Floats, list[Hashable]]:
    """Return what both systems have, a row a case that counts, and the groups of these."""
    both = []
    for halves in (baseline, treatment):
        columns = [np.asarray(column, np.float64) for column in halves]
        if odd := [column.shape for column in columns if column.shape != (len(groups),)]:
            raise ValueError(f"values of shape {odd[0]} for {len(groups)} group labels")
        both.append(np.column_stack(columns))
    counted = np.logical_and(*(parts[:, [1, 3]].sum(axis=1) > 0 for parts in both))
    labels = [group for group, use in zip(groups, counted, strict=True) if use]
    return both[0][counted], both[1][counted], labels


def _harmonic(totals: Floats) -> tuple[Floats, Floats]:
    sums, sizes = totals[:, [0, 2]], totals[:, [1, 3]]
    means = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    together = means.sum(axis=1)
    both, some = (sizes > 0).all(axis=1), together > 0
    # Where there is one kind only, the other's mean is 0 and so is its slope.
    value, slopes = together.copy(), (sizes > 0).astype(np.float64)
    value[both] = 0
    ratio = both & some
    value[ratio] = 2 * means[ratio].prod(axis=1) / together[ratio]
    slopes[ratio] = 2 * (means[ratio][:, ::-1] / together[ratio, None]) ** 2
    per = np.divide(slopes, sizes, out=np.zeros_like(slopes), where=sizes > 0)
    return value, np.stack([per, -per * means], axis=2).reshape(-1, 4)


def _harmonic_gain(totals: Floats) -> tuple[Floats, Floats]:
    after, before = _harmonic(totals[:, :4]), _harmonic(totals[:, 4:])
    return after[0] - before[0], np.hstack([after[1], -before[1]])
