"""Intervals cover, tests hold their level, and both count groups rather than cells."""

import math
import random

import numpy as np
import pytest

from crb_dspy import stats
from crb_dspy.stats import Difference, Floats, paired_difference

CELLS = 14


def labels(groups: int) -> list[int]:
    return [group for group in range(groups) for _ in range(CELLS)]


def correlated(rng: np.random.Generator, groups: int, truth: float = 0.0) -> Floats:
    """Differences of mean `truth` of which half the variance is shared within a group."""
    shared = np.repeat(rng.normal(0, 1, groups), CELLS)
    return truth + shared + rng.normal(0, 1, groups * CELLS)


def skewed(rng: np.random.Generator, groups: int) -> Floats:
    """Non-negative differences of mean 1.5, of which a part is shared within a group."""
    shared = np.repeat(rng.exponential(0.5, groups), CELLS)
    return shared + rng.exponential(1, groups * CELLS)


def allowance(expected: float, trials: int) -> float:
    """Three binomial standard errors."""
    return 3 * math.sqrt(expected * (1 - expected) / trials)


@pytest.mark.parametrize(("groups", "trials"), [(3, 600), (10, 600), (20, 600), (40, 600)])
def test_interval_covers_the_mean_of_clustered_data(groups: int, trials: int) -> None:
    rng, hits = np.random.default_rng(groups), 0
    for seed in range(trials):
        values = correlated(rng, groups)
        interval = stats.mean_interval(values, labels(groups), draws=400, seed=seed)
        hits += interval.low <= 0 <= interval.high
    floor = 0.93 if groups == 10 else 0.94
    assert floor - allowance(floor, trials) < hits / trials < 0.98 + allowance(0.98, trials)


def test_interval_covers_the_mean_of_skewed_data() -> None:
    rng, hits, trials = np.random.default_rng(1), 0, 600
    for seed in range(trials):
        interval = stats.mean_interval(skewed(rng, 40), labels(40), draws=400, seed=seed)
        hits += interval.low <= 1.5 <= interval.high
    assert hits / trials > 0.94 - allowance(0.94, trials)


def test_cells_taken_for_independent_would_be_far_too_sure() -> None:
    rng, clustered, naive, trials = np.random.default_rng(2), 0, 0, 400
    for seed in range(trials):
        values = correlated(rng, 30)
        by_group = stats.mean_interval(values, labels(30), draws=300, seed=seed)
        by_cell = stats.mean_interval(values, range(len(values)), draws=300, seed=seed)
        clustered += by_group.low <= 0 <= by_group.high
        naive += by_cell.low <= 0 <= by_cell.high
    assert clustered / trials > 0.94 - allowance(0.94, trials)
    assert naive / trials < 0.7


@pytest.mark.parametrize("groups", [8, 25])
def test_p_is_rarely_small_without_a_difference(groups: int) -> None:
    rng, found, trials = np.random.default_rng(groups), 0, 800
    for seed in range(trials):
        gain = correlated(rng, groups)
        found += paired_difference(0 * gain, gain, labels(groups), draws=300, seed=seed).p <= 0.05
    assert abs(found / trials - 0.05) < allowance(0.05, trials)


def test_p_is_exact_for_few_groups() -> None:
    by_hand = paired_difference([0, 0, 0], [1, 2, 3], "abc")
    assert by_hand.p == 2 / 8
    assert by_hand.difference == 2
    assert paired_difference([0, 0, 0], [1, -2, 3], "abc").p == 6 / 8


def test_sampled_p_agrees_with_the_exact_one() -> None:
    gain = np.random.default_rng(3).normal(0.6, 1, 12)
    exact = paired_difference(0 * gain, gain, range(12), draws=4096)
    sampled = paired_difference(0 * gain, gain, range(12), draws=4095)
    assert sampled.p == pytest.approx(exact.p, abs=3 * math.sqrt(exact.p / 4095))


def test_difference_is_a_mean_over_cells_with_their_wins() -> None:
    result = paired_difference([1, 1, 1, 1], [2, 3, 1, 0], ["a", "a", "a", "b"], level=0.9)
    assert result.difference == 0.5
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert (result.cases, result.groups, result.level) == (4, 2, 0.9)
    assert result.low < result.difference < result.high


def test_interval_agrees_with_students_for_many_even_groups() -> None:
    values = np.random.default_rng(4).normal(0, 1, 400)
    interval = stats.mean_interval(values, range(400))
    classic = 1.966 * values.std(ddof=1) / 20
    assert interval.high - interval.mean == pytest.approx(classic, rel=0.03)


