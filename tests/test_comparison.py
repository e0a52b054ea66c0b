"""What a comparison claims: never more than the statistics show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from crb_dspy.compare.comparison import Board, Comparison, Strategy, board, compare, differing
from crb_dspy.compare.sentences import sentence
from crb_dspy.errors import UserError
from crb_dspy.stats import Floats

CATEGORIES = ("GI", "Neuro")


def strategy(label: str, scores: Floats, **metrics: float) -> Strategy:
    costs = {f"cost/{name}": value for name, value in metrics.items()}
    return Strategy(label, f"run-{label}", scores, costs)


def compared(
    gains: Mapping[str, float | Floats], *, cases: int = 30, groups: Sequence[str] = ()
) -> Comparison:
    """Compare strategies that are each by so much better than a baseline, give or take."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.6, (cases, len(CATEGORIES)))
    noise = [rng.normal(0, 0.01, base.shape) for _ in gains]
    others = [
        strategy(label, base + np.asarray(gain).reshape(-1, 1) + own - own.mean())
        for (label, gain), own in zip(gains.items(), noise, strict=True)
    ]
    names = tuple(map(str, range(cases)))
    laid = (strategy("plain", base), *others)
    return compare(Board(names, tuple(groups) or names, CATEGORIES, laid), draws=999)


def test_no_gain_is_said_in_words_with_what_would_have_shown() -> None:
    said = sentence(compared({"a": 0.0, "b": 0.0}))
    assert said.startswith("no strategy is shown to be better than plain (30 test cases; ")
    assert "would have been likely to show" in said


def test_the_largest_number_alone_wins_nothing() -> None:
    wild = np.random.default_rng(1).normal(0, 0.4, 30)
    comparison = compared({"lucky": wild - wild.mean() + 0.05})
    assert comparison.gains[0].difference.difference == pytest.approx(0.05)
    assert sentence(comparison).startswith("no strategy is shown to be better than plain")


def test_one_better_strategy_is_named_with_its_evidence() -> None:
    comparison = compared({"a": 0.0, "good": 0.08})
    found = comparison.gains[0]
    assert sentence(comparison) == (
        f"good is better than plain by +0.080 (95 % interval {found.difference.low:+.3f} to "
        f"{found.difference.high:+.3f}, Holm p = {found.holm:.2g})"
    )
    assert found.verdict == "improved"
    assert found.holm == 2 * found.difference.p


def test_several_better_ones_are_counted_and_the_best_told() -> None:
    said = sentence(compared({f"s{n}": 0.05 * n for n in range(1, 5)} | {"same": 0.0}))
    assert said.startswith("4 of 5 strategies are better than plain: s4 by +0.200 (")
    assert said.endswith("and 1 more")


def test_those_above_what_asks_no_model_are_named_if_not_all_are() -> None:
    comparison = compared({f"s{n}": 0.05 * n for n in range(1, 6)})
    scores = {s.label: s.score for s in comparison.board.strategies}

    def above(label: str) -> str:
        laid = replace(comparison.board, beside={"classifier": scores[label], "silence": 0.0})
        return sentence(replace(comparison, board=laid)).partition(". Above the classifier, ")[2]

    assert above("s3") == f"which asks no model ({scores['s3']:.3f}): s4, s5"
    assert above("plain").endswith(": s1, s2, s3, and 2 more")
    assert above("s5").endswith(": none")
    lower = replace(comparison.board, beside={"silence": 0.0})
    assert "Above" not in sentence(replace(comparison, board=lower))


def test_worse_ones_are_named_too() -> None:
    said = sentence(compared({"bad": -0.1, "same": 0.0}))
    assert said.startswith("no strategy is shown to be better")
    assert said.endswith("; bad is worse")
    assert sentence(compared({"bad": -0.1, "dire": -0.2})).endswith("; bad, dire are worse")


def test_what_is_significant_alone_may_not_be_in_a_family() -> None:
    rng = np.random.default_rng(4)
    gain = rng.normal(0.0, 1, 30)
    gain = 0.042 + 0.1 * (gain - gain.mean()) / gain.std()
    alone = compared({"a": gain})
    assert alone.gains[0].verdict == "improved"
    family = compared({"a": gain, **{f"null{n}": 0.0 for n in range(19)}})
    first = next(found for found in family.gains if found.strategy.label == "a")
    assert first.difference.low > 0
    assert first.verdict == "no gain shown"
    assert sentence(family).startswith("no strategy is shown to be better")


