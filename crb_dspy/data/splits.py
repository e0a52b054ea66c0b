"""Which cases tune, which choose, and which only judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.files import fingerprint

Cases = tuple[Case, ...]


@dataclass(frozen=True)
class Split:
    """Which cases tune (train, validation) and which only judge (test)."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change when any case changes sides, whatever the order."""
        sides = (self.train, self.validation, self.test)
        return fingerprint(*(sorted(case.id for case in side) for side in sides))


def split(
    cases: Sequence[Case],
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.4, 0.3, 0.3),
) -> Split:
    """Split by group into train, validation and test, in shares of cases.

    Groups come in the order of a hash of seed and name, so the order of the cases is of no
    account. Test, train and validation get one each, in this turn; every further group goes to
    the side that is furthest below its share. UserError if there are fewer than two groups, or
    the fractions do not sum to 1 with something for train and test.
    """
    train, validation, test = fractions
    if not (train > 0 and test > 0 and validation >= 0) or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"split {fractions}: give shares of train, validation, test that sum to 1")
    groups = _groups(cases, seed)
    if len(groups) < 2:
        raise UserError(f"{_count(groups)}: to tune and test, at least two groups are needed")
    turns = [2, 0, 1] if validation else [2, 0]
    sides: tuple[list[Case], ...] = ([], [], [])
    for number, group in enumerate(groups):
        wanting = [fractions[side] * len(cases) - len(sides[side]) for side in range(3)]
        side = turns[number] if number < len(turns) else max(turns, key=wanting.__getitem__)
        sides[side].extend(group)
    return Split(*map(tuple, sides))


def folds(cases: Sequence[Case], k: int, seed: int = 0) -> list[tuple[Case, ...]]:
    """Deal the cases, by group and hash of seed and group, into k disjoint folds of like size.

    UserError if k is below 2 or there are fewer groups than folds.
    """
    groups = _groups(cases, seed)
    if not 2 <= k <= len(groups):
        raise UserError(f"{_count(groups)}: choose from 2 to as many folds as groups, not {k}")
    dealt: list[list[Case]] = [[] for _ in range(k)]
    for number, group in enumerate(groups):
        dealt[number if number < k else min(range(k), key=lambda i: len(dealt[i]))].extend(group)
    return [tuple(fold) for fold in dealt]


def _groups(cases: Sequence[Case], seed: int) -> list[list[Case]]:
    """Gather the cases of each group; groups by hash, cases by id."""
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        groups.setdefault(case.group, []).append(case)
    return [groups[name] for name in sorted(groups, key=lambda name: fingerprint(seed, name))]


def _count(groups: Sequence[Sequence[Case]]) -> str:
    return f"{sum(map(len, groups))} cases in {len(groups)} group{'s' * (len(groups) != 1)}"


@dataclass(frozen=True)
class Sides:
    """Who does what: train proposes, choose selects candidates, confirm gates them, test judges."""

    train: Cases
    choose: Cases
    confirm: Cases
    test: Cases


def halves(cases: Cases, keys: Sequence[str], seed: int) -> tuple[Cases, Cases]:
    """Divide cases by group so that each category has something to find in both halves.

    Groups with most categories filled are dealt first, each to the half that it evens out.
    """
    sides: list[list[Case]] = [[], []]
    balance = Counter[str]()
    for group in sorted(folds(cases, len({c.group for c in cases}), seed), key=_filling):
        weights = Counter(key for case in group for key in keys if (case.gold or {}).get(key))
        weights[""] = len(group)
        ahead = sum((balance[key] > 0) - (balance[key] < 0) for key in weights.elements())
        side = int(ahead > 0 or (ahead == 0 and len(sides[0]) > len(sides[1])))
        sides[side].extend(group)
        for key, weight in weights.items():
            balance[key] += weight if side == 0 else -weight
    return tuple(sides[0]), tuple(sides[1])


def _filling(group: Cases) -> int:
    return -sum(bool(quotes) for case in group for quotes in (case.gold or {}).values())
