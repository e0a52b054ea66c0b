"""A mean score and a mean difference, with what their cases can say about them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from crb_dspy.stats.resampling import Curve, Floats, curve, standard_error

# What a score can be.
UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A score over cases with its interval; NaN bounds say that none can be given."""

    mean: float
    low: float
    high: float
    cases: int
    groups: int
    error: float = math.nan


@dataclass(frozen=True)
class Difference:
    """Treatment minus baseline over cases, with interval, p, counts of cases, standard error."""

    difference: float
    low: float
    high: float
    p: float
    cases: int
    groups: int
    wins: int
    ties: int
    losses: int
    level: float = 0.95
    error: float = math.nan


def paired_difference(
    baseline: ArrayLike,
    treatment: ArrayLike,
    groups: Sequence[Hashable],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] = UNIT,
) -> Difference:
    """Compare two systems on the same cases, whole groups being the units of chance.

    `baseline`, `treatment` and `groups` run in parallel (ValueError if not); a pair with a NaN
    does not count. p is the larger one of the two-sided sign-flip permutation test on group sums
    (exact where 2^groups <= draws) and of the bootstrap-t over groups; the interval is the set
    of differences that neither rules out, so it leaves out 0 exactly where p <= 1 - level, and
    the same seed gives the same result. It stays within what scores within `bounds` can differ by
    (scores beyond widen them); too few groups for any p <= 1 - level rule out nothing. With one
    group or no case the bounds are NaN and p is 1.
    """
    before, after = np.asarray(baseline, np.float64), np.asarray(treatment, np.float64)
    if before.shape != after.shape:
        raise ValueError(f"{before.size} baseline against {after.size} treatment values")
    gain, sums = _means(after - before, groups)
    found = curve(sums, _mean, draws=draws, seed=seed) if len(sums) > 1 and gain.any() else None
    widest = max(bounds[1] - bounds[0], float(np.abs(gain).max(initial=0)))
    return compared(found, gain, sums, (-widest, widest), level)


def mean_interval(
    values: ArrayLike,
    groups: Sequence[Hashable],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] = UNIT,
) -> Estimate:
    """Return the mean over cases with the interval of `paired_difference`, within `bounds`.

    Values beyond the bounds widen them. NaN values do not count.
    """
    cells, sums = _means(values, groups)
    found = curve(sums, _mean, draws=draws, seed=seed) if len(sums) > 1 else None
    lowest, highest = cells.min(initial=bounds[0]), cells.max(initial=bounds[1])
    return estimated(found, cells, sums, (float(lowest), float(highest)), level)


def mean_error(values: ArrayLike, groups: Sequence[Hashable]) -> tuple[float, int]:
    """Return the standard error of a mean, NaN with under two groups, and the number of groups."""
    _, sums = _means(values, groups)
    return standard_error(sums, _mean), len(sums)


def compared(
    found: Curve | None,
    gain: Floats,
    sums: Floats,
    within: tuple[float, float],
    level: float,
) -> Difference:
    """Read a comparison off its curve; None stands for no curve, or for systems that are equal.

    `gain` is treatment minus baseline by case, `sums` has a row a group.
    """
    difference, low, high, error = math.nan, math.nan, math.nan, math.nan
    if found:
        difference, error = found.estimate, found.error
        low, high = found.interval(level, *within)
    elif len(gain):
        difference = float(gain.mean()) + 0.0
        if len(sums) > 1:
            low = high = error = 0.0
    wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
    return Difference(
        difference=difference,
        low=low,
        high=high,
        p=found.p() if found else 1.0,
        cases=len(gain),
        groups=len(sums),
        wins=wins,
        ties=len(gain) - wins - losses,
        losses=losses,
        level=level,
        error=error,
    )


def estimated(
    found: Curve | None, values: Floats, sums: Floats, within: tuple[float, float], level: float
) -> Estimate:
    """Read a score off its curve, if there is one; `values` by case, `sums` with a row a group."""
    if found is None:
        mean = float(values.mean()) if len(values) else math.nan
        return Estimate(mean, math.nan, math.nan, len(values), len(sums))
    bounds = found.interval(level, *within)
    return Estimate(found.estimate, *bounds, len(values), len(sums), found.error)


def by_group(parts: Floats, groups: Sequence[Hashable]) -> Floats:
    """Return the sums of a row a case over each group, in the order in which groups appear."""
    index: dict[Hashable, int] = {}
    codes = np.array([index.setdefault(label, len(index)) for label in groups], np.intp)
    sums = np.zeros((len(index), parts.shape[1]))
    np.add.at(sums, codes, parts)
    return sums


def _means(values: ArrayLike, groups: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Return the values that count, and each group's sum and size."""
    cells = np.asarray(values, np.float64)
    if cells.shape != (len(groups),):
        raise ValueError(f"values of shape {cells.shape} for {len(groups)} group labels")
    counted = ~np.isnan(cells)
    labels = [group for group, use in zip(groups, counted, strict=True) if use]
    kept = cells[counted]
    return kept, by_group(np.column_stack([kept, np.ones_like(kept)]), labels)


def _mean(totals: Floats) -> tuple[Floats, Floats]:
    total, size = totals.T
    return total / size, np.column_stack([1 / size, -total / size**2])
