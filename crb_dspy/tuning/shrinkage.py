"""Gains of many candidates, each seen on a few cases, shrunk towards what they have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# What of a difference is believed in any case, so that of equals the one that was seen to be better
# is taken.
LEAST = 1e-3


def shrunk(samples: Floats, kinds: Sequence[str], parts: Sequence[str]) -> tuple[Floats, Floats]:
    """Return posterior means and variances of the gains that options are drawn around.

    `samples` are options x cases, NaN where an option has no cell. What all options of a part
    share, such as how bad its seed is, lies around the mean of all parts; what one differs by from
    its part lies around what its kind differs by, and that around nothing.
    """
    if not np.isfinite(samples).any():
        return np.zeros(len(samples)), np.zeros(len(samples))
    member, names = _numbered(parts)
    shared = np.array([_means(samples[member == n], axis=0) for n in range(len(names))])
    level, doubt = _part_levels(shared)
    own = samples - shared[member]
    sizes = np.isfinite(own).sum(axis=1)
    # Of an option that stands alone, all is its part's.
    alone = np.array([(sizes[member == part] > 0).sum() < 2 for part in member])
    means, variances = _by_kind(
        own[~alone], [k for k, one in zip(kinds, alone, strict=True) if not one]
    )
    gains, errors = level[member].copy(), doubt[member].copy()
    gains[~alone] += means
    errors[~alone] += variances
    return gains, errors


def _part_levels(shared: Floats) -> tuple[Floats, Floats]:
    """Return what the options of each part share, shrunk to the mean of parts, and its variance."""
    sizes = np.isfinite(shared).sum(axis=1)
    errors = np.where(sizes > 0, _within(shared) / np.maximum(sizes, 1), np.inf)
    means = np.nan_to_num(_means(shared, axis=1))
    apart = _moment([(means, errors)])
    centre, _ = _pooled(means, errors + apart)
    keep = _ratio(apart, errors)
    doubts = keep * _finite(errors) + np.where(np.isfinite(errors), 0.0, apart)
    return centre + keep * (means - centre), doubts


def _by_kind(samples: Floats, kinds: Sequence[str]) -> tuple[Floats, Floats]:
    """Return what options differ by from their parts, shrunk to their kinds, these to nothing."""
    if not len(samples):
        return np.zeros(0), np.zeros(0)
    sizes = np.isfinite(samples).sum(axis=1)
    errors = np.where(sizes > 0, _within(samples) / np.maximum(sizes, 1), np.inf)
    means = np.nan_to_num(_means(samples, axis=1))
    member, names = _numbered(kinds)
    groups = [(means[member == n], errors[member == n]) for n in range(len(names))]
    between = _moment(groups)
    centres, doubts = np.array([_pooled(own, error + between) for own, error in groups]).T
    apart = _moment([(centres, doubts)])
    keep = _ratio(apart, doubts)
    centres = keep * centres
    doubts = keep * _finite(doubts) + np.where(np.isfinite(doubts), 0.0, apart)
    own = _ratio(between, errors)
    values = centres[member] + own * (means - centres[member])
    rest = own * _finite(errors) + np.where(sizes > 0, 0.0, between)
    return values, (1 - own) ** 2 * doubts[member] + rest


def _numbered(labels: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    names = list(dict.fromkeys(labels))
    return np.array([names.index(label) for label in labels], np.intp), names


def _means(values: Floats, axis: int) -> Floats:
    """Return means of what is there, NaN of nothing."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    sums = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, sums / np.maximum(count, 1), np.nan), np.float64)


def _finite(values: Floats) -> Floats:
    return np.asarray(np.where(np.isfinite(values), values, 0.0), np.float64)


def _within(samples: Floats) -> float:
    """Return the variance that rows have within themselves, pooled."""
    known = np.isfinite(samples)
    freedom = np.maximum(known.sum(axis=1) - 1, 0).sum()
    centred = samples - _means(samples, axis=1)[:, None]
    squares = np.where(known, centred, 0.0) ** 2
    return float(squares[known.sum(axis=1) > 1].sum() / freedom) if freedom else 0.0


def _pooled(values: Floats, errors: Floats) -> tuple[float, float]:
    """Return the mean of values weighted by their precision, and its variance."""
    known = np.isfinite(errors)
    if not known.any():
        return 0.0, math.inf
    weights = 1 / np.maximum(errors[known], 1e-12)
    return float(weights @ values[known] / weights.sum()), float(1 / weights.sum())


def _moment(groups: Iterable[tuple[Floats, Floats]]) -> float:
    """Return the variance of values beyond their errors, within groups (DerSimonian, Laird)."""
    surplus = scale = 0.0
    for values, errors in groups:
        known = np.isfinite(errors)
        if known.sum() < 2:
            continue
        weights = 1 / np.maximum(errors[known], 1e-12)
        mean = weights @ values[known] / weights.sum()
        surplus += float(weights @ (values[known] - mean) ** 2) - (known.sum() - 1)
        scale += float(weights.sum() - (weights**2).sum() / weights.sum())
    return max(0.0, surplus / scale) if scale else 0.0


def _ratio(part: float, rest: Floats) -> Floats:
    """Return what share of a difference is real, given its variance and that of its error."""
    whole = part + rest
    shares = np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)
    shares = np.maximum(shares, LEAST)
    return np.asarray(np.where(np.isfinite(rest), shares, 0.0), np.float64)
