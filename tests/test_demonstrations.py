"""Which training cases are shown, and the sentences that are added to an instruction."""

from __future__ import annotations

import random

import pytest

from crb_dspy.data.cases import Case
from crb_dspy.program import Part
from crb_dspy.recipe.demonstrations import SELECTIONS, selected
from crb_dspy.recipe.wording import CHOICES, definition, worded
from tests.made_search import FULL

KEYS = ["GI"]


def found(name: str, *quotes: str) -> Case:
    return Case(name, {"Report": ". ".join(quotes) or "Well."}, {"GI": quotes, "GU": ("no pain",)})


CASES = [
    found("a", "loose stools", "vomiting", "poor feeding"),
    found("b", "loose stools", "vomiting"),
    found("c", "vomiting at night"),
    found("d", "jaundice"),
    found("e"),
    found("f"),
]


def chosen(how: str, size: int, cases: list[Case] = CASES) -> str:
    return "".join(case.id for case in selected(how, cases, KEYS, size))


@pytest.mark.parametrize("how", SELECTIONS)
@pytest.mark.parametrize("size", range(7))
def test_as_many_as_asked_for_and_one_of_them_at_most_with_nothing_to_find(
    how: str, size: int
) -> None:
    names = chosen(how, size)
    assert len(names) == len(set(names)) == min(size, 5)
    empty = set(names) & {"e", "f"}
    assert len(empty) == (1 if size > 1 else 0)
    assert not empty or names[-1] in empty


@pytest.mark.parametrize("how", SELECTIONS)
def test_the_order_of_the_cases_is_of_no_account(how: str) -> None:
    filled = CASES[:4]
    orders = {chosen(how, 3, random.Random(n).sample(filled, 4)) for n in range(8)}
    assert len(orders) == 1


def test_the_typical_shares_its_words_with_others() -> None:
    assert set(chosen("typical", 3)[:2]) == {"a", "b"}


def test_the_diverse_are_unlike_each_other() -> None:
    assert chosen("diverse", 3)[:2] == "ad"


def test_the_brief_have_least_to_find() -> None:
    assert set(chosen("brief", 3)[:2]) == {"c", "d"}


def test_those_with_most_to_find_stand_first() -> None:
    assert chosen("diverse", 6) == "abcde"


@pytest.mark.parametrize("how", SELECTIONS)
def test_where_no_case_has_anything_one_of_them_is_shown(how: str) -> None:
    assert chosen(how, 3, CASES[4:]) == "e"


def test_a_wording_is_added_to_the_instruction() -> None:
    part = Part(FULL.select(KEYS).categories)
    plain = dict.fromkeys(CHOICES, "")
    assert worded(part, plain) == part.instruction
    told = worded(part, {**plain, "negation": "counts"}, defined=True)
    assert told.startswith(f"{part.instruction} What belongs here: ")
    assert told.endswith(CHOICES["negation"]["counts"])
    assert all(texts[""] == "" for texts in CHOICES.values())


def test_a_definition_is_that_of_the_one_category() -> None:
    (category,) = FULL.select(KEYS).categories
    assert definition(Part([category])) == f"What belongs here: {category.guidance}."
    assert definition(Part(FULL.select(["GI", "GU"]).categories)) == ""
