"""Uncertainty of mean scores when cells of the same case (group) vary together."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Entries of one block of draws: bounds memory, whatever the number of draws and groups.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A mean over cases with its interval; NaN bounds say that none can be given."""

    mean: float
    low: float
    high: float
    cases: int
    groups: int


@dataclass(frozen=True)
class Difference:
    """Treatment minus baseline, mean over cases, with interval, p and counts of cases."""

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


def paired_difference(
    baseline: ArrayLike,
    treatment: ArrayLike,
    groups: Sequence[Hashable],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare two systems on the same cases, whole groups being the units of chance.

    `baseline`, `treatment` and `groups` run in parallel (ValueError if not); a pair with a NaN
    does not count. The interval is that of `mean_interval`; p is the two-sided sign-flip
    permutation test on group sums, exact where 2^groups <= draws. The same seed gives the same
    result. With one group or no case the bounds are NaN and p is 1.
    """
    before, after = np.asarray(baseline, np.float64), np.asarray(treatment, np.float64)
    if before.shape != after.shape:
        raise ValueError(f"{before.size} baseline against {after.size} treatment values")
    gain, sums, sizes = _clusters(after - before, groups)
    estimate = _estimate(sums, sizes, draws, level, seed)
    wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
    return Difference(
        difference=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        p=_sign_flip(sums, draws, seed),
        cases=estimate.cases,
        groups=estimate.groups,
        wins=wins,
        ties=len(gain) - wins - losses,
        losses=losses,
        level=level,
    )


def mean_interval(
    values: ArrayLike,
    groups: Sequence[Hashable],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the mean over cases with a symmetric bootstrap-t interval over whole groups.

    Groups are resampled, each mean is studentized by its cluster-robust error, and the interval
    is never narrower than Student's on groups - 1 degrees of freedom. Chosen by simulated
    coverage at 95 % over normal, skewed, sparse and ternary data: 94 to 96 % from 20 groups on
    and 93 to 98 % with 10, where the percentile interval has 84 to 93 %; fewer groups are not
    to be relied on. NaN values do not count.
    """
    return _estimate(*_clusters(values, groups)[1:], draws, level, seed)


def minimum_detectable(
    differences: ArrayLike, groups: Sequence[Hashable], *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest true mean difference that these groups would show, NaN with under two.

    In units of the differences: the cluster-robust error times the sum of Student's quantiles at
    1 - alpha / 2 and at power, for a two-sided test on groups - 1 degrees of freedom.
    """
    _, sums, sizes = _clusters(differences, groups)
    freedom = len(sizes) - 1
    if freedom < 1:
        return math.nan
    return _error(sums, sizes) * (_student(1 - alpha / 2, freedom) + _student(power, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, at most 1, in the order given.

    S. Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return [float(value) for value in np.minimum(adjusted, 1)]


def verdict(difference: Difference) -> str:
    """Say "improved" or "worse" where interval and p agree on it, else "no gain shown"."""
    if difference.p <= 1 - difference.level + 1e-12:
        if difference.low > 0:
            return "improved"
        if difference.high < 0:
            return "worse"
    return "no gain shown"


def _clusters(values: ArrayLike, groups: Sequence[Hashable]) -> tuple[Floats, Floats, Floats]:
    """Return the values that count, and each group's sum and size."""
    cells = np.asarray(values, np.float64)
    if cells.shape != (len(groups),):
        raise ValueError(f"values of shape {cells.shape} for {len(groups)} group labels")
    counted = ~np.isnan(cells)
    index: dict[Hashable, int] = {}
    labels = (group for group, use in zip(groups, counted, strict=True) if use)
    codes = np.array([index.setdefault(label, len(index)) for label in labels], np.intp)
    sums = np.bincount(codes, cells[counted]).astype(np.float64)
    return cells[counted], sums, np.bincount(codes).astype(np.float64)


def _estimate(sums: Floats, sizes: Floats, draws: int, level: float, seed: int) -> Estimate:
    cases, groups = int(sizes.sum()), len(sizes)
    mean = float(sums.sum()) / cases if cases else math.nan
    margin = _margin(sums, sizes, draws, level, seed) if groups > 1 else math.nan
    return Estimate(mean, mean - margin, mean + margin, cases, groups)


def _residuals(sums: Floats, sizes: Floats) -> Floats:
    return sums - float(sums.sum() / sizes.sum()) * sizes


def _error(sums: Floats, sizes: Floats) -> float:
    """Return the cluster-robust standard error, with the G / (G - 1) correction."""
    correction = math.sqrt(len(sizes) / (len(sizes) - 1))
    return correction * float(np.linalg.norm(_residuals(sums, sizes)) / sizes.sum())


def _margin(sums: Floats, sizes: Floats, draws: int, level: float, seed: int) -> float:
    groups, error, residuals = len(sizes), _error(sums, sizes), _residuals(sums, sizes)
    squares = (residuals**2, residuals * sizes, sizes**2)
    moments = np.column_stack([residuals, sizes, *squares])
    drawn = np.concatenate([counts @ moments for counts in _resamples(groups, draws, seed)])
    total, cases, own, cross, size = drawn.T
    shift = total / cases
    spread = np.sqrt(np.maximum(own - 2 * shift * cross + shift**2 * size, 0) * groups)
    errors = spread / math.sqrt(groups - 1) / cases
    # A draw of one group over and over has no spread to be studentized by.
    usable = errors > 1e-9 * error
    ratios = np.abs(shift[usable]) / errors[usable]
    drawn_quantile = float(np.quantile(ratios, level)) if ratios.size else 0.0
    return error * max(drawn_quantile, _student((1 + level) / 2, groups - 1))


def _blocks(draws: int, groups: int) -> Iterator[int]:
    step = max(1, _BLOCK // groups)
    return (min(step, draws - start) for start in range(0, draws, step))


# Comparisons of many systems on the same cases draw the same groups.
@lru_cache(maxsize=2)
def _resamples(groups: int, draws: int, seed: int) -> list[Floats]:
    """Return how often each draw (row) holds each group (column), in blocks."""
    rng, blocks = np.random.default_rng(seed), []
    for rows in _blocks(draws, groups):
        picks = rng.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
        counts = np.bincount(picks.ravel(), minlength=rows * groups)
        blocks.append(counts.reshape(rows, groups).astype(np.float64))
    return blocks


def _sign_flip(sums: Floats, draws: int, seed: int) -> float:
    groups = len(sums)
    # Rounding must not tell apart what is equal.
    observed = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if 2**groups <= draws:
        signs = np.arange(2**groups)[:, None] >> np.arange(groups) & 1
        return float(np.mean(np.abs((2.0 * signs - 1) @ sums) >= observed))
    rng, extreme = np.random.default_rng(seed), 0
    for rows in _blocks(draws, groups):
        flips = 2.0 * rng.integers(0, 2, (rows, groups), np.int8) - 1
        extreme += int((np.abs(flips @ sums) >= observed).sum())
    return (1 + extreme) / (1 + draws)


@lru_cache(maxsize=256)
def _student(probability: float, freedom: int) -> float:
    # Where t = sqrt(freedom) tan(angle), its density is proportional to cos(angle)^(freedom - 1).
    edges = np.linspace(-math.pi / 2, math.pi / 2, 100_001)
    density = np.cos((edges[1:] + edges[:-1]) / 2) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density)])
    angle = float(np.interp(probability * below[-1], below, edges))
    return math.sqrt(freedom) * math.tan(angle)
