"""Sentences and clauses: disjoint, in order, everything but headings, cut where a reader would."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crb_dspy.data.cases import Case
from crb_dspy.retrieval.sentences import SIZES, Size, units

TEXTS = st.text(alphabet=st.one_of(st.sampled_from(' \n.,;!?)(-•1aAb"”。'), st.characters()))


def texts(body: str, size: Size = "sentences") -> list[str]:
    case = Case("c", {"Case report": body})
    return [case.text[unit.start : unit.end] for unit in units(case, size)]


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
@example({"A. B": " x. Y;\n\n", "": ""})
def test_units_are_disjoint_in_order_and_hold_all_but_headings(sections: dict[str, str]) -> None:
    case = Case("c", sections)
    bodies = "".join("".join(body.split()) for body in sections.values())
    for size in SIZES:
        found = units(case, size)
        told = "".join("".join(case.text[u.start : u.end].split()) for u in found)
        marks = r"\W" if size == "words" else " "
        assert re.sub(marks, "", told) == re.sub(marks, "", bodies)
        assert all(u.start < u.end for u in found)
        assert all(a.end <= b.start for a, b in pairwise(found))
        assert all(0 <= u.place < 1 for u in found)
        assert all(case.text[u.start : u.end].strip() == case.text[u.start : u.end] for u in found)
        for unit in found:
            heading, at = case.place(unit.start)
            assert heading == unit.heading
            assert unit.place == at / len(sections[heading])


@given(st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_every_clause_lies_in_the_sentence_that_it_names(sections: dict[str, str]) -> None:
    case = Case("c", sections)
    sentences = units(case, "sentences")
    assert [unit.sentence for unit in sentences] == list(range(len(sentences)))
    for clause in units(case, "clauses"):
        sentence = sentences[clause.sentence]
        assert sentence.start <= clause.start < clause.end <= sentence.end


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("Seen by Dr. Who. He left.", ["Seen by Dr. Who.", "He left."]),
        ("Rigid (Fig. 2). Then 2.5 mg.", ["Rigid (Fig. 2).", "Then 2.5 mg."]),
        ("Organs, e.g. Liver and spleen.", ["Organs, e.g. Liver and spleen."]),
        ("It was at its max. Then it fell.", ["It was at its max.", "Then it fell."]),
        ("Done! Was it? 3 months on.", ["Done!", "Was it?", "3 months on."]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("BP 84/58 mm of Hg. and rising.", ["BP 84/58 mm of Hg. and rising."]),
        ("The line goes\non here.\nNext one", ["The line goes\non here.", "Next one"]),
        ("- fever\n- no rash\n1. cough", ["- fever", "- no rash", "1. cough"]),
        ("発熱。嘔吐あり。", ["発熱。", "嘔吐あり。"]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(body: str, wanted: list[str]) -> None:
    assert texts(body) == wanted


def test_clauses_end_at_commas_and_semicolons_but_not_inside_numbers() -> None:
    body = "WBC was 12,500, no fever; pale. He left."
    assert texts(body, "clauses") == ["WBC was 12,500,", "no fever;", "pale.", "He left."]
