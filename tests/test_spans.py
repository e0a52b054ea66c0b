"""Precision, recall and F1 over tokens and quotes: examples by hand, and laws."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.data.cases import Case
from crb_dspy.scoring.spans import MEASURES, RATIOS, SETS, averaged, count, pooled
from crb_dspy.scoring.table import score
from tests.test_coverage import cells as repeated
from tests.test_objective import cells as distinct

REPORT = (
    "A boy of 3 years had fever of 39 °C and cough. There was no rash. He denied joint pain. "
    "The liver was large, the spleen was normal. Later the cough was dry and the fever was gone."
)
Cell = tuple[str, list[str], list[str]]
# Reports whose words stand once each, and reports of few words that stand everywhere.
CELLS = st.one_of(distinct(), repeated())


def micro(*cells: tuple[Sequence[str], Sequence[str]], text: str = REPORT) -> dict[str, float]:
    return pooled([count(text, gold, predicted) for gold, predicted in cells])


def own(cell: Cell) -> dict[str, float]:
    return pooled([count(*cell)])


def ratios(metrics: dict[str, float], measure: str, kept: str = "") -> list[float]:
    return [metrics[f"{measure}_{ratio}_micro{kept}"] for ratio in RATIOS]


def at_most(less: float, more: float) -> bool:
    """Say that a metric did not rise; one that is undefined did not."""
    return math.isnan(more) or less <= more + 1e-12


@pytest.mark.parametrize(
    ("gold", "predicted", "exact", "overlap"),
    [
        # Named as by the shared tasks on clinical concepts: exact and inexact spans.
        (["fever of 39 °C"], ["fever of 39 °C"], 1, 1),
        (["fever of 39 °C"], ["fever"], 0, 1),
        (["fever of 39 °C"], ["had fever of 39 °C and"], 0, 1),
        (["fever of 39 °C"], ["cough"], 0, 0),
        (["liver was large"], ["the spleen was normal"], 0, 0),
        # A mark at the end is no part of a span; a function word is.
        (["no rash"], ["no rash."], 1, 1),
        (["no rash"], ["was no rash"], 0, 1),
        # One for one: a long quote finds one of two, and of two halves one is right.
        (["fever of 39 °C", "cough"], ["fever of 39 °C and cough"], 0, 1),
        (["fever of 39 °C and cough"], ["fever of 39 °C", "and cough"], 0, 1),
        # Whoever could have either leaves it to the one that can have one only.
        (["joint pain", "denied joint pain"], ["denied", "joint pain"], 1, 2),
        # What stands twice is met at either place, and is one quote.
        (["cough"], ["the cough"], 0, 1),
        (["cough"], ["cough", "Cough"], 1, 1),
        (["the cough was dry"], ["cough"], 0, 1),
        # What is not in the report is found only by itself.
        (["purple spots", "cough"], ["purple spots", "cough"], 2, 2),
        (["purple spots"], ["purple spot"], 0, 0),
        (["cough"], ["purple spots"], 0, 0),
    ],
)
def test_quotes_are_found_one_for_one(
    gold: list[str], predicted: list[str], exact: int, overlap: int
) -> None:
    metrics = micro((gold, predicted))
    assert metrics["quote_exact_found"] == exact
    assert metrics["quote_overlap_found"] == overlap
    assert metrics["quote_gold"] == len(gold)


def test_tokens_are_content_words() -> None:
    metrics = micro((["fever of 39 °C", "no rash"], ["fever", "rash", "dry", "purple spots"]))
    assert (metrics["token_gold"], metrics["token_predicted"], metrics["token_found"]) == (5, 5, 2)
    assert ratios(metrics, "token") == [2 / 5, 2 / 5, 2 / 5]


def test_pooling_is_over_counts_and_not_over_means() -> None:
    metrics = micro((["cough"], ["cough"]), ([], ["no rash", "liver"]), (["no rash"], []))
    assert ratios(metrics, "quote_exact") == [1 / 3, 1 / 2, 2 / 5]


def test_negative_findings_are_left_out_of_gold_and_prediction() -> None:
    cell = (["no rash", "denied joint pain", "cough"], ["no rash", "joint pain", "cough"])
    metrics = micro(cell)
    assert ratios(metrics, "quote_exact") == [2 / 3, 2 / 3, 2 / 3]
    # The finding without its negation is a finding, and wrong.
    assert ratios(metrics, "quote_exact", "_positive") == [1 / 2, 1, 2 / 3]
    assert ratios(metrics, "token", "_positive") == [1 / 3, 1, 1 / 2]
    assert metrics["quote_gold_positive"] == 1
    assert micro((["no wounds"], []))["quote_gold_positive"] == 0


def test_a_passage_with_a_negation_in_it_is_no_negative_finding() -> None:
    passage = "A boy of 3 years had fever of 39 °C and cough. There was no rash."
    assert (
        micro(([passage, "There was no rash. He denied joint pain."], []))["quote_gold_positive"]
        == 1
    )
    assert micro((["rash", "no"], []))["quote_gold_positive"] == 2


def test_macro_is_over_the_categories_that_occur() -> None:
    right, wrong, missed = (
        count(REPORT, gold, predicted)
        for gold, predicted in ((["cough"], ["cough"]), ([], ["liver"]), (["no rash"], []))
    )
    metrics = averaged([[right], [wrong], [missed], [count(REPORT, [], [])]])
    assert [metrics[f"quote_exact_{ratio}_macro"] for ratio in RATIOS] == [1 / 3, 1 / 3, 1 / 3]
    # Without its one negative finding the third does not occur.
    assert metrics["quote_exact_recall_macro_positive"] == 1 / 2
    assert averaged([[right, wrong], [missed]])["token_precision_macro"] == 1 / 4


def test_what_is_undefined_is_not_a_number() -> None:
    nothing = micro(([], []), (["", " "], [" "]))
    assert all(math.isnan(v) for name, v in nothing.items() if name.rpartition("_micro")[1])
    assert not any(v for name, v in nothing.items() if not name.rpartition("_micro")[1])
    assert all(map(math.isnan, averaged([[], []]).values()))
    silent = micro((["cough"], []))
    assert math.isnan(silent["token_precision_micro"])
    assert (silent["token_recall_micro"], silent["token_f1_micro"]) == (0, 0)
    assert math.isnan(micro(([], ["cough"]))["quote_exact_recall_micro"])


def test_a_table_holds_the_field_for_all_and_for_each_category() -> None:
    cases = [Case("a", {"R": "He had cough."}, {"GI": (), "RESP": ("cough",)})]
    found = score(cases, ["GI", "RESP"], {"a": {"GI": ["cough"], "RESP": ["cough"]}}, ["field"])
    assert found.summary["quote_exact_precision_micro"] == 0.5
    assert found.summary["quote_exact_f1_macro"] == 0.5
    assert found.categories["RESP"]["quote_exact_f1_micro"] == 1
    assert "score" not in found.summary
    assert [metrics["quote_predicted"] for _, _, metrics, _ in found.cells] == [1, 1]


@settings(max_examples=100, deadline=None)
@given(CELLS)
def test_gold_scores_1(cell: Cell) -> None:
    text, gold, _ = cell
    counts = count(text, gold, gold)
    for metrics in (pooled([counts]), averaged([[counts]])):
        values = {v for name, v in metrics.items() if "_micro" in name or "_macro" in name}
        assert all(math.isnan(value) or value == 1 for value in values)


@settings(max_examples=100, deadline=None)
@given(CELLS, st.randoms(use_true_random=False))
def test_order_and_duplicates_are_of_no_account(cell: Cell, chance: random.Random) -> None:
    text, gold, predicted = cell
    shuffled = chance.sample(predicted * 2, 2 * len(predicted))
    assert count(text, gold[::-1] * 2, shuffled) == count(text, gold, predicted)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, st.sampled_from(["GI", "RESP"])), max_size=3))
def test_metrics_are_shares_and_exact_is_at_most_overlap(cells: list[tuple[Cell, str]]) -> None:
    counts = [(count(*cell), key) for cell, key in cells]
    by_key = ([own for own, key in counts if key == name] for name in ("GI", "RESP"))
    metrics = pooled(own for own, _ in counts) | averaged(by_key)
    for name, value in metrics.items():
        if "_micro" in name or "_macro" in name:
            assert math.isnan(value) or 0 <= value <= 1
        if "exact" in name:
            assert not value > metrics[name.replace("exact", "overlap")]
    for measure in MEASURES:
        for kept in SETS:
            found = metrics[f"{measure}_found{kept}"]
            unit = measure.partition("_")[0]
            assert found <= min(metrics[f"{unit}_gold{kept}"], metrics[f"{unit}_predicted{kept}"])


def assert_no_rise(less: Sequence[dict[str, float]], more: Sequence[dict[str, float]],
                   wanted: Iterable[str]) -> None:  # fmt: skip
    for fewer, former in zip(less, more, strict=True):
        for name, value in former.items():
            if any(f"_{ratio}_m" in name for ratio in wanted):
                assert at_most(fewer[name], value), name


def both(cell: Cell, other: Cell) -> list[dict[str, float]]:
    """Return the metrics of a cell, beside those of another category."""
    counts = [count(*cell), count(*other)]
    return [pooled(counts), averaged([[own] for own in counts])]


@settings(max_examples=100, deadline=None)
@given(CELLS, distinct(), st.integers(0, 40), st.integers(1, 4))
def test_a_wrong_extra_quote_never_helps(cell: Cell, other: Cell, start: int, length: int) -> None:
    text, gold, predicted = cell
    extra = " ".join(text.split()[start:][:length])
    for wrong in (extra, "nowhere to be found"):
        if count(text, gold, [wrong])["quote_overlap", ""].found:
            continue
        longer = both((text, gold, [*predicted, wrong]), other)
        assert_no_rise(longer, both(cell, other), RATIOS)


@settings(max_examples=100, deadline=None)
@given(CELLS, distinct())
def test_leaving_out_a_gold_quote_never_raises_recall(cell: Cell, other: Cell) -> None:
    text, gold, predicted = cell
    for quote in set(gold) & set(predicted):
        fewer = [kept for kept in predicted if kept != quote]
        assert_no_rise(both((text, gold, fewer), other), both(cell, other), ["recall"])


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=99), *2 * [st.lists(st.text(max_size=20), max_size=3)])
def test_any_text_is_survived(text: str, gold: list[str], predicted: list[str]) -> None:
    metrics = own((text, gold, predicted))
    assert all(value >= 0 for value in metrics.values() if not math.isnan(value))