def test_leaders_that_are_undecided_are_named_with_what_it_takes_to_decide() -> None:
    wild = np.random.default_rng(1).uniform(-0.5, 0.5, 30)
    comparison = compared({"wild": wild - wild.mean() + 0.1, "good": 0.05, "bad": -0.1})
    first, second, _ = comparison.gains
    assert (first.strategy.label, first.verdict) == ("wild", "no gain shown")
    assert (second.strategy.label, second.verdict) == ("good", "improved")
    shown, undecided = sentence(comparison).split("; bad is worse. Ahead but undecided: ")
    assert shown.startswith("good is better than plain by +0.050 (")
    assert undecided == (
        f"wild by +0.100 (Holm p = {first.holm:.2g}; to decide, about {first.needed:.0f} cases)"
    )
    assert 30 < first.needed < 100


def test_without_a_better_one_all_that_are_ahead_are_undecided() -> None:
    wild = np.random.default_rng(1).uniform(-0.6, 0.4, (5, 30))
    wild -= wild.mean(axis=1, keepdims=True)
    gains = {f"s{n}": row + 0.01 * n for n, row in enumerate(wild, 1)}
    said = sentence(compared(gains | {"null": wild[0], "bad": -0.1}))
    assert said.startswith("no strategy is shown to be better than plain (")
    told = said.split("; bad is worse. Ahead but undecided: ")[1]
    assert [
        told.count(f"s{n} by +0.0{n}0 (Holm p = 1; to decide, about ") for n in range(3, 6)
    ] == [1, 1, 1]
    assert told.endswith(", and 2 more")
    hardly = sentence(compared({"hardly": wild[0] + 0.001}))
    assert "hardly by +0.001 (Holm p = " in hardly
    assert hardly.endswith("; to decide, more than 10,000 cases)")


def test_who_is_behind_a_better_one_is_no_leader() -> None:
    wild = np.random.default_rng(1).uniform(-0.3, 0.3, 30)
    said = sentence(compared({"wild": wild - wild.mean() + 0.04, "good": 0.05}))
    assert said.startswith("good is better than plain by +0.050 (")
    assert "undecided" not in said


def test_a_single_group_shows_nothing() -> None:
    comparison = compared({"good": 0.2}, groups=["one"] * 30)
    assert math.isnan(comparison.gains[0].difference.low)
    assert sentence(comparison) == (
        "no strategy is shown to be better than plain "
        "(30 test cases in 1 group: a single group shows nothing)"
    )


def test_equal_scores_are_ties() -> None:
    same = np.full((6, 2), 0.5)
    laid = (strategy("plain", same), strategy("twin", same.copy()))
    (gain,) = compare(Board(tuple("abcdef"), tuple("abcdef"), CATEGORIES, laid)).gains
    assert (gain.difference.wins, gain.difference.ties, gain.difference.losses) == (0, 6, 0)
    assert (gain.difference.difference, gain.holm, gain.verdict) == (0, 1, "no gain shown")


def test_the_only_run_has_nothing_to_be_compared_with() -> None:
    alone = Board(("a",), ("a",), CATEGORIES, (strategy("plain", np.ones((1, 2))),))
    with pytest.raises(UserError, match="plain is the only run"):
        compare(alone)


def test_differences_by_category_are_means_over_cases() -> None:
    base = np.zeros((4, 2))
    gains = np.array([[0.1, 0], [0.3, 0], [0.1, 0], [0.3, 0]])
    laid = (strategy("plain", base), strategy("other", base + gains))
    (gain,) = compare(Board(tuple("abcd"), tuple("abcd"), CATEGORIES, laid)).gains
    difference, margin = gain.categories["GI"]
    assert difference == pytest.approx(0.2)
    # Student's margin by hand: 3.182 (3 degrees of freedom) times 0.1155 / 2.
    assert margin == pytest.approx(3.1824 * 0.11547 / 2, rel=1e-3)
    assert gain.categories["Neuro"] == (0, 0)


def test_the_front_holds_what_none_beats_in_both() -> None:
    def at(label: str, score: float, tokens: float) -> Strategy:
        return strategy(label, np.full((3, 2), score), tokens=tokens)

    laid = (at("plain", 0.3, 10), at("dear", 0.5, 90), at("best", 0.5, 50), at("bad", 0.2, 10))
    unpriced = strategy("seed", np.full((3, 2), 0.9))
    comparison = compare(Board(tuple("abc"), tuple("abc"), CATEGORIES, (*laid, unpriced)))
    assert comparison.cost == "tokens"
    assert comparison.front == {"plain", "best"}


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"tokens": 5, "usd": 0.1}, {"tokens": 9, "usd": 0.3}, "usd"),
        ({"tokens": 5, "usd": 0.0}, {"tokens": 9, "usd": 0.0}, "tokens"),
        ({"report_tokens": 0, "usd": 1}, {"report_tokens": 9, "usd": 2}, "report_tokens"),
        ({"report_tokens": 5, "usd": 1}, {"usd": 2}, "usd"),
        (
            {"tokens": 5, "asked": 20, "calls": 2},
            {"tokens": 9, "asked": 30, "calls": 30},
            "asked",
        ),
        (
            {"tokens": 5, "asked": 20, "calls": 18, "lost": 2},
            {"tokens": 9, "asked": 30, "calls": 30, "lost": 0},
            "tokens",
        ),
    ],
)
def test_costs_are_what_all_runs_know_and_the_cache_did_not_hide(
    first: dict[str, float], second: dict[str, float], chosen: str
) -> None:
    laid = (
        strategy("plain", np.zeros((3, 2)), **first),
        strategy("other", np.ones((3, 2)), **second),
    )
    assert compare(Board(tuple("abc"), tuple("abc"), CATEGORIES, laid)).cost == chosen


