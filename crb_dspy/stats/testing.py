"""What a comparison may claim, and how many cases a claim takes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from crb_dspy.stats.estimates import Difference, mean_error


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
    """Say "improved" or "worse" where p, corrected or not, rules out 0, else "no gain shown".

    An interval of the same level leaves out 0 wherever that is so.
    """
    if difference.p <= 1 - difference.level + 1e-12:
        if difference.low > 0:
            return "improved"
        if difference.high < 0:
            return "worse"
    return "no gain shown"


def minimum_detectable(
    differences: ArrayLike, groups: Sequence[Hashable], *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest true mean difference that these groups would show, NaN with under two.

    In units of the differences, which are given case by case.
    """
    error, size = mean_error(differences, groups)
    return math.nan if math.isnan(error) else error * _reach(size, power, alpha)


def detectable(difference: Difference, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest true difference that would be shown on the groups of a comparison.

    The standard error times the sum of Student's quantiles at 1 - alpha / 2 and at power, for a
    two-sided test on groups - 1 degrees of freedom; NaN where there is no error.
    """
    if math.isnan(difference.error):
        return math.nan
    return difference.error * _reach(difference.groups, power, alpha)


def margin(error: float, groups: int, alpha: float = 0.05) -> float:
    """Return half of Student's interval over groups, from a standard error."""
    # What is detected half of the time is what the interval's margin just reaches.
    return error * _reach(groups, 0.5, alpha)


def cases_needed(difference: Difference, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return how many cases like these would show the difference found, if it is the true one.

    Cases in groups of the same sizes; infinite for no difference, NaN where there is no error.
    """
    if math.isnan(difference.error) or difference.groups < 2:
        return math.nan
    if difference.difference == 0:
        return math.inf
    ratio = difference.error / abs(difference.difference)
    # Under these a permutation of groups can't be rare enough.
    groups = max(2, math.ceil(1 + math.log2(1 / alpha)))
    low, spread = groups, ratio * math.sqrt(difference.groups)
    while spread / math.sqrt(groups) * _reach(groups, power, alpha) > 1:
        low, groups = groups + 1, 2 * groups
    while low < groups:
        middle = (low + groups) // 2
        if spread / math.sqrt(middle) * _reach(middle, power, alpha) > 1:
            low = middle + 1
        else:
            groups = middle
    return float(math.ceil(groups * difference.cases / difference.groups))


@lru_cache(maxsize=1024)
def _reach(groups: int, power: float, alpha: float) -> float:
    """Return how many standard errors a true difference must be to be shown."""
    # Imported here: it takes half a second.
    from scipy.stats import t

    freedom = float(groups - 1)
    return float(t.ppf(1 - alpha / 2, freedom) + t.ppf(power, freedom))
