"""Demonstrations are short, complete for what they show, and stable."""

from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.quotes import excerpts
from crb_dspy.quotes.excerpts import GAP, excerpt

SENTENCES = [f"Sentence number {i} tells of sign{i} in passing." for i in range(40)]
REPORT = " ".join(SENTENCES)


def test_only_the_sentences_around_the_quotes_are_shown() -> None:
    text, kept = excerpt(REPORT, {"GI": ["sign10", "sign30 in passing"]})
    assert text.split("\n") == [*SENTENCES[9:12], GAP, *SENTENCES[29:32]]
    assert kept == {"GI": ["sign10", "sign30 in passing"]}


def test_what_stands_nowhere_is_dropped() -> None:
    text, kept = excerpt(REPORT, {"GI": ["sign10", "a fabricated finding"], "GU": []})
    assert kept == {"GI": ["sign10"], "GU": []}
    assert "fabricated" not in text


def test_a_report_with_nothing_to_find_shows_its_opening() -> None:
    assert excerpt(REPORT, {"GI": []}) == ("\n".join(SENTENCES[:3]), {"GI": []})


def test_an_excerpt_is_bounded_and_its_findings_are_all_in_it() -> None:
    quotes = [f"sign{i}" for i in range(0, 40, 2)]
    text, kept = excerpt(REPORT, {"GI": quotes})
    assert len(text) <= excerpts.LONGEST + 20 * len(GAP)
    assert 0 < len(kept["GI"]) < len(quotes)
    assert all(quote in text for quote in kept["GI"])


@given(st.lists(st.integers(0, 39), max_size=12), st.booleans())
def test_the_excerpt_of_an_excerpt_is_itself(numbers: list[int], lines: bool) -> None:
    report = "\n".join(SENTENCES) if lines else REPORT
    once = excerpt(report, {"GI": [f"sign{i}" for i in numbers]})
    assert excerpt(*once) == once
