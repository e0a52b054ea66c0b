"""What quotes cover in reports whose words stand several times."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.quotes.grounding import ground
from crb_dspy.scoring.matching import matched
from crb_dspy.scoring.objective import CellScore, score_cell

REPORT = (
    "He had no fever and no seizures. His liver was large. Later he had a high fever. "
    "Ultrasound showed a large liver and a large spleen; the mother had seizures."
)
# Few words, so that every quote stands in several places and touches others by chance.
WORDS = ("pain", "rash", "no", "of", "liver", "fever,", "fever.")
few = st.lists(st.sampled_from(WORDS), min_size=3)


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A report of few different words, gold and predicted quotes out of it."""
    words = draw(few)
    starts = st.integers(0, len(words) - 1)
    quotes = st.lists(
        st.tuples(starts, st.integers(1, 4)).map(lambda at: " ".join(words[at[0] :][: at[1]])),
        max_size=4,
    )
    gold = draw(quotes)
    kept = [quote for quote in gold if draw(st.booleans())]
    return " ".join(words), gold, kept + draw(quotes)


def scored(gold: list[str], predicted: list[str]) -> CellScore:
    return score_cell(REPORT, gold, predicted)


@settings(max_examples=300, deadline=None)
@given(cells(), st.randoms(use_true_random=False))
def test_the_strict_laws_hold_whatever_is_repeated(
    cell: tuple[str, list[str], list[str]], chance: random.Random
) -> None:
    text, gold, predicted = cell
    score = score_cell(text, gold, predicted).score
    assert 0 <= score <= 1
    assert score_cell(text, gold, gold).score == 1
    shuffled = chance.sample(predicted * 2, 2 * len(predicted))
    assert score_cell(text, gold[::-1] * 2, shuffled).score == score
    for quote in set(gold) & set(predicted):
        fewer = [other for other in predicted if other != quote]
        assert score_cell(text, gold, fewer).score <= score + 1e-12


@settings(max_examples=300, deadline=None)
@given(cells(), st.integers(0, 30), st.integers(1, 4))
def test_text_with_no_place_in_gold_never_helps(
    cell: tuple[str, list[str], list[str]], start: int, length: int
) -> None:
    text, gold, predicted = cell
    extra = " ".join(text.split()[start:][:length])
    inside = {at for quote in gold for a, b in ground(text, quote).spans for at in range(a, b)}
    if all(inside.isdisjoint(range(a, b)) for a, b in ground(text, extra).spans):
        longer = score_cell(text, gold, [*predicted, extra]).score
        assert longer <= score_cell(text, gold, predicted).score + 1e-12


@pytest.mark.parametrize(
    ("gold", "predicted", "same"),
    [
        (["no fever and no seizures"], ["no", "fever and", "no seizures"], None),
        (["no fever", "no seizures"], ["no", "fever", "seizures"], None),
        (["no fever"], ["no", "seizures."], ["no seizures."]),
        (["no fever", "no seizures"], ["no", "seizures."], ["no seizures."]),
        (["large liver"], ["large", "spleen;"], ["large spleen;"]),
        (["large liver", "large spleen"], ["a large", "liver"], ["a large liver"]),
    ],
)
def test_a_piece_means_the_place_beside_its_other_half(
    gold: list[str], predicted: list[str], same: list[str] | None
) -> None:
    """It covers what the whole quote (or, where there is none, gold itself) covers."""
    assert scored(gold, predicted).score == scored(gold, same or gold).score


def test_gold_that_stands_several_times_is_met_at_any_of_its_places() -> None:
    assert scored(["liver"], ["liver was"]).score == 1
    assert scored(["liver"], ["the liver"]).ungrounded == 1
    assert scored(["liver"], ["large liver and"]).recall == 1
    assert scored(["large"], ["liver was large", "large liver"]).found_tokens == 1


def test_other_places_of_a_predicted_quote_neither_cost_nor_gain() -> None:
    assert scored(["high fever"], ["fever"]).precision == 1
    assert scored(["high fever", "no fever"], ["fever"]).found_tokens == 1
    assert scored(["no fever", "no seizures"], ["no"]).found_tokens == 1


def test_gold_that_is_not_in_the_report_is_met_by_its_own_words_only() -> None:
    gold = ["purple spots", "high fever"]
    assert scored(gold, gold).score == 1
    assert scored(gold, ["high fever"]).recall == 0.5
    assert scored(gold, ["high fever", "spots of purple"]).score == 1


@pytest.mark.parametrize("word", ["the", "...", "—"])
def test_gold_without_content_words_can_be_met(word: str) -> None:
    text = f"{word} one {word} two the end"
    assert score_cell(text, [word], [word]).score == 1
    assert score_cell(text, [word], []).score == 0
    assert score_cell(text, [word], ["one"]).score == 0


def test_function_words_alone_are_an_answer_but_earn_nothing() -> None:
    assert scored([], ["the"]).score == 0
    assert scored(["no fever"], ["he", "the"]).score == 0
    assert scored(["no fever"], ["no fever", "the"]).score == 1


slots = st.lists(st.lists(st.integers(0, 4), max_size=3, unique=True), max_size=5)


@settings(deadline=None)
@given(slots)
def test_as_many_slots_are_filled_as_can_be(candidates: list[list[int]]) -> None:
    choices = product(*([None, *slot] for slot in candidates))
    taken = ([token for token in choice if token is not None] for choice in choices)
    most = max(len(tokens) for tokens in taken if len(set(tokens)) == len(tokens))
    assert len(matched(candidates)) == most


def test_a_long_chain_of_claims_is_followed_to_its_end() -> None:
    chain = [[n, n + 1] for n in range(3000)]
    assert len(matched([*chain, [0]])) == 3001
