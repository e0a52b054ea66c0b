"""Negations of other languages, as a schema names them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crb_dspy.data.schema import load_schema
from crb_dspy.quotes import negation
from crb_dspy.quotes.grounding import Status, ground
from crb_dspy.scoring.objective import score_cell
from crb_dspy.scoring.tokens import tokenized

SAID = {
    "es": ("El paciente no tenía fiebre, sin vómitos.", {"no", "sin"}),
    "it": ("Il paziente non aveva febbre, senza vomito.", {"non", "senza"}),
    "fr": ("Le patient n'avait pas de fièvre, sans vomissements.", {"pas", "sans"}),
    "de": ("Der Patient hatte kein Fieber, ohne Erbrechen.", {"kein", "ohne"}),
}


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    yield
    negation.speak([])


def cues(text: str) -> set[str]:
    report = tokenized(text)
    return {report.words[at] for at in report.cues}


@pytest.mark.parametrize("code", negation.LANGUAGES)
def test_a_language_of_the_schema_negates(code: str) -> None:
    text, known = SAID[code]
    english = {"no"} & known
    assert cues(text) == english
    negation.speak([code])
    assert cues(text) == known
    assert cues("no fever") == {"no"}


def test_a_lost_negation_of_another_language_costs_what_an_english_one_does() -> None:
    text = "Der Patient hatte kein Fieber."
    negation.speak(["de"])
    lost = score_cell(text, ("kein Fieber",), ("Fieber",))
    assert "quoted without its negation" in lost.reason


def test_a_quote_that_turns_a_finding_round_is_not_near_enough() -> None:
    text = "Die Patientin hatte seit Wochen nie Fieber und keine Schmerzen im Bauch."
    turned = "hatte seit Wochen  Fieber und keine Schmerzen im Bauch"
    negation.speak(["de"])
    assert ground(text, turned).status is Status.UNGROUNDED


def test_words_of_a_schema_are_read_from_its_file_and_change_no_other(tmp_path: Path) -> None:
    plain = load_schema("casereportbench")
    assert "negations" not in plain.model_dump()
    path = tmp_path / "mine.toml"
    path.write_text(
        'negations = ["de", "Kaum"]\n[[category]]\nkey = "A"\ntitle = "A"\nguidance = "a"\n'
        'instruction = "Quote."\n'
    )
    schema = load_schema(str(path))
    assert schema.negations == ["de", "Kaum"]
    assert cues("kaum Fieber, ohne Husten") == {"kaum", "ohne"}
    load_schema("casereportbench")
    assert cues("kaum Fieber, ohne Husten") == set()
