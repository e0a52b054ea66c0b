"""Tables keep to a width, and lose nothing by it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.scoring.layout import families, field_table, metrics_table
from crb_dspy.scoring.table import score

NAMES = st.text("abcdefgh_", min_size=1, max_size=20)


@given(st.lists(NAMES, min_size=1, unique=True), st.integers(60, 200))
def test_every_column_stands_somewhere_and_no_line_is_too_wide(
    heads: list[str], width: int
) -> None:
    columns = {head: {"one": at / 10, "other": math.nan} for at, head in enumerate(heads)}
    lines = metrics_table(["one", "other"], columns, width)
    assert max(map(len, lines)) <= width
    blocks = "\n".join(lines).split("\n\n")
    rows = [block.split("\n") for block in blocks]
    assert [head for block in rows for head in block[0].split()] == heads
    values = [value for block in rows for value in block[1].split()[1:]]
    assert values == [f"{at / 10:.3f}" for at in range(len(heads))]
    assert {block[2] for block in rows} == {"other"}


def test_a_column_that_no_terminal_has_room_for_is_shown_all_the_same() -> None:
    assert metrics_table(["one"], {"wide": {"one": 0.5}, "next": {"one": 1.0}}, 1) == [
        *("      wide", "one  0.500", "", "      next", "one  1.000")
    ]


def test_the_fields_table_shows_averages_and_categories() -> None:
    scores = score((), ["GI"], {}, ["field"])
    told, _, *lines = field_table(scores.summary, scores.categories, 80)
    assert told == "quotes: 0 gold, 0 positive; 0 predicted, 0 positive"
    assert lines[0].split("  ")[-1].strip() == "quotes, overlapping"
    assert lines[1].split() == ["P", "R", "F1"] * 3
    assert lines[2:] == ["micro", "macro", "micro, positive", "macro, positive", "GI"]
    assert len(field_table(scores.summary, scores.categories, 60)) == 2 + 2 * len(lines) + 1


def test_metrics_are_told_by_their_family() -> None:
    names = ["score", "tsr_raw", "token_f1_macro", "quote_gold", "anything"]
    assert families(names) == {
        "objective": ["score"],
        "paper": ["tsr_raw"],
        "field": ["token_f1_macro", "quote_gold"],
        "of kinds": ["anything"],
    }
    assert families(["bleu1"]) == {"paper": ["bleu1"]}
