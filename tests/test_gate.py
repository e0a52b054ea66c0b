"""The gate takes what fresh cases show to be better, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from crb_dspy.data.cases import Case
from crb_dspy.program import Part, Tunable
from crb_dspy.tuning.gate import (
    ALL,
    IMPROVED,
    LOOSEST,
    NO_GAIN,
    TAKEN,
    WORSE,
    Verdict,
    confirmed,
    judged,
)
from tests.made_search import FULL, case

CASES = [case(f"validation{n}", ["GI"]) for n in range(10)]
LOW = [0.2, 0.3, 0.1, 0.4, 0.2, 0.3, 0.2, 0.1, 0.3, 0.2]
HIGH = [score + 0.3 + 0.01 * n for n, score in enumerate(LOW)]


def verdict(before: list[float], after: list[float], alpha: float = 0.1) -> Verdict:
    return judged("GI", CASES[: len(before)], before, after, alpha)


@pytest.mark.parametrize(
    ("before", "after", "outcome", "kept"),
    [(LOW, HIGH, IMPROVED, True), (HIGH, LOW, WORSE, False), (LOW, LOW, NO_GAIN, False),
     (LOW, LOW[::-1], NO_GAIN, False)],
)  # fmt: skip
def test_the_three_outcomes(
    before: list[float], after: list[float], outcome: str, kept: bool
) -> None:
    found = verdict(before, after)
    assert (found.outcome, found.kept) == (outcome, kept)
    assert found.difference is not None
    assert found.difference.difference == pytest.approx(sum(after) / 10 - sum(before) / 10)
    assert "on 10 fresh cases, 80 % interval" in str(found)


@pytest.mark.parametrize(("size", "outcome"), [(1, NO_GAIN), (3, NO_GAIN), (4, IMPROVED)])
def test_under_four_groups_nothing_is_shown(size: int, outcome: str) -> None:
    found = verdict(LOW[:size], HIGH[:size])
    assert found.outcome == outcome
    assert ("too few" in found.why) == (size < 4)


def test_cases_of_one_group_are_one_piece_of_evidence() -> None:
    family: list[Case] = [replace(c, group="one family") for c in CASES]
    assert judged("GI", family, LOW, HIGH, 0.1).outcome == NO_GAIN


def test_a_part_that_is_no_better_passes_about_as_often_as_alpha_says() -> None:
    draw = random.Random(0)
    passed = 0
    for _ in range(300):
        before = [draw.random() for _ in CASES]
        after = [draw.random() for _ in CASES]
        passed += verdict(before, after).kept
    assert 0 < passed / 300 <= 0.14


def test_a_stricter_alpha_takes_less() -> None:
    after = [score + (0.3 if n < 8 else -0.1) for n, score in enumerate(LOW)]
    assert verdict(LOW, after, 0.1).kept
    assert not verdict(LOW, after, 0.001).kept


def test_all_changed_parts_are_judged_together_too_and_that_decides_nothing() -> None:
    keys = ("GI", "GU", "CVS")
    seeds = {key: Part(FULL.select([key]).categories) for key in keys}
    changed = {key: seeds[key].with_instruction("Other.") for key in ("GI", "GU")}
    noise = [0.6, -0.6] * (len(CASES) // 2)
    gains = {"GI": [0.15 + x for x in noise], "GU": [0.15 - x for x in noise]}

    def score(parts: Mapping[str, Tunable], cases: Sequence[Case]) -> dict[str, list[float]]:
        seed = [0.3] * len(cases)
        after = {f"{key}/1": [0.3 + x for x in gains[key]] for key in changed}
        return {**{f"{key}/0": seed for key in changed}, **after}

    verdicts, together = confirmed(seeds, changed, CASES, 0.02, score)
    assert [verdict.kept for verdict in verdicts.values()] == [False, False]
    assert together is not None
    assert together.outcome == IMPROVED
    assert together.difference is not None
    # A third of the objective is a part that did not change.
    assert together.difference.difference == pytest.approx(0.1)
    # Few cases show more over all parts than for each: the way to take them is told.
    assert str(together).endswith(f"({ALL})")
    taken, same = confirmed(seeds, changed, CASES, LOOSEST, score)
    assert [verdict.outcome for verdict in taken.values()] == [TAKEN, TAKEN]
    assert same is not None
    assert (same.outcome, same.why) == (IMPROVED, "")
    del changed["GU"]
    assert confirmed(seeds, changed, CASES, 0.02, score)[1] is None


def test_what_a_loose_gate_takes_is_not_called_better() -> None:
    noisy = [0.7 if n % 2 else 0.0 for n in range(10)]
    loose = verdict(LOW, noisy, LOOSEST)
    assert (loose.outcome, loose.kept) == (TAKEN, True)
    assert "80 % interval -" in str(loose)
    assert verdict(LOW, noisy).outcome == NO_GAIN
    assert verdict(noisy, LOW, LOOSEST).outcome == NO_GAIN
    assert verdict(LOW, HIGH, LOOSEST).outcome == IMPROVED
    assert verdict(HIGH, LOW, LOOSEST).outcome == WORSE


def test_the_loosest_gate_asks_only_for_a_gain() -> None:
    draw = random.Random(0)
    for _ in range(100):
        before, after = ([draw.random() for _ in CASES] for _ in range(2))
        found = verdict(before, after, LOOSEST)
        assert found.difference is not None
        # An interval of 2 % is not quite nothing.
        assert abs(found.difference.difference) < 0.01 or found.kept == (sum(after) > sum(before))


def test_what_was_not_judged_says_why() -> None:
    assert str(Verdict("GI", "not searched", "at its ceiling")) == "not searched (at its ceiling)"
    assert Verdict("GI", "taken", "no gate").kept
    assert not Verdict("GI", "not searched").kept
