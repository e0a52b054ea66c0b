"""Case reports, their gold findings, and how they are split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from crb_dspy.errors import UserError

Findings = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """One report: sections by heading, gold quotes by category (None where not annotated).

    Cases of one `group` (same disease, family or paper) never stand on two sides of a split.
    """

    id: str
    sections: Mapping[str, str]
    gold: Findings | None = None
    group: str = field(default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.id)

    @cached_property
    def text(self) -> str:
        """The report as one text, each section under its heading; all offsets point into it."""
        return "\n\n".join(f"## {heading}\n{body}" for heading, body in self.sections.items())

    def place(self, offset: int) -> tuple[str, int]:
        """Give the heading an offset of `text` stands under and its offset in that section.

        Offsets in a heading line count as the section's first, those past its end as its last.
        """
        if not 0 <= offset <= len(self.text):
            raise IndexError(f"offset {offset} is not in case '{self.id}'")
        end = 0
        for heading, body in self.sections.items():
            start = end + len(f"## {heading}\n")
            end = start + len(body) + len("\n\n")
            if offset < end:
                break
        return heading, min(max(offset - start, 0), len(body))


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


def fingerprint(*values: object) -> str:
    """Return 12 hex digits that change whenever a value does."""
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def data_fingerprint(cases: Iterable[Case]) -> str:
    """Return 12 hex digits for ids, texts, gold and groups, whatever the order of the cases."""
    ordered = sorted(cases, key=lambda case: case.id)
    return fingerprint(*((c.id, list(c.sections.items()), c.gold, c.group) for c in ordered))


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
