"""Which values of a quantity its groups do not rule out: one curve gives interval and p."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# From sums over groups (a row a draw) to a value a draw, and its gradient in those sums.
Statistic = Callable[[Floats], tuple[Floats, Floats]]

# Entries of one block of draws: bounds memory, whatever the number of draws and groups.
_BLOCK = 1 << 21
# A draw that leaves out all that varies has next to no error of its own to be divided by: the
# least, of the error seen. Chosen by simulation (bench/stats.py): with a smaller one two losses
# hide eight wins, with a larger one intervals of sparse scores are too narrow.
_LEAST_ERROR = 0.375
# Relative to the largest value: what rounding makes of equal numbers.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Curve:
    """An estimate, its standard error, and draws of where the truth may lie, sorted, a row a test.

    A test's p for a value on one side of the estimate is twice the share of its draws at that
    value or beyond; p of the curve is the largest of its tests'. The interval holds all values
    with p above 1 - level, so that it leaves out nothing exactly where p is at most 1 - level.
    """

    estimate: float
    error: float
    tests: tuple[Floats, ...]

    def p(self, value: float = 0.0) -> float:
        """Return the two-sided p of a value of the quantity."""
        if value == self.estimate:
            return 1.0
        below = value < self.estimate
        shares = [
            np.searchsorted(draws, value, side="right") / len(draws)
            if below
            else 1 - np.searchsorted(draws, value, side="left") / len(draws)
            for draws in self.tests
        ]
        return float(min(1.0, 2 * max(shares)))

    def interval(self, level: float, lowest: float, highest: float) -> tuple[float, float]:
        """Return the smallest and the largest value that is not ruled out and is possible."""
        lows, highs = [self.estimate], [self.estimate]
        for draws in self.tests:
            beyond = math.floor((1 - level) / 2 * len(draws) + 1e-9)
            lows.append(float(draws[beyond]))
            highs.append(float(draws[len(draws) - 1 - beyond]))
        return max(min(lows), lowest), min(max(highs), highest)


def curve(
    parts: Floats,
    statistic: Statistic,
    *,
    draws: int,
    seed: int,
    swapped: Floats | None = None,
    sizes: Floats | None = None,
) -> Curve:
    """Return the curve of a statistic of sums over groups, of which there must be two or more.

    `parts` has a row a group, of what is summed. Two tests rule out values, and a value is ruled
    out if both do. One splits the groups at random in two and looks at the statistic in each half
    (J. Hartigan (1969), JASA 64:1303); for a mean of differences that is the sign-flip test, exact
    however few the groups are where differences are symmetric, and unmoved by outliers. Where
    `swapped` holds each group's parts with both systems' labels swapped, the labels of one half
    are swapped instead, `sizes` being what groups weigh: at zero that is the permutation test of
    paired systems. The other is the bootstrap-t over groups, which follows skewed scores.
    """
    values, gradients = statistic(parts.sum(axis=0)[None])
    value, error = float(values[0]), _error(parts, gradients[0])
    splits = splittings(len(parts), draws, seed)
    if swapped is None or sizes is None:
        halves = [_in_halves(parts, statistic, masks) for masks in splits]
    else:
        halves = [_swapped(parts, swapped, sizes, statistic, masks) for masks in splits]
    drawn = [*halves, np.array([-np.inf, np.inf])]
    split = np.where(np.abs(joined := np.concatenate(drawn)) < _ROUNDING, 0.0, joined)
    bootstrap = _studentised(parts, statistic, (value, error), resamples(len(parts), draws, seed))
    return Curve(value, error, (np.sort(split), np.sort(bootstrap)))


def standard_error(parts: Floats, statistic: Statistic) -> float:
    """Return the cluster-robust standard error of a statistic, NaN with under two groups."""
    if len(parts) < 2:
        return math.nan
    return _error(parts, statistic(parts.sum(axis=0)[None])[1][0])


def _error(parts: Floats, gradient: Floats) -> float:
    groups = len(parts)
    return math.sqrt(groups / (groups - 1)) * float(np.linalg.norm(parts @ gradient))


def _in_halves(parts: Floats, statistic: Statistic, masks: Floats) -> Floats:
    """Return the statistic in one half of the groups, and in the other."""
    one = masks @ parts
    return np.concatenate([statistic(one)[0], statistic(parts.sum(axis=0) - one)[0]])


def _swapped(
    parts: Floats, swapped: Floats, sizes: Floats, statistic: Statistic, masks: Floats
) -> Floats:
    """Return the difference in the half whose labels are swapped, and in the other.

    A true difference d, spread as the groups weigh, becomes d (1 - 2 w) where a share w of all is
    swapped. Were d true, the swap would be as extreme as what was seen exactly where d lies
    between the two values returned: anywhere, where either half weighs nothing.
    """
    total, share = parts.sum(axis=0), masks @ sizes / sizes.sum()
    seen, after = statistic(total[None])[0], statistic(total + masks @ (swapped - parts))[0]
    weighed = np.minimum(share, 1 - share) > _ROUNDING
    share = np.where(weighed, share, 0.5)
    one = np.where(weighed, (seen - after) / (2 * share), -np.inf)
    return np.concatenate([one, np.where(weighed, (seen + after) / (2 * (1 - share)), np.inf)])


def _studentised(
    parts: Floats, statistic: Statistic, seen: tuple[float, float], draws: list[Floats]
) -> Floats:
    value, error = seen
    groups, width = parts.shape
    if error <= _ROUNDING * max(1.0, abs(value)):
        return np.array([value])
    products = (parts[:, :, None] * parts[:, None, :]).reshape(groups, -1)
    found = []
    for counts in draws:
        values, gradients = statistic(counts @ parts)
        moments = (counts @ products).reshape(-1, width, width)
        squares = np.einsum("ri,rij,rj->r", gradients, moments, gradients, optimize=True)
        errors = np.sqrt(np.maximum(squares, 0) * groups / (groups - 1))
        ratios = (values - value) / np.maximum(errors, _LEAST_ERROR * error)
        found.append(value - ratios * error)
    return np.concatenate(found)


def _blocks(draws: int, groups: int) -> Iterator[int]:
    step = max(1, _BLOCK // groups)
    return (min(step, draws - start) for start in range(0, draws, step))


# Comparisons of many systems on the same cases draw the same groups.
@lru_cache(maxsize=2)
def resamples(groups: int, draws: int, seed: int) -> list[Floats]:
    """Return how often each draw (row) holds each group (column), in blocks."""
    rng, blocks = np.random.default_rng(seed), []
    for rows in _blocks(draws, groups):
        picks = rng.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
        counts = np.bincount(picks.ravel(), minlength=rows * groups)
        blocks.append(counts.reshape(rows, groups).astype(np.float64))
    return blocks


@lru_cache(maxsize=2)
def splittings(groups: int, draws: int, seed: int) -> list[Floats]:
    """Return which groups (columns) are in one of two halves, a row a draw, in blocks.

    All ways to split the groups, once each, where they are no more than `draws`; never all
    groups in one half.
    """
    if 2**groups <= draws:
        # The first group stays in the other half: a split and its mirror image are the same.
        ways = np.arange(1, 2 ** (groups - 1))[:, None] >> np.arange(groups)[::-1] & 1
        return [ways.astype(np.float64)]
    rng, blocks = np.random.default_rng((seed, 1)), []
    for rows in _blocks(draws, groups):
        masks = rng.integers(0, 2, (rows, groups), np.int8)
        # One in 2^groups: any split does.
        masks[np.ptp(masks, axis=1) == 0, 0] ^= 1
        blocks.append(masks.astype(np.float64))
    return blocks
