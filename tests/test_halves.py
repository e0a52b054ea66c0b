"""The score of a set of cells: what silence cannot win, nor noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.evaluation.rows import Row, row_of, score_of
from crb_dspy.program import Reading
from crb_dspy.scoring.audit import SYSTEMS, trivial
from crb_dspy.scoring.halves import Halves, Weights, harmonic, total
from crb_dspy.scoring.objectives import OBJECTIVES, Objective, find_objective
from crb_dspy.scoring.paper import PAPER

WORDS = [f"{a}{b}" for a in "bcdfghjklm" for b in ("aro", "epi", "ilu", "otan")]
KEYS = ("GI", "CVS", "DERM")
SCORE = find_objective("score")


@st.composite
def annotated(draw: st.DrawFn) -> list[Case]:
    """Reports of three sentences, each a finding of one category; cells of both kinds exist."""
    cases = []
    for number in range(draw(st.integers(1, 4))):
        words = [WORDS[(number * 7 + n) % len(WORDS)] for n in range(9)]
        sentences = [" ".join(words[n : n + 3]).capitalize() + "." for n in (0, 3, 6)]
        chosen = draw(st.lists(st.sampled_from(KEYS), min_size=3, max_size=3))
        gold: dict[str, tuple[str, ...]] = dict.fromkeys(KEYS, ())
        for key, sentence in zip(chosen, sentences, strict=True):
            gold[key] = (*gold[key], sentence.rstrip("."))
        cases.append(Case(f"c{number}", {"Report": " ".join(sentences)}, gold))
    # One more whose GI is filled and whose CVS is empty.
    return [*cases, Case("c", {"Report": "Vomiting."}, {"GI": ("Vomiting",), "CVS": ()})]


def rows_of(cases: list[Case], found: dict[tuple[str, str], tuple[str, ...]]) -> list[Row]:
    return [
        row_of(case, key, Reading({key: found.get((case.id, key), ())}))
        for case in cases
        for key in KEYS
    ]


def gold_of(cases: list[Case]) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(case.id, key): tuple((case.gold or {}).get(key, ())) for case in cases for key in KEYS}


@given(annotated())
def test_gold_scores_1_and_what_reads_nothing_scores_0(cases: list[Case]) -> None:
    assert score_of(rows_of(cases, gold_of(cases))) == 1
    scores = trivial(cases, KEYS, SCORE)
    assert scores["empty"] == scores["every_sentence"] == scores["whole_report"] == 0


@given(annotated(), st.data())
def test_leaving_out_a_gold_quote_or_filling_an_empty_cell_never_raises_it(
    cases: list[Case], data: st.DataObject
) -> None:
    gold = gold_of(cases)
    held = data.draw(st.sets(st.sampled_from(sorted(gold))))
    found = {cell: quotes for cell, quotes in gold.items() if cell in held}
    before = score_of(rows_of(cases, found))
    if filled := [cell for cell, quotes in found.items() if quotes]:
        less = data.draw(st.sampled_from(filled))
        assert score_of(rows_of(cases, {**found, less: found[less][1:]})) <= before + 1e-12
    empty = data.draw(st.sampled_from([cell for cell, quotes in gold.items() if not quotes]))
    report = {case.id: case for case in cases}[empty[0]].text
    assert score_of(rows_of(cases, {**found, empty: (report.split()[-1],)})) <= before + 1e-12


def test_one_kind_of_cells_has_that_kinds_mean_and_none_has_none() -> None:
    assert Halves(1.5, 3).score == 0.5
    assert Halves(empty=2, n_empty=4).score == 0.5
    assert math.isnan(Halves().score)
    assert harmonic(0.0, 0.0) == 0.0


@given(st.lists(st.builds(Halves, *[st.floats(0, 5), st.integers(1, 5)] * 2), min_size=1))
def test_numbers_by_case_have_the_weighted_mean_as_their_mean(cases: list[Halves]) -> None:
    weights = Weights.balanced(0.3, total(cases))
    numbers = weights.by_case(cases)
    whole = total(cases)
    assert sum(numbers) / len(numbers) == pytest.approx(weights.mean(whole), abs=1e-9)
    expected = 0.3 * whole.nonempty_f1 + 0.7 * whole.empty_agreement
    assert weights.mean(whole) == pytest.approx(expected, abs=1e-9)


# Objectives.

CASE = Case("c", {"Report": "He had no fever. He vomited."}, {"GI": ("vomited",), "CVS": ()})


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=lambda objective: objective.name)
def test_every_objective_gives_gold_its_best_and_runs_from_0_to_1(objective: Objective) -> None:
    for predicted in (("vomited",), (), ("fever",)):
        rows = [row_of(CASE, key, Reading({key: predicted}), objective) for key in ("GI", "CVS")]
        for row in rows:
            assert math.isnan(row.score) or 0 <= row.score <= 1
    rows = [row_of(CASE, k, Reading({k: (CASE.gold or {})[k]}), objective) for k in ("GI", "CVS")]
    best = score_of(rows)
    # Of a cell of one word there is no 4-gram, and "negation_recall" has no negation to find.
    assert best == 1 or objective.name in ("bleu4", "negation_recall")


def test_all_metrics_of_the_paper_can_be_asked_for_and_others_are_named() -> None:
    assert set(PAPER) < set(OBJECTIVES)
    with pytest.raises(UserError, match="unknown objective 'tsr_nrom': did you mean 'tsr_norm'"):
        find_objective("tsr_nrom")


def test_a_metric_of_the_paper_is_won_by_who_reads_nothing() -> None:
    scores = trivial([CASE], ("GI", "CVS"), find_objective("tsr_raw"))
    assert max(scores.values()) >= 0.5
    assert set(scores) == {name for name in SYSTEMS if not name.startswith("gold")}
