"""Where a search spends: who gets nothing, what the others get, and whether to begin at all."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.data.splits import Sides
from crb_dspy.program import Part
from crb_dspy.scoring.halves import EVEN, Halves
from crb_dspy.tuning.headroom import (
    Headroom,
    filled,
    hopeless,
    measured,
    probes,
    shared_out,
)
from crb_dspy.tuning.ledger import identity
from tests.made_search import FULL, case, made_plan, made_split

PART = Part(FULL.select(["GI"]).categories)
SPLIT = made_split(["GI"], 9, 8)
SIDES = Sides(SPLIT.train, SPLIT.validation, (), ())


def test_only_cases_with_something_to_find_count() -> None:
    assert filled(SPLIT.train, ["GI"]) == 6
    assert filled(SPLIT.train, ["GU"]) == 0
    assert filled(SPLIT.train, ["GU", "GI"]) == 6


@pytest.mark.parametrize(
    ("scores", "why"),
    [([1.0, 1.0, 0.95], "at its ceiling: 0.98 on validation"), ([1.0, 0.9], ""), ([0.0], ""),
     ([], "")],
)  # fmt: skip
def test_a_part_at_its_ceiling_gets_nothing_and_says_so(scores: list[float], why: str) -> None:
    halves = [Halves(score, 1) for score in scores]
    room = measured("GI", PART, halves, SIDES, EVEN, False)
    assert (room.why, room.share) == (why, 0.0 if why else 1.0)
    assert measured("GI", PART, halves, SIDES, EVEN, True).why == ""


def test_a_part_with_a_handful_of_findings_gets_nothing_and_says_so() -> None:
    rare = [case(f"train{n}", ["GI"], 4 * (n < 4)) for n in range(12)]
    few = Sides(tuple(rare), SPLIT.validation[2:3], (), ())
    low = [Halves(0.2, 1)]
    room = measured("GI", PART, low, few, EVEN, False)
    assert (room.why, room.share) == ("only 4 cases with something to find", 0.0)
    assert measured("GI", PART, low, few, EVEN, True).why == ""
    enough = Sides(tuple(rare), SPLIT.validation[:1], (), ())
    assert measured("GI", PART, low, enough, EVEN, False).why == ""


ROOMS = st.lists(
    st.builds(
        Headroom,
        st.uuids().map(str),
        st.floats(0, 1),
        st.floats(0, 0.5),
        st.just(1.0),
        st.sampled_from(["", "", "", "at its ceiling"]),
    ),
    max_size=14,
)


@given(ROOMS)
def test_shares_are_one_on_the_average_so_that_the_estimate_holds(rooms: list[Headroom]) -> None:
    searched = [room.share for room in shared_out(rooms) if not room.why]
    if searched:
        assert statistics.fmean(searched) == pytest.approx(1)
        assert min(searched) > 0


@given(ROOMS, st.floats(0, 1))
def test_shares_fit_what_the_caps_leave_room_for(rooms: list[Headroom], room: float) -> None:
    given_out = [r.share for r in shared_out(rooms, room) if not r.why]
    assert sum(given_out) <= min(room * len(rooms), len(given_out)) + 1e-9


def test_more_headroom_and_more_spread_get_more() -> None:
    low, bad, wide = (
        Headroom("low", 0.8, 0.2),
        Headroom("bad", 0.4, 0.2),
        Headroom("wide", 0.4, 0.4),
    )
    shares = {room.part: room.share for room in shared_out([low, bad, wide])}
    assert shares["low"] < shares["bad"] < shares["wide"]


def test_what_parts_without_headroom_leave_goes_to_the_others() -> None:
    rooms = [Headroom("GI", 0.5, 0.2), Headroom("GU", 1.0, 0.0, 0.0, "at its ceiling")]
    halved = shared_out(rooms, affordable=0.5)
    assert [room.share for room in halved] == [pytest.approx(1.0), 0.0]
    both = shared_out([Headroom("GI", 0.5, 0.2), Headroom("GU", 0.5, 0.2)], affordable=0.5)
    assert [room.share for room in both] == [pytest.approx(0.5)] * 2


def test_hopeless_is_what_even_the_best_of_all_candidates_would_not_gain() -> None:
    assert hopeless([0.5, 0.5], [[0.5, 0.4], [0.1, 0.5]])
    assert hopeless([0.5, 0.5], [[0.51, 0.5]])
    assert not hopeless([0.5, 0.5], [[0.6, 0.0], [0.0, 0.5]])


def test_probes_are_demonstrations_and_other_words() -> None:
    found = probes(PART, SPLIT.train)
    assert len({identity(part) for part in [PART, *found]}) == 1 + len(found) == 4
    assert len(found[0].units[""].predict.demos) == 2


@pytest.mark.parametrize(
    ("settings", "tested"),
    [({"optimizer": "mipro", "options": {"trials": 40}}, True),
     ({"optimizer": "mipro", "options": {"trials": 2}}, False),
     ({"optimizer": "mipro", "options": {"trials": 40}, "force": True}, False),
     ({"optimizer": "labeled"}, False)],
)  # fmt: skip
def test_only_a_dear_search_is_worth_a_test(settings: dict[str, Any], tested: bool) -> None:
    planned = made_plan(SPLIT, **{"force": False, **settings})
    sides = planned.sides[-1]
    assert bool(planned.tuning.probes(sides)) == tested
    if tested:
        assert planned.tuning.probes(sides) == 4 * 6
