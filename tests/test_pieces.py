"""Long reports are cut without loss and put together without doubles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.quotes.pieces import merge, pieces

texts = st.text("ab .\n#é", max_size=600)


def words(text: str) -> int:
    return len(text.split())


@given(texts, st.integers(1, 60))
def test_every_piece_fits_and_nothing_is_lost(text: str, room: int) -> None:
    cut = pieces(text, room, len)
    assert all(len(piece) <= room and piece in text for piece in cut)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crb_dspy.quotes.pieces.OVERLAP", 0)
        assert "".join(pieces(text, room, len)) == text
    assert sum(map(len, cut)) >= len(text)


def test_a_report_that_fits_is_left_whole() -> None:
    assert pieces("one two three", 3, words) == ["one two three"]


def test_cuts_fall_on_headings_first() -> None:
    sections = [f"## H{i}\n" + f"word{i} " * 20 for i in range(4)]
    cut = pieces("\n\n".join(sections), 90, words)
    assert all(piece.startswith("## H") for piece in cut)


def test_pieces_overlap_by_whole_sentences() -> None:
    text = " ".join(f"Sentence {i} is here." for i in range(100))
    first, second = pieces(text, 200, words)[:2]
    assert second.startswith("Sentence")
    shared = set(first.split(". ")) & set(second.split(". "))
    assert 2 <= len(shared) <= 10


def test_quotes_of_pieces_are_merged_by_place() -> None:
    text = "He had fever and chills. No cough at night. Late rash."
    found = [["fever and chills", "No cough"], ["No cough at night", "rash", "made up"]]
    assert merge(text, found) == ["fever and chills", "No cough at night", "rash", "made up"]
