"""Samples keep the share of cases with something to find."""

import math
import random

import pytest

from crb_dspy.recipe.sampling import portions, stratified
from tests.made_search import made_split


def test_a_stratified_sample_has_as_many_full_cases_as_there_are_and_half_at_least() -> None:
    cases = [*made_split(["GI"], 30).train]
    sparse = [c for c in cases if not (c.gold or {})["GI"]] + cases[:2]
    for seed in range(20):
        sample = stratified(cases, ["GI"], 6, random.Random(seed))
        assert len(sample) == 6
        assert sum(bool((c.gold or {})["GI"]) for c in sample) == 4
        few = stratified(sparse, ["GI"], 6, random.Random(seed))
        assert len(few) == 6
        assert sum(bool((c.gold or {})["GI"]) for c in few) == 2


@pytest.mark.parametrize("cases", [1, 3, 4, 5, 11, 30])
def test_portions_are_all_cases_once_and_each_a_handful(cases: int) -> None:
    many = made_split(["GI"], 1, cases).validation
    found = list(portions(many, ["GI"]))
    assert sorted(c.id for some in found for c in some) == sorted(c.id for c in many)
    assert len(found[0]) == min(cases, max(4, math.ceil(cases / 6)))
    assert all(found)
    filled = [bool((c.gold or {})["GI"]) for c in found[0]]
    assert sum(filled) >= len(filled) / 2
