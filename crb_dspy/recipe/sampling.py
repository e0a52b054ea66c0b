"""Samples of cases that are like all of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from crb_dspy.data.cases import Case

# In how many portions a candidate meets the cases, and on how many first, at least.
LOOKS, FIRST = 6, 4


def stratified(
    cases: Sequence[Case], keys: Sequence[str], size: int, chance: random.Random
) -> list[Case]:
    """Return a sample in which cases with something to find are as frequent as among all.

    At least half of it has something to find where there are as many, and each of `keys` is met
    before one is met again, as far as cases allow.
    """
    pool = chance.sample(list(cases), len(cases))
    filled = _covering([(case, {k for k in keys if (case.gold or {}).get(k)}) for case in pool])
    empty = [case for case in pool if case not in filled]
    share = max(0.5, len(filled) / max(1, len(pool)))
    wanted = min(len(filled), max(size - len(empty), round(size * share)))
    kept = {case.id for case in filled[:wanted] + empty[: size - wanted]}
    return [case for case in cases if case.id in kept]


def portions(cases: Sequence[Case], keys: Sequence[str]) -> Iterator[list[Case]]:
    """Yield all cases in portions; those up to any of them are a stratified sample."""
    met: set[str] = set()
    for look in range(1, LOOKS + 1):
        size = min(len(cases), max(FIRST, math.ceil(look * len(cases) / LOOKS)))
        if size > len(met):
            sample = stratified(cases, keys, size, random.Random("first"))
            yield [case for case in sample if case.id not in met]
            met |= {case.id for case in sample}


def _covering(pairs: Sequence[tuple[Case, set[str]]]) -> list[Case]:
    """Return the cases that have any keys, those first that add most to the keys met."""
    left, met, ordered = [pair for pair in pairs if pair[1]], set[str](), []
    while left:
        best = max(left, key=lambda pair: len(pair[1] - met))
        left.remove(best)
        ordered.append(best[0])
        met = met | best[1] if best[1] - met else set()
    return ordered
