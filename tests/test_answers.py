"""What models answer in place of what they were asked for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.program.answers import parse

quotes = st.lists(st.text("ab \"'\\{}[],:\n", min_size=1).map(str.strip).filter(bool), unique=True)


@given(quotes, quotes)
def test_strict_json_passes_as_it_is(gi: list[str], resp: list[str]) -> None:
    answer = parse(json.dumps({"GI": gi, "RESP": resp}), ["GI", "RESP"])
    assert (answer.findings, answer.irregular) == ({"GI": gi, "RESP": resp}, {})
    assert not answer.failed


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    answer = parse(text, ["GI"])
    assert answer.failed or set(answer.findings) == {"GI"}


@pytest.mark.parametrize(
    ("text", "found", "fault"),
    [
        ('```json\n{"GI": ["a b"]}\n```', ["a b"], "JSON in a code fence"),
        ("{'GI': ['a b']}", ["a b"], ""),
        ('["a b"]', ["a b"], "a bare list in place of an object"),
        ('Sure! {"GI": ["a b"]} Hope this helps.', ["a b"], "prose around the JSON"),
        ('{"GI": "a b"}', ["a b"], "a string in place of a list"),
        ('{"GI": null}', [], "null"),
        ('{"GI": ["N/A"]}', [], "'none' in place of an empty list"),
        ('{"GI": ["a", "a", "a"]}', ["a"], "repetition: 3 quotes, 1 of them distinct"),
        ('{"GI": [{"quote": "a b"}]}', ["a b"], ""),
        ('{"GI": ["a b", "c', ["a b"], "broken JSON"),
        ('{"GI": ["a b", "c d"', ["a b", "c d"], "broken JSON"),
        ("Found: {'GI': ['a b']}.", ["a b"], "prose around the JSON"),
        ("{'GI': ['the boy\\'s a b', 'c d', 'e", ["the boy's a b", "c d"], "broken JSON"),
        ("None", [], "answered 'None' in place of a list"),
        ("N/A", [], "answered 'N/A' in place of a list"),
        ("not mentioned.", [], "answered 'not mentioned.' in place of a list"),
        ("- a b\n- c d", ["a b", "c d"], "bullets in place of JSON"),
        ("1. a b\n2) c d", ["a b", "c d"], "bullets in place of JSON"),
        ('{"RESP": ["a b"]}', [], "category left out"),
        # To Python a set of lists, which it cannot make.
        ("{ []}", [], "prose around the JSON"),
        # More digits than Python reads.
        ('{"GI": ["a b", ' + "9" * 5000 + "]}", ["a b"], "broken JSON"),
    ],
)
def test_what_can_be_mended_is_and_is_named(text: str, found: list[str], fault: str) -> None:
    answer = parse(text, ["GI"])
    assert not answer.failed
    assert answer.findings["GI"] == found
    assert answer.irregular.get("GI", "") == fault


@pytest.mark.parametrize("text", ["", " \n", "The patient had a fever.", "{{{", "42", '"a"'])
def test_an_answer_without_a_list_fails(text: str) -> None:
    assert parse(text, ["GI"]).failed
    assert parse(text, ["GI"]).findings == {}


def test_a_phrase_repeated_without_end_is_one_quote() -> None:
    answer = parse('{"GI": [' + '"no vomiting", ' * 500, ["GI"], truncated=True)
    assert answer.findings == {"GI": ["no vomiting"]}
    assert "cut off by the token limit" in answer.irregular["GI"]
    assert "500 quotes, 1 of them distinct" in answer.irregular["GI"]


def test_a_cut_off_answer_keeps_its_complete_quotes_by_category() -> None:
    answer = parse('{"reasoning": "r", "GI": ["a"], "RESP": ["b", "c c', ["GI", "RESP", "GU"])
    assert answer.findings == {"GI": ["a"], "RESP": ["b"], "GU": []}
    assert answer.reasoning == "r"


def test_a_bare_list_belongs_to_no_category_when_several_were_asked_for() -> None:
    answer = parse('["a"]', ["GI", "RESP"])
    assert answer.findings == {"GI": [], "RESP": []}
    assert set(answer.irregular) == {"GI", "RESP"}
