from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.data.cases import Case, data_fingerprint
from crb_dspy.data.splits import folds, split
from crb_dspy.errors import UserError


def made(*sizes: int) -> list[Case]:
    """Cases of groups g0, g1, ... of these sizes."""
    return [
        Case(f"c{group}-{n}", {"Case": f"Report {n}."}, {"GI": ()}, f"g{group}")
        for group, size in enumerate(sizes)
        for n in range(size)
    ]


sizes = st.lists(st.integers(1, 5), min_size=2, max_size=30)
seeds = st.integers(0, 2**64)


def test_text_and_place() -> None:
    case = Case("a", {"History": "Vomiting.", "Later": "No fever."})
    assert case.text == "## History\nVomiting.\n\n## Later\nNo fever."
    assert case.group == "a"
    assert case.place(case.text.index("Vomiting")) == ("History", 0)
    assert case.place(case.text.index("fever")) == ("Later", 3)
    assert case.place(0) == ("History", 0)
    assert case.place(len("## History\nVomiting.\n")) == ("History", 9)
    assert case.place(len(case.text)) == ("Later", 9)
    with pytest.raises(IndexError):
        case.place(len(case.text) + 1)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), min_size=1, max_size=4))
def test_every_character_of_a_section_has_its_place(sections: dict[str, str]) -> None:
    case, at = Case("a", sections), 0
    for heading, body in sections.items():
        at += len(f"## {heading}\n")
        for offset in range(len(body)):
            assert case.place(at + offset) == (heading, offset)
            assert case.text[at + offset] == body[offset]
        at += len(body) + 2


@given(sizes, seeds, st.randoms())
def test_a_split_holds_every_case_once_and_keeps_groups(
    sizes: list[int], seed: int, chance: random.Random
) -> None:
    cases = made(*sizes)
    sides = split(cases, seed=seed)
    whole = [case.id for side in (sides.train, sides.validation, sides.test) for case in side]
    assert Counter(whole) == Counter(case.id for case in cases)
    groups = [{c.group for c in side} for side in (sides.train, sides.validation, sides.test)]
    assert sum(map(len, groups)) == len(sizes)
    assert groups[0]
    assert groups[2]
    assert bool(groups[1]) == (len(sizes) > 2)
    shuffled = cases[:]
    chance.shuffle(shuffled)
    assert split(shuffled, seed=seed) == sides


@given(st.integers(10, 200), seeds)
def test_sizes_follow_the_fractions(count: int, seed: int) -> None:
    sides = split(made(*[1] * count), seed=seed, fractions=(0.5, 0.2, 0.3))
    for side, share in ((sides.train, 0.5), (sides.validation, 0.2), (sides.test, 0.3)):
        assert abs(len(side) - share * count) <= 1.5


def test_no_validation_if_none_is_wanted() -> None:
    assert split(made(*[1] * 10), fractions=(0.5, 0, 0.5)).validation == ()


def test_seeds_and_sides_show_in_the_fingerprint() -> None:
    cases = made(*[1] * 20)
    first, second = split(cases, seed=0), split(cases, seed=1)
    assert first != second
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == split(cases[::-1], seed=0).fingerprint
    swapped = replace(first, train=first.test, test=first.train)
    assert swapped.fingerprint != first.fingerprint


def test_a_split_is_the_same_on_every_machine() -> None:
    sides = split(made(1, 2, 1, 1, 3, 1), seed=7)
    names = [
        sorted({c.group for c in side}) for side in (sides.train, sides.validation, sides.test)
    ]
    assert names == [["g3", "g5"], ["g2", "g4"], ["g0", "g1"]]


@pytest.mark.parametrize("sizes", [(), (1,), (5,)])
def test_one_group_cannot_be_split(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="at least two groups"):
        split(made(*sizes))


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5, 0.5), (0, 0.5, 0.5), (0.5, 0.5, 0), (1.2, -0.4, 0.2)]
)
def test_fractions_must_be_shares(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="sum to 1"):
        split(made(1, 1, 1), fractions=fractions)


@given(sizes, seeds, st.data())
def test_folds_are_disjoint_and_keep_groups(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    cases, k = made(*sizes), data.draw(st.integers(2, len(sizes)))
    dealt = folds(cases, k, seed)
    assert len(dealt) == k
    assert all(dealt)
    assert Counter(c.id for fold in dealt for c in fold) == Counter(c.id for c in cases)
    assert sum(len({c.group for c in fold}) for fold in dealt) == len(sizes)
    assert folds(cases[::-1], k, seed) == dealt


@pytest.mark.parametrize("k", [0, 1, 4])
def test_folds_need_groups(k: int) -> None:
    with pytest.raises(UserError, match="6 cases in 3 groups"):
        folds(made(2, 2, 2), k, 0)


def test_data_fingerprint_sees_everything_but_order() -> None:
    case = Case("a", {"Case": "Vomiting.", "Later": "None."}, {"GI": ("Vomiting",)})
    other = Case("b", {"Case": "Fever."})
    first = data_fingerprint([case, other])
    assert first == data_fingerprint([other, case])
    changes: list[Case] = [
        replace(case, id="c", group="a"),
        replace(case, group="x"),
        replace(case, gold=None),
        replace(case, gold={"GI": ()}),
        replace(case, sections={"Later": "None.", "Case": "Vomiting."}),
        replace(case, sections={"Case": "vomiting.", "Later": "None."}),
    ]
    prints = {data_fingerprint([changed, other]) for changed in changes} | {first}
    assert len(prints) == len(changes) + 1
