"""The sentence classifier: what it learns, what it must not see, and what is stored of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.files import as_json
from crb_dspy.retrieval.choosing import Cells, Rule, choose, objective
from crb_dspy.retrieval.classifier import Classifier, Seen, see
from crb_dspy.retrieval.crossfit import crossfitted
from crb_dspy.retrieval.sentences import SIZES, Size
from crb_dspy.retrieval.system import Retriever, crossfitted_findings, fit, quotes, terms_of
from crb_dspy.retrieval.training import train
from crb_dspy.scoring.objective import score_cell
from tests.real_data import real

SCHEMA = load_schema("casereportbench")
SAMPLE = load("sample", SCHEMA).cases
KEYS = ["Neuro", "RESP", "GI", "DERM"]
FEW = SCHEMA.select(KEYS)
TERMS = terms_of(FEW)
POISON = dict.fromkeys(KEYS, ("zebra stripes", "a quote of nothing"))


def score(text: str, gold: Sequence[str], predicted: Sequence[str]) -> float:
    return score_cell(text, gold, predicted).score


def case(name: str, body: str, gold: dict[str, tuple[str, ...]] | None, group: str = "") -> Case:
    return Case(name, {"Case report": body}, gold, group)


def seen(cases: Sequence[Case], size: Size = "sentences") -> list[Seen]:
    return [see(one, size, TERMS) for one in cases]


def test_a_learnt_category_is_found_in_reports_it_never_saw() -> None:
    classifier = train(seen(SAMPLE[:20]), "sentences", TERMS)
    new = see(
        case("n", "He had repeated seizures. The mother is a teacher.", None), "sentences", TERMS
    )
    neuro = classifier.probabilities(new)[:, classifier.keys.index("Neuro")]
    assert neuro[0] > 0.6 > 0.4 > neuro[1]


def test_the_order_of_the_cases_is_of_no_account() -> None:
    one = train(seen(SAMPLE[:6]), "sentences", TERMS)
    assert train(seen(SAMPLE[5::-1]), "sentences", TERMS) == one
    assert one.fingerprint != train(seen(SAMPLE[:5]), "sentences", TERMS).fingerprint


@pytest.mark.parametrize("size", SIZES)
def test_a_stored_classifier_says_the_same_to_the_last_digit(size: Size) -> None:
    classifier = train(seen(SAMPLE[:8], size), size, TERMS)
    loaded = Classifier.of(json.loads(as_json(classifier.plain())))
    assert loaded == classifier
    assert loaded.fingerprint == classifier.fingerprint
    for one in seen(SAMPLE[8:12], size):
        assert np.array_equal(loaded.probabilities(one), classifier.probabilities(one))


TRAINED = train(seen(SAMPLE[:8]), "sentences", TERMS)
LOADED = Classifier.of(json.loads(as_json(TRAINED.plain())))


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=3))
def test_any_report_gets_probabilities_the_same_stored_or_not(sections: dict[str, str]) -> None:
    one = TRAINED.see(Case("c", sections))
    found = TRAINED.probabilities(one)
    assert found.shape == (len(one.units), len(KEYS))
    assert np.all((found >= 0) & (found <= 1))
    assert np.allclose(found, LOADED.probabilities(one), rtol=0, atol=1e-9)


def test_a_category_without_examples_is_found_by_terms_alone() -> None:
    bare = [replace(one, gold={**(one.gold or {}), "RESP": ()}) for one in SAMPLE[:10]]
    classifier = train(seen(bare), "sentences", TERMS)
    new = case("n", "Cough was noted. The parents came.", None)
    found = classifier.probabilities(see(new, "sentences", TERMS))[:, KEYS.index("RESP")]
    assert 0.01 < found[0] < 0.9
    assert found[1] < 1e-9
    without = {**TERMS, "RESP": ()}
    silent = train([see(one, "sentences", without) for one in bare], "sentences", without)
    assert silent.probabilities(see(new, "sentences", without))[:, KEYS.index("RESP")].max() < 1e-9


def test_terms_are_beginnings_of_words_and_those_in_capitals_stand_as_they_are() -> None:
    terms = {"Lab": ("AST", "biops")}
    body = "Astigmatism. AST was high. Biopsies. An autobiopsy."
    found = see(case("c", body, None), "sentences", terms).features
    assert ["term:Lab" in own for own in found] == [False, True, True, False]
    assert see(case("c", "AST, AST.", None), "sentences", terms).features[0]["terms:Lab"] > 0


def test_a_unit_is_positive_from_the_share_on_that_gold_covers() -> None:
    one = see(
        case("c", "No fever. " + "A" * 80 + " rash. Rash", {"DERM": ("rash",)}), "sentences", TERMS
    )
    share = one.shares[:, KEYS.index("DERM")]
    assert share.tolist() == pytest.approx([0, 4 / 86, 1])


def test_where_gold_is_of_single_words_a_unit_is_positive_if_gold_touches_it() -> None:
    body = "The child had a fever on the third day. The father came. Then again a fever of a day."
    short = seen([case("c", body, {"GI": ("fever",)}), case("d", body, {"GI": ("fever",)})])
    new = see(case("n", "A fever. No father.", None), "sentences", TERMS)

    def found(cover: float | None) -> list[float]:
        column: list[float] = (
            train(short, "sentences", TERMS, cover=cover)
            .probabilities(new)[:, KEYS.index("GI")]
            .tolist()
        )
        return column

    assert found(None) == found(0)
    assert found(0)[0] > 0.5 > found(0)[1]
    assert max(found(0.4)) < 1e-9
    covered = seen(SAMPLE[:6])
    assert train(covered, "sentences", TERMS) == train(covered, "sentences", TERMS, cover=0.4)


def test_without_annotated_cases_the_user_is_told() -> None:
    with pytest.raises(UserError, match="no annotated case"):
        fit([case("c", "Nothing.", None)], FEW, score)
    with pytest.raises(UserError, match="at least|groups"):
        crossfitted(seen(SAMPLE[:1]), "sentences", TERMS)


def test_one_annotated_case_is_enough_for_a_system() -> None:
    found = fit([case("c", "Seizures were seen.", {"Neuro": ("Seizures were seen",)})], FEW, score)
    again = found.findings(case("d", "Seizures were seen.", None))
    assert again["Neuro"] == ["Seizures were seen."]
    assert again["DERM"] == []


def test_probabilities_do_not_depend_on_gold_of_the_case_or_its_group() -> None:
    cases = [replace(one, group="same" if n < 2 else one.id) for n, one in enumerate(SAMPLE[:9])]
    poisoned = [replace(one, gold=POISON) if n < 2 else one for n, one in enumerate(cases)]
    clean = crossfitted(seen(cases), "sentences", TERMS, k=9)
    found = crossfitted(seen(poisoned), "sentences", TERMS, k=9)
    assert list(clean) == [one.id for one in cases]
    for one in cases[:2]:
        assert np.array_equal(clean[one.id], found[one.id])
    changed = [replace(one, gold={}) if n == 5 else one for n, one in enumerate(cases)]
    other = crossfitted(seen(changed), "sentences", TERMS, k=9)
    assert not np.array_equal(clean[cases[0].id], other[cases[0].id])
    assert np.array_equal(clean[cases[5].id], other[cases[5].id])


def test_cross_fitted_findings_do_not_depend_on_gold_of_the_case() -> None:
    cases = list(SAMPLE[:6])
    poisoned = [replace(cases[0], gold=POISON), *cases[1:]]
    clean = crossfitted_findings(cases, FEW, score, k=6)
    found = crossfitted_findings(poisoned, FEW, score, k=6)
    assert clean[cases[0].id] == found[cases[0].id]
    assert set(clean) == {one.id for one in cases}


def test_a_system_is_stored_whole_and_finds_the_same_again() -> None:
    system = fit(SAMPLE[:8], FEW, score, k=3)
    loaded = Retriever.of(json.loads(as_json(system.plain())))
    assert loaded == system
    assert loaded.fingerprint == system.fingerprint
    assert set(system.rules) == set(KEYS)
    assert set(system.classifiers) == {rule.size for rule in system.rules.values()}
    for one in SAMPLE[8:12]:
        found = system.findings(one)
        assert found == loaded.findings(one)
        assert list(found) == KEYS
        assert all(quote in one.text for own in found.values() for quote in own)
        assert found == system.findings(replace(one, gold=POISON))


def test_clauses_in_a_row_are_one_quote() -> None:
    one = see(case("c", "He had a rash, no fever, and fits. Pale; weak.", None), "clauses", {})
    found = quotes(one, np.array([1, 1, 0, 1, 1.0]), 0.5)
    assert found == ("He had a rash, no fever", "Pale; weak.")


A, B = Rule("sentences", 0.4), Rule("clauses", 0.5)


def cells(a: list[list[float]], b: list[list[float]], gold: list[list[bool]]) -> Cells:
    scores = {A: np.array(a, dtype=float), B: np.array(b, dtype=float)}
    return Cells(scores, np.array(gold), [str(number) for number in range(len(a))])


def test_a_category_moves_only_for_a_gain_that_stands_out() -> None:
    gold = [[True, True, False]] * 6
    common = [[0.5, 0.5, 1.0]] * 6
    steady = [[0.1, 0.7, 1.0]] * 6
    assert choose(cells(common, steady, gold)) == [A, B, A]
    chance = [[0.1, 1.0 if n == 0 else 0.45, 1.0] for n in range(6)]
    assert choose(cells(common, chance, gold), evidence=0.0) == [A, B, A]
    assert choose(cells(common, chance, gold), evidence=1.0) == [A, A, A]


def test_cases_of_one_group_are_one_piece_of_evidence() -> None:
    gold = [[True, True, False]] * 4
    better = [[0.7, 0.0, 1.0]] * 3 + [[0.4, 0.0, 1.0]]
    found = cells([[0.5, 0.5, 1.0]] * 4, better, gold)
    assert choose(found, evidence=0.8)[0] == B
    together = Cells(found.scores, found.gold, ["one", "one", "one", "two"])
    assert choose(together, evidence=0.0)[0] == B
    assert choose(together, evidence=0.8)[0] == A


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]))
def test_endless_doubt_leaves_the_best_common_rule(seed: int, share: float) -> None:
    chance = np.random.default_rng(seed)
    gold = chance.random((5, 3)) < share
    scores = {rule: chance.random((5, 3)) for rule in (A, B)}
    found = Cells(scores, gold, list("abcde"))
    best = max(scores, key=lambda rule: objective(scores[rule], gold))
    assert choose(found, evidence=1e9) == [best] * 3


def test_the_objective_is_harmonic_and_silence_gets_nothing() -> None:
    gold = np.array([[True, False]])
    assert objective(np.array([[0.0, 1.0]]), gold) == 0
    assert objective(np.array([[0.5, 1.0]]), gold) == pytest.approx(2 / 3)
    assert objective(np.array([[0.25, 0.75]]), np.array([[True, True]])) == 0.5


@pytest.mark.slow
def test_on_real_cases_it_beats_what_was_sketched() -> None:
    groups = {"PMC6453830": "H", "PMC6536078": "H"}
    cases = load(str(real("casereportbench/gold_24.jsonl")), SCHEMA, groups=groups).cases
    tables = [see(one, "clauses", terms_of(SCHEMA)) for one in cases]
    found = crossfitted(tables, "clauses", terms_of(SCHEMA))
    rows = [
        (bool(gold), score(one.case.text, gold, given) if gold and given else float(gold == given))
        for one in tables
        for column, key in enumerate(SCHEMA.keys)
        for gold in [tuple((one.case.gold or {}).get(key, ()))]
        for given in [quotes(one, found[one.case.id][:, column], 0.5)]
    ]
    values = np.array([[value for _, value in rows]])
    assert objective(values, np.array([[gold for gold, _ in rows]])) > 0.6