def test_cells_are_laid_out_by_case_and_category_whatever_their_order() -> None:
    cells = {("a", "GI"): 0.1, ("a", "Neuro"): 0.2, ("b", "GI"): 0.3, ("b", "Neuro"): 0.4}
    empty = np.empty((0, 0))
    turned = {key: value + 0.5 for key, value in reversed(cells.items())}
    laid = board(
        [(strategy("plain", empty), cells), (strategy("other", empty), turned)],
        {"a": "family", "b": "b"},
    )
    assert (laid.cases, laid.categories, laid.groups) == (("a", "b"), CATEGORIES, ("family", "b"))
    np.testing.assert_allclose(laid.strategies[1].scores, [[0.6, 0.7], [0.8, 0.9]])


def test_other_cells_are_refused_with_what_differs() -> None:
    empty = np.empty((0, 0))
    cells = {("a", "GI"): 0.1, ("b", "GI"): 0.3}
    for other, message in (
        ({("a", "GI"): 0.1}, "b and plain differ: 1 test cases, not 2 (such as b)"),
        (
            {("a", "GU"): 0.1, ("b", "GI"): 0.1},
            "b and plain differ: 2 test categories, not 1 (such as GU)",
        ),
    ):
        with pytest.raises(UserError) as caught:
            board([(strategy("plain", empty), cells), (strategy("b", empty), other)], {})
        assert str(caught.value) == message


def test_runs_on_other_data_differ_in_words() -> None:
    same = {"benchmark": "x", "data_fingerprint": "d", "split_fingerprint": "s", "categories": "2"}
    assert differing(same, same) == ""
    other = same | {"split_fingerprint": "t", "categories": "14"}
    assert differing(other, same) == "split_fingerprint t, not s, categories 14, not 2"
    assert "data_fingerprint unknown, not d" in differing({}, same)


SIZES = (1, 2, 3)


def null(rng: np.random.Generator, strategies: int, groups: int, noise: float) -> Board:
    """Strategies that are as good as the baseline, whose own noise is `noise` of theirs.

    Cases of a group go up and down together; groups have one to three cases.
    """
    labels = [str(group) for group in range(groups) for _ in range(SIZES[group % len(SIZES)])]
    where = np.array([int(label) for label in labels])
    hard = rng.uniform(0.2, 0.8, (len(labels), 1))

    def scores(spread: float) -> Floats:
        shared = rng.normal(0, 0.1 * spread, (groups, len(CATEGORIES)))[where]
        return np.asarray(hard + shared + rng.normal(0, 0.15 * spread, shared.shape))

    laid = [strategy("plain", scores(noise))]
    laid += [strategy(str(number), scores(1)) for number in range(strategies)]
    return Board(tuple(map(str, range(len(labels)))), tuple(labels), CATEGORIES, tuple(laid))


def rates(noise: float, trials: int = 4000, strategies: int = 4) -> tuple[float, float]:
    """Return how often intervals cover the truth, and how often anything is called different."""
    rng, covered, wrong = np.random.default_rng(0), 0, 0
    for seed in range(trials):
        # (draws + 1) x 0.05 / strategies is a whole number: no level is lost to rounding.
        gains = compare(null(rng, strategies, 40, noise), draws=399, seed=seed).gains
        covered += sum(gain.difference.low <= 0 <= gain.difference.high for gain in gains)
        wrong += any(gain.holm <= 0.05 for gain in gains)
    return covered / trials / strategies, wrong / trials


def test_intervals_cover_and_holm_holds_its_level_without_a_difference() -> None:
    coverage, wrong = rates(noise=0.3)
    assert abs(coverage - 0.95) <= 0.01
    assert abs(wrong - 0.05) <= 0.01


def test_a_noisy_baseline_that_all_share_makes_no_more_false_claims() -> None:
    coverage, wrong = rates(noise=1.0, trials=2000)
    assert abs(coverage - 0.95) <= 0.01
    assert wrong <= 0.06
