"""Intervals cover, tests hold their level, and both count groups rather than cells."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from crb_dspy import stats
from crb_dspy.stats import Difference, Floats, Halves, paired_difference, resampling
from crb_dspy.stats.harmonic import _harmonic_gain

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
    assert floor - allowance(floor, trials) < hits / trials
    # Three groups rule out nothing at 95 %: one split in four is as extreme as any.
    assert hits == trials if groups == 3 else hits / trials < 0.98 + allowance(0.98, trials)


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
    monkeypatch.setattr(resampling, "_BLOCK", 70)
    blocks = resampling.resamples(20, 10, 0)
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    assert all((block.sum(axis=1) == 20).all() for block in blocks)
    assert [len(block) for block in resampling.splittings(20, 10, 0)] == [3, 3, 3, 1]


def test_few_groups_are_split_in_every_way_once() -> None:
    (ways,) = resampling.splittings(4, 10_000, 0)
    assert len({tuple(way) for way in ways} | {tuple(1 - way) for way in ways}) == 2**4 - 2
    sampled = np.concatenate(resampling.splittings(4, 15, 0))
    assert len(sampled) == 15
    assert set(sampled.sum(axis=1)) <= {1, 2, 3}


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
    truth = error * float(student.ppf(0.975, groups - 1) + student.ppf(0.8, groups - 1))
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


def test_one_outlier_does_not_hide_ten_wins_to_none() -> None:
    """Like what was seen on real scores: +0.207, sure by its p, with 0 in a symmetric interval."""
    gain = np.array([0.08, 0.1, 0.12, 0.1, 0.14, 0.12, 0.14, 0.12, 0.15, 1.0])
    found = paired_difference(0 * gain, gain, range(10))
    assert (found.wins, found.losses, round(found.difference, 3)) == (10, 0, 0.207)
    # Sign flips alone: 2 / 2^10, and 0.012 by Holm over six.
    corrected = stats.holm([found.p, *[0.5] * 5])[0]
    assert 0.0117 < corrected < 0.02
    assert stats.verdict(replace(found, p=corrected)) == "improved"
    assert 0.08 < found.low < found.difference < found.high < 1


scores = st.floats(0, 1, allow_subnormal=False) | st.sampled_from([0.0, 0.5, 1.0])
cases = st.lists(st.tuples(scores, scores, st.integers(0, 12)), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(cases, st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_interval_and_p_never_disagree_and_stay_in_what_is_possible(
    pairs: list[tuple[float, float, int]], level: float
) -> None:
    before, after, groups = zip(*pairs, strict=True)
    found = paired_difference(before, after, groups, draws=200, level=level)
    if found.groups < 2:
        assert math.isnan(found.low) and found.p == 1
        return
    assert -1 <= found.low <= found.difference + 1e-12
    assert found.difference - 1e-12 <= found.high <= 1
    assert (found.p <= 1 - level + 1e-12) == (not found.low <= 0 <= found.high)
    swapped = paired_difference(after, before, groups, draws=200, level=level)
    assert swapped.difference == pytest.approx(-found.difference)
    assert swapped.p == pytest.approx(found.p, abs=0.011)
    interval = stats.mean_interval(after, groups, draws=200, level=level)
    assert 0 <= interval.low <= interval.mean + 1e-12
    assert interval.mean - 1e-12 <= interval.high <= 1


def test_bounds_are_those_of_the_scores_and_widened_by_what_lies_beyond() -> None:
    few = paired_difference([0.2, 0.3, 0.4], [0.3, 0.5, 0.9], "abc")
    assert (few.low, few.high) == (-1, 1)
    percent = paired_difference([20, 30, 40], [30, 50, 90], "abc", bounds=(0, 100))
    assert (percent.low, percent.high) == (-100, 100)
    assert paired_difference([20, 30, 40], [30, 50, 90], "abc").high == 50
    assert stats.mean_interval([0.2, 0.9, 1.0], "abc").high == 1
    assert stats.mean_interval([0.2, 0.9, 1.0], "abc", bounds=(-1, 2)).low == -1


@pytest.mark.parametrize("groups", [10, 20, 40])
def test_intervals_of_scores_at_their_ceiling_cover(groups: int) -> None:
    rng, hits, trials = np.random.default_rng(groups), 0, 500
    every = np.clip(rng.normal(0.95, 0.2, 200_000), 0, 1).mean()
    for seed in range(trials):
        values = np.clip(rng.normal(0.95, 0.2, groups), 0, 1)
        interval = stats.mean_interval(values, range(groups), draws=400, seed=seed)
        hits += interval.low <= every <= interval.high
    floor = 0.93 if groups == 10 else 0.94
    assert hits / trials > floor - allowance(floor, trials)


def test_cases_needed_are_enough_and_no_more() -> None:
    rng, trials = np.random.default_rng(11), 300
    pilot = rng.normal(0.05, 0.15, 40)
    found = paired_difference(0 * pilot, pilot, range(40))
    needed = stats.cases_needed(found)
    spread = found.error * math.sqrt(40)
    shown = 0
    for seed in range(trials):
        gain = rng.normal(found.difference, spread, int(needed))
        shown += paired_difference(0 * gain, gain, range(len(gain)), draws=400, seed=seed).p <= 0.05
    assert abs(shown / trials - 0.8) < 0.04 + allowance(0.8, trials)
    assert stats.cases_needed(found, alpha=0.001) > needed
    assert stats.detectable(replace(found, groups=int(needed))) > 0


def test_cases_needed_count_whole_groups_and_never_less_than_a_test_takes() -> None:
    sure = paired_difference([0.1] * 6, [0.9, 0.9, 0.8, 0.9, 0.9, 0.8], "aabbcc")
    # Six groups of two: five can't have p <= 0.05.
    assert stats.cases_needed(sure) == 12
    assert stats.cases_needed(paired_difference([0.1, 0.2], [0.1, 0.2], "ab")) == math.inf
    assert math.isnan(stats.cases_needed(paired_difference([0.1, 0.2], [0.3, 0.2], "aa")))
    assert math.isnan(stats.detectable(paired_difference([0.1], [0.3], "a")))


def halves(rng: np.random.Generator, size: int, f1: float, left: float) -> Halves:
    """A system on cells of which some have gold; the first number decides how many."""
    gold = np.random.default_rng(size).binomial(CELLS, 0.5, size)
    found = rng.beta(2 * f1 * CELLS / 2, 2 * (1 - f1) * CELLS / 2, size) * gold
    return Halves(found, gold, rng.binomial(CELLS - gold, left), CELLS - gold)


def test_harmonic_mean_by_hand() -> None:
    found = stats.harmonic_mean(
        Halves([1, 0, 2, 0, 3, 0], [2, 2, 4, 0, 4, 0], [2, 3, 0, 3, 0, 0], [4, 3, 0, 4, 2, 0])
    )
    assert found.tolist() == [0.5, 0, 0.5, 0.75, 0, 0]
    assert stats.harmonic_mean(Halves(1, 2, 1, 4))[0] == pytest.approx(1 / 3)


def test_harmonic_difference_is_that_of_all_cells_not_a_mean_over_cases() -> None:
    before = Halves([1, 0, 0.5], [2, 1, 1], [2, 1, 0], [2, 4, 3])
    after = Halves([2, 0, 0.5], [2, 1, 1], [1, 3, 2], [2, 4, 3])
    found = stats.harmonic_difference(before, after, "abc")
    totals = [stats.harmonic_mean(Halves(*map(np.sum, each)))[0] for each in (before, after)]
    assert found.difference == pytest.approx(totals[1] - totals[0])
    assert (found.wins, found.ties, found.losses) == (1, 2, 0)
    assert (found.cases, found.groups) == (3, 3)
    single = stats.harmonic_interval(after, "abc")
    assert single.mean == pytest.approx(totals[1])
    assert 0 <= single.low <= single.mean <= single.high <= 1


def _tests(before: Halves, after: Halves) -> tuple[Floats, ...]:
    sums = np.column_stack([*after, *before]).astype(np.float64)
    swapped, sizes = np.roll(sums, 4, axis=1), np.ones(len(sums))
    return resampling.curve(
        sums, _harmonic_gain, draws=10_000, seed=0, swapped=swapped, sizes=sizes
    ).tests


def test_harmonic_p_of_few_groups_is_the_permutation_of_labels() -> None:
    rng = np.random.default_rng(3)
    before, after = halves(rng, 8, 0.4, 0.6), halves(rng, 8, 0.6, 0.8)
    found = stats.harmonic_difference(before, after, range(8))
    seen, extreme = abs(found.difference), 0
    for swap in range(2**8):
        mask = np.array([swap >> place & 1 for place in range(8)], bool)
        pairs = list(zip(map(np.asarray, before), map(np.asarray, after), strict=True))
        sides = [Halves(*(np.where(m, a, b).sum() for b, a in pairs)) for m in (mask, ~mask)]
        one, other = (stats.harmonic_mean(side)[0] for side in sides)
        extreme += abs(one - other) >= seen - 1e-12
    assert found.p >= extreme / 2**8
    split, _ = _tests(before, after)
    assert resampling.Curve(found.difference, 0, (split,)).p() == extreme / 2**8


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.lists(scores, min_size=4, max_size=4),
                  st.integers(0, 8)),
        min_size=1, max_size=20,
    ),
    st.sampled_from([0.8, 0.95]),
)  # fmt: skip
def test_harmonic_interval_and_p_never_disagree(
    rows: list[tuple[int, int, list[float], int]], level: float
) -> None:
    gold, empty = [row[0] for row in rows], [row[1] for row in rows]
    shares = np.array([row[2] for row in rows]).T
    groups = [row[3] for row in rows]
    before = Halves(shares[0] * gold, gold, shares[1] * empty, empty)
    after = Halves(shares[2] * gold, gold, shares[3] * empty, empty)
    found = stats.harmonic_difference(before, after, groups, draws=200, level=level)
    single = stats.harmonic_interval(after, groups, draws=200, level=level)
    if found.groups < 2:
        assert found.p == 1 and math.isnan(found.low) and math.isnan(single.low)
        return
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert (found.p <= 1 - level + 1e-12) == (not found.low <= 0 <= found.high)
    assert 0 <= single.low <= single.mean + 1e-12
    assert single.mean - 1e-12 <= single.high <= 1


def test_harmonic_of_one_kind_of_cell_is_the_mean_over_cells() -> None:
    rng = np.random.default_rng(4)
    none, before, after = np.zeros(30), rng.uniform(0, 0.7, 30), rng.uniform(0.1, 0.9, 30)
    ones, groups = np.ones(30), [n // 2 for n in range(30)]
    expected = paired_difference(before, after, groups)
    for one, other in (
        (Halves(before, ones, none, none), Halves(after, ones, none, none)),
        (Halves(none, none, before, ones), Halves(none, none, after, ones)),
    ):
        found = stats.harmonic_difference(one, other, groups)
        assert found.difference == pytest.approx(expected.difference)
        assert (found.low, found.high, found.p) == pytest.approx(
            (expected.low, expected.high, expected.p), abs=1e-6
        )
        assert found.error == pytest.approx(expected.error)
        assert (found.wins, found.losses) == (expected.wins, expected.losses)


@pytest.mark.parametrize(
    ("groups", "low", "high"),
    [
        (20, (0.4, 0.6), (0.55, 0.8)),
        (40, (0.3, 0.03), (0.3, 0.3)),
        (40, (0.05, 0.95), (0.2, 0.9)),
        (138, (0.3, 0.5), (0.5, 0.3)),
    ],
)
def test_harmonic_intervals_cover(
    groups: int, low: tuple[float, float], high: tuple[float, float]
) -> None:
    rng, trials, hits, single = np.random.default_rng(groups), 250, 0, 0
    truth = [2 * a * b / (a + b) for a, b in (low, high)]
    for seed in range(trials):
        before, after = halves(rng, groups, *low), halves(rng, groups, *high)
        found = stats.harmonic_difference(before, after, range(groups), draws=400, seed=seed)
        hits += found.low <= truth[1] - truth[0] <= found.high
        own = stats.harmonic_interval(before, range(groups), draws=400, seed=seed)
        single += own.low <= truth[0] <= own.high
    assert hits / trials > 0.94 - allowance(0.94, trials)
    assert single / trials > 0.94 - allowance(0.94, trials)


def test_systems_that_are_equally_good_are_rarely_told_apart_by_the_harmonic_mean() -> None:
    rng, trials, wrong = np.random.default_rng(5), 400, 0
    same = halves(rng, 12, 0.4, 0.6)
    found = stats.harmonic_difference(same, same, range(12))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    for seed in range(trials):
        one, other = halves(rng, 12, 0.4, 0.6), halves(rng, 12, 0.4, 0.6)
        wrong += stats.harmonic_difference(one, other, range(12), draws=399, seed=seed).p <= 0.05
    assert 0 < wrong / trials < 0.05 + allowance(0.05, trials)


def test_groups_that_weigh_nothing_in_the_harmonic_mean_rule_out_nothing() -> None:
    """Neither system finds anything: empty cells, whatever is left empty, make no difference."""
    gold = np.array([2, 0, 2, 0, 1, 1, 1, 1])
    before = Halves(0 * gold, gold, [1, 0, 1, 1, 0, 1, 1, 0], np.ones(8))
    after = Halves(0 * gold, gold, np.ones(8), np.ones(8))
    found = stats.harmonic_difference(before, after, range(8))
    assert (found.difference, found.p) == (0, 1)
    assert found.low <= 0 <= found.high
    better = stats.harmonic_difference(before, after._replace(sum_a=gold / 2), range(8))
    assert stats.verdict(better) == "improved"


def test_cases_without_cells_do_not_count_and_lengths_must_agree() -> None:
    two = Halves([1, 0, 0], [2, 0, 1], [1, 0, 1], [1, 0, 1])
    assert stats.harmonic_interval(two, "abc").cases == 2
    with pytest.raises(ValueError, match="group labels"):
        stats.harmonic_difference(two, two, "ab")
    assert math.isnan(stats.harmonic_interval(Halves([], [], [], []), []).mean)
