"""How often intervals cover, and how often differences are shown, on simulated scores.

python bench/stats.py [--trials 400] [--json]

Each line is a kind of data and a number of groups. `method` is what crb_dspy.stats does; `split`
(random halves of the groups, for means the sign-flip test) and `boot` (bootstrap-t) are its two
tests alone; `former` is what it did before: a symmetric bootstrap-t interval no narrower than
Student's, with a sign-flip p that had to agree. The harmonic mean had no interval before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from crb_dspy.stats import (
    Floats,
    Halves,
    harmonic_difference,
    harmonic_mean,
    holm,
    paired_difference,
)
from crb_dspy.stats.estimates import _mean, _means
from crb_dspy.stats.resampling import Curve, curve, resamples

GROUPS, DRAWS, LEVEL, CELLS = (4, 6, 10, 20, 40, 138), 1000, 0.95, 14
# Cases of this many groups stand for all there are.
ALL = 200_000
SIZES = (1, 2, 3)
Made = Callable[[np.random.Generator, int], Floats]
Random = np.random.Generator
# Interval and p.
Read = tuple[float, float, float]


class Found(NamedTuple):
    """Coverage of the truth and share shown as different, in per cent; mean width."""

    coverage: float
    shown: float
    width: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines = []
    for name, groups, found in simulated(options.trials):
        lines.append({"data": name, "groups": groups} | {k: v._asdict() for k, v in found.items()})
        if not options.json:
            told = (f"{k} {v.coverage:5.1f} {v.shown:5.1f} {v.width:.2f}" for k, v in found.items())
            print(f"{name:22}{groups:4}  {'  '.join(told)}", flush=True)
    wrong = {str(size): false_claims(size, options.trials) for size in (10, 20, 40)}
    if options.json:
        print(json.dumps({"trials": options.trials, "lines": lines, "wrong_after_holm": wrong}))
        return
    print("(each: coverage %, shown %, width)")
    for size, share in wrong.items():
        print(f"5 strategies as good as a baseline, {size} groups: a claim in {share:.1f} %")


def simulated(trials: int) -> Iterator[tuple[str, int, Mapping[str, Found]]]:
    for name, made in MEANS.items():
        truth = float(made(np.random.default_rng(9), ALL).mean())
        for groups in GROUPS:
            rng, labels = np.random.default_rng(groups), _labels(name, groups)
            drawn = [_read(made(rng, len(labels)), labels, name) for _ in range(trials)]
            yield name, groups, _rates(drawn, truth)
    for name, (low, high) in SYSTEMS.items():
        truth = _truth(high) - _truth(low)
        for groups in GROUPS:
            rng = np.random.default_rng(groups)
            pairs = (_pair(rng, groups, low, high) for _ in range(trials))
            found = (harmonic_difference(*pair, range(groups), draws=DRAWS) for pair in pairs)
            drawn = [{"method": (each.low, each.high, each.p)} for each in found]
            yield f"harmonic {name}", groups, _rates(drawn, truth)


def false_claims(groups: int, trials: int, strategies: int = 5) -> float:
    """Return how often (%) any of some strategies, all as good as the baseline, is told apart."""
    rng, wrong = np.random.default_rng(groups), 0
    for _ in range(trials):
        hard = rng.uniform(0.2, 0.8, groups)
        base, *others = np.clip(hard + rng.normal(0, 0.15, (strategies + 1, groups)), 0, 1)
        found = [paired_difference(base, other, range(groups), draws=DRAWS) for other in others]
        wrong += min(holm([difference.p for difference in found])) <= 1 - LEVEL
    return 100 * wrong / trials


def normal(rng: Random, cases: int) -> Floats:
    return np.clip(rng.normal(0.06, 0.15, cases), -1, 1)


def no_gain(rng: Random, cases: int) -> Floats:
    return np.clip(rng.normal(0, 0.15, cases), -1, 1)


def heavy_tails(rng: Random, cases: int) -> Floats:
    return np.clip(0.03 + 0.05 * rng.standard_t(2, cases), -1, 1)


def outliers(rng: Random, cases: int) -> Floats:
    """A small gain nearly always, a large one in a case out of ten."""
    large = rng.random(cases) < 0.1
    return np.where(large, rng.uniform(0.5, 1, cases), rng.normal(0.08, 0.05, cases))


def ties(rng: Random, cases: int) -> Floats:
    return np.where(rng.random(cases) < 0.4, rng.uniform(-0.3, 0.6, cases), 0)


def ternary(rng: Random, cases: int) -> Floats:
    return rng.choice([-1.0, 0.0, 1.0], cases, p=[0.1, 0.6, 0.3])


def sparse(rng: Random, cases: int) -> Floats:
    return np.where(rng.random(cases) < 0.2, rng.uniform(0.2, 1, cases), 0)


def ceiling(rng: Random, cases: int) -> Floats:
    """What is gained where many cases are perfect before and more are after."""
    hard = rng.normal(0, 0.1, cases)
    before, after = (
        np.clip(worth + hard + rng.normal(0, 0.2, cases), 0, 1) for worth in (0.85, 1.0)
    )
    return after - before


def clustered(rng: Random, cases: int) -> Floats:
    """One to three cases a group, which share half of what they differ in."""
    groups = np.arange(cases) if cases == ALL else np.array(_labels("clustered", cases))[:cases]
    shared = rng.normal(0, 0.1, cases)[groups]
    return np.clip(0.06 + shared + rng.normal(0, 0.1, cases), -1, 1)


def score_low(rng: Random, cases: int) -> Floats:
    return rng.beta(0.5, 3, cases)


def score_ceiling(rng: Random, cases: int) -> Floats:
    return np.clip(rng.normal(0.95, 0.2, cases), 0, 1)


MEANS: dict[str, Made] = {
    made.__name__: made
    for made in (normal, no_gain, heavy_tails, outliers, ties, ternary, sparse, ceiling, clustered,
                 score_low, score_ceiling)
}  # fmt: skip
# Mean F1 of cells with gold and share of empty cells left empty, of baseline and treatment.
SYSTEMS = {
    "same": ((0.35, 0.6), (0.35, 0.6)),
    "better": ((0.35, 0.6), (0.42, 0.68)),
    "other mix": ((0.5, 0.3), (0.3, 0.5)),
    "from silence": ((0.02, 0.97), (0.15, 0.9)),
    "from babble": ((0.3, 0.02), (0.3, 0.25)),
}


def _labels(name: str, groups: int) -> list[int]:
    sizes = SIZES if name == "clustered" else (1,)
    return [group for group in range(groups) for _ in range(sizes[group % len(sizes)])]


def _read(values: Floats, labels: list[int], name: str) -> dict[str, Read]:
    _, sums = _means(values, labels)
    found = curve(sums, _mean, draws=DRAWS, seed=0)
    lowest = 0.0 if name.startswith("score") else -1.0
    curves = {"method": found.tests, "split": found.tests[:1], "boot": found.tests[1:]}
    read = {"former": _former(sums, found)}
    for method, tests in curves.items():
        own = Curve(found.estimate, found.error, tests)
        read[method] = (*own.interval(LEVEL, lowest, 1.0), own.p())
    return read


def _former(sums: Floats, found: Curve) -> Read:
    groups = len(sums)
    residuals = sums[:, 0] - found.estimate * sums[:, 1]
    squares = np.column_stack([residuals**2, residuals * sums[:, 1], sums[:, 1] ** 2])
    (counts,) = resamples(groups, DRAWS, 0)
    total = counts @ sums[:, 1]
    shift, (own, cross, size) = counts @ residuals / total, (counts @ squares).T
    spread = np.maximum(own - 2 * shift * cross + shift**2 * size, 0) * groups / (groups - 1)
    errors = np.sqrt(spread) / total
    ratios = np.abs(shift)[errors > 1e-9] / errors[errors > 1e-9]
    quantile = float(np.quantile(ratios, LEVEL)) if len(ratios) else 0.0
    margin = found.error * max(quantile, float(student.ppf((1 + LEVEL) / 2, groups - 1)))
    low, high = found.estimate - margin, found.estimate + margin
    # Both had to agree.
    flips = Curve(found.estimate, found.error, found.tests[:1]).p()
    return low, high, 1.0 if low <= 0 <= high else flips


def _pair(
    rng: Random, cases: int, before: tuple[float, float], after: tuple[float, float]
) -> tuple[Halves, Halves]:
    """Return two systems on the same cells, of which harder cases are harder for both."""
    gold = np.asarray(rng.binomial(CELLS, rng.beta(3, 3, cases)), np.intp)
    hard = rng.normal(0, 0.3, (2, cases))
    return _system(rng, gold, hard, before), _system(rng, gold, hard, after)


def _system(
    rng: Random, gold: NDArray[np.intp], hard: Floats, worth: tuple[float, float]
) -> Halves:
    f1, left = (
        1 / (1 + (1 / mean - 1) * np.exp(shift)) for mean, shift in zip(worth, hard, strict=True)
    )
    # The mean of as many scores of mean f1.
    size = 2 * np.maximum(gold, 1)
    found = rng.beta(f1 * size, (1 - f1) * size)
    return Halves(found * gold, gold, rng.binomial(CELLS - gold, left), CELLS - gold)


def _truth(worth: tuple[float, float]) -> float:
    rng = np.random.default_rng(9)
    system, _ = _pair(rng, ALL, worth, worth)
    return float(harmonic_mean(Halves(*(np.sum(column) for column in system)))[0])


def _rates(drawn: list[dict[str, Read]], truth: float) -> dict[str, Found]:
    rates = {}
    for method in drawn[0]:
        low, high, p = np.array([read[method] for read in drawn]).T
        covered = 100 * np.mean((low <= truth + 1e-9) & (truth - 1e-9 <= high))
        shown = 100 * np.mean(p <= 1 - LEVEL + 1e-12)
        rates[method] = Found(float(covered), float(shown), float(np.mean(high - low)))
    return rates


if __name__ == "__main__":
    main()