def test_students_quantiles() -> None:
    known = {(0.975, 1): 12.7062, (0.975, 2): 4.30265, (0.975, 9): 2.26216, (0.8, 4): 0.940965}
    for (probability, freedom), quantile in known.items():
        assert stats._student(probability, freedom) == pytest.approx(quantile, rel=1e-4)
    assert stats._student(0.975, 2000) == pytest.approx(1.96115, rel=1e-4)


def test_nothing_to_resample_gives_no_interval() -> None:
    empty, single = paired_difference([], [], []), paired_difference([1, 2], [2, 4], "aa")
    assert math.isnan(empty.difference) and math.isnan(empty.low) and empty.p == 1
    assert single.difference == 1.5 and math.isnan(single.high) and single.p == 1
    assert math.isnan(stats.mean_interval([], []).mean)


def test_identical_systems_differ_by_exactly_nothing() -> None:
    scores = np.random.default_rng(5).uniform(0, 100, 10 * CELLS)
    result = paired_difference(scores, scores, labels(10))
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)
    assert result.ties == result.cases == 140


def test_a_constant_gain_has_an_interval_of_no_width() -> None:
    result = paired_difference([0.5] * 20, [1.5] * 20, range(20))
    assert (result.difference, result.low, result.high) == (1, 1, 1)
    assert result.p < 0.001


def test_undefined_pairs_do_not_count() -> None:
    nan = math.nan
    some = paired_difference([0, 1, nan, 3], [1, nan, 2, 5], ["a", "b", "c", "d"])
    assert some == paired_difference([0, 3], [1, 5], ["a", "d"])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="baseline"):
        paired_difference([1, 2], [1], "ab")
    with pytest.raises(ValueError, match="group labels"):
        paired_difference([1, 2], [1, 2], "a")


def test_the_seed_decides_and_the_order_of_cells_does_not() -> None:
    gain = correlated(np.random.default_rng(6), 20, 0.4)
    first = paired_difference(0 * gain, gain, labels(20), draws=500)
    assert first == paired_difference(0 * gain, gain, labels(20), draws=500)
    other = paired_difference(0 * gain, gain, labels(20), draws=500, seed=1)
    assert (first.low, first.p) != (other.low, other.p)
    named = [f"case {group}" for group in labels(20)]
    assert first == paired_difference(0 * gain, gain, named, draws=500)


def test_blocks_of_draws_are_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_BLOCK", 70)
    blocks = list(stats._resamples(20, 10, 0))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    assert all((block.sum(axis=1) == 20).all() for block in blocks)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.9, 0.6]) == [1, 1, 1]
    assert stats.holm([0.02]) == [0.02] and stats.holm([]) == []


def test_holm_is_monotone_and_never_below_p() -> None:
    rng = random.Random(7)
    for _ in range(100):
        p = [rng.random() ** 3 for _ in range(rng.randint(1, 9))]
        adjusted = stats.holm(p)
        assert all(raw <= value <= 1 for raw, value in zip(p, adjusted, strict=True))
        ranked = [adjusted[i] for i in sorted(range(len(p)), key=p.__getitem__)]
        assert ranked == sorted(ranked)


def test_minimum_detectable_difference_is_found_as_often_as_promised() -> None:
    rng, found, trials, groups = np.random.default_rng(8), 0, 400, 20
    error = math.sqrt((1 + 1 / CELLS) / groups)
    truth = error * (stats._student(0.975, groups - 1) + stats._student(0.8, groups - 1))
    for seed in range(trials):
        gain = correlated(rng, groups, truth)
        found += paired_difference(0 * gain, gain, labels(groups), draws=400, seed=seed).p <= 0.05
    assert abs(found / trials - 0.8) < allowance(0.8, trials)
    sizes = [stats.minimum_detectable(correlated(rng, 40), labels(40)) for _ in range(50)]
    assert np.mean(sizes) == pytest.approx(truth / math.sqrt(2), rel=0.1)
    assert math.isnan(stats.minimum_detectable([1, 2], "aa"))


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.1, 0.9, 0.01, "improved"),
        (-0.9, -0.1, 0.01, "worse"),
        (-0.1, 0.9, 0.04, "no gain shown"),
        (0.1, 0.9, 0.25, "no gain shown"),
        (math.nan, math.nan, 1.0, "no gain shown"),
    ],
)
def test_verdict_needs_interval_and_p(low: float, high: float, p: float, expected: str) -> None:
    assert stats.verdict(Difference(0.5, low, high, p, 9, 9, 5, 2, 2)) == expected
