"""How much of the possible gain each way of choosing keeps, at equal calls, on a simulated model.

python bench/selection.py [--runs 200] [--json]

P parts, n validation cases, half of whose cells have gold, 8 kinds of candidates tried on every
part. The true gain of kind k on part p is a[k] + b[p, k], in both halves of the score; a case shows
it with a standard deviation of 0.35. Rules: the gate (half of the cases choose, the other half must
show each part at a one-sided 0.1), the same at 0.49, the best of all cases, and the rule as built,
`crb_dspy.tuning.choice.chosen`. Printed: mean true gain in score of the assembled program, and the
share of runs that end more than 0.005 below the seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.scoring.halves import Halves, harmonic
from crb_dspy.tuning.choice import Option, chosen

KINDS, NOISE, SEED = 8, 0.35, (0.4, 0.4)
TRUTHS = {
    "mixed": (0.0, 0.05, 0.05),
    "independent": (0.0, 0.0, 0.07),
    "mostly shared": (0.0, 0.07, 0.02),
    "most candidates harm": (-0.08, 0.05, 0.05),
}
RULES = ("gate 0.1", "gate 0.49", "best of all", "pooled and shrunk", "best possible")


def world(
    chance: np.random.Generator, parts: int, cases: int, truth: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return true gains (half x part x kind) and seen ones (half x part x kind x case)."""
    mu, kinds, own = truth
    shape = (parts, KINDS)
    one = chance.normal(mu, kinds, KINDS) + chance.normal(0, own, shape)
    gains = np.stack([one, one])
    return gains, gains[..., None] + chance.normal(0, NOISE, (2, *shape, cases // 2))


def score(gains: np.ndarray, picks: list[int | None]) -> float:
    """Return the true score of a program that takes a kind, or the seed, for each part."""
    halves = []
    for half in (0, 1):
        own = [0.0 if k is None else gains[half, p, k] for p, k in enumerate(picks)]
        halves.append(float(np.clip(SEED[half] + np.mean(own), 0, 1)))
    return harmonic(*halves)


def gated(seen: np.ndarray, quantile: float) -> list[int | None]:
    """Choose on half of the cases; the other half must show each part alone."""
    # Cells of both kinds in turn, so that each half of the cases has as many of each.
    both = np.stack(list(seen), axis=-1).reshape(*seen.shape[1:3], -1)
    half = both.shape[-1] // 2
    picks: list[int | None] = []
    for part in both:
        best = int(part[:, :half].mean(1).argmax())
        fresh = part[best, half:]
        error = fresh.std(ddof=1) / np.sqrt(len(fresh))
        shown = fresh.mean() > quantile * error and part[best, :half].mean() > 0
        picks.append(best if shown else None)
    return picks


def best_of_all(seen: np.ndarray) -> list[int | None]:
    """Take the best mean over all cases, if it is above zero."""
    means = seen.mean((0, 3))
    return [int(part.argmax()) if part.max() > 0 else None for part in means]


def as_built(seen: np.ndarray) -> list[int | None]:
    """Choose by the project's rule."""
    _, parts, kinds, cases = seen.shape
    options = [
        Option(str(p), f"{k}", f"{k}", _halves(seen[:, p, k]))
        for p in range(parts)
        for k in range(kinds)
    ]
    seed = [Halves(SEED[0], 1), Halves(empty=SEED[1], n_empty=1)] * cases
    choice = chosen(options, {str(p): seed for p in range(parts)})
    picks = [choice.picks.get(str(p)) for p in range(parts)]
    return [None if pick is None else int(pick.option.name) for pick in picks]


def _halves(gains: np.ndarray) -> tuple[Halves, ...]:
    filled, empty = gains
    return (*(Halves(g, 1) for g in filled), *(Halves(empty=g, n_empty=1) for g in empty))


def best_possible(gains: np.ndarray) -> list[int | None]:
    """Choose by the truth: the best of the programs assembled at each weight."""
    found: list[list[int | None]] = []
    for balance in np.arange(0.02, 1, 0.02):
        worth = balance * gains[0] + (1 - balance) * gains[1]
        found.append([int(p.argmax()) if p.max() > 0 else None for p in worth])
    return max(found, key=lambda picks: score(gains, picks))


def simulate(
    parts: int, cases: int, truth: tuple[float, float, float], runs: int
) -> dict[str, list[float]]:
    """Return for each rule the mean true gain, and the share of runs that end below the seed."""
    chance = np.random.default_rng(0)
    kept: dict[str, list[float]] = {rule: [] for rule in RULES}
    start = harmonic(*SEED)
    # Student's quantile at 0.9 for the fresh half.
    quantile = {12: 1.48, 24: 1.36, 60: 1.31}.get(cases, 1.3)
    for _ in range(runs):
        gains, seen = world(chance, parts, cases, truth)
        picks = (
            gated(seen, quantile),
            gated(seen, 0.0),
            best_of_all(seen),
            as_built(seen),
            best_possible(gains),
        )
        for rule, own in zip(RULES, picks, strict=True):
            kept[rule].append(score(gains, own) - start)
    return {r: [float(np.mean(v)), float(np.mean(np.array(v) < -0.005))] for r, v in kept.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = {
        f"{parts} parts, {cases} cases, {name}": simulate(parts, cases, truth, options.runs)
        for parts in (14, 4)
        for cases in (12, 24, 60)
        for name, truth in TRUTHS.items()
    }
    if options.json:
        print(json.dumps(table))
        return
    print(f"{'':42}" + "".join(f"{rule:>20}" for rule in RULES))
    for name, row in table.items():
        cells = "".join(f"{gain:+13.3f} ({worse:4.0%})" for gain, worse in row.values())
        print(f"{name:42}{cells}")


if __name__ == "__main__":
    main()
