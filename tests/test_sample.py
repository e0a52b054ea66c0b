"""The bundled sample is invented, exactly quoted, and has something to learn in every category."""

import json
import re
from collections import Counter
from importlib.resources import files
from typing import NamedTuple

import pytest

from crb_dspy.data.schema import load_schema

KEYS = load_schema("casereportbench").keys
NEGATION = re.compile(r"\b(no|not|never|neither|nor|without|denied|absent|absence|free of)\b", re.I)


class Record(NamedTuple):
    id: str
    sections: dict[str, str]
    gold: dict[str, list[str]]
    source: str


LINES = files("crb_dspy.data.benchmarks").joinpath("sample.jsonl").read_text("utf-8").splitlines()
RECORDS = [Record(**json.loads(line)) for line in LINES]
each_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.id)


def test_there_are_enough_cases_of_unique_ids_and_texts() -> None:
    assert len(RECORDS) >= 24
    assert len({record.id for record in RECORDS}) == len(RECORDS)
    assert len({" ".join(record.sections.values()) for record in RECORDS}) == len(RECORDS)


@each_record
def test_a_report_is_short_and_labelled_as_invented(record: Record) -> None:
    assert re.fullmatch(r"sample-\d\d-[a-z0-9-]+", record.id)
    assert record.source == "invented"
    assert all(text == text.strip() and text for text in record.sections.values())
    assert 80 <= sum(len(text.split()) for text in record.sections.values()) <= 250


@each_record
def test_gold_names_every_category_in_order(record: Record) -> None:
    assert tuple(record.gold) == KEYS


@each_record
def test_every_quote_stands_in_a_section_once_a_category(record: Record) -> None:
    for quotes in record.gold.values():
        assert len(set(quotes)) == len(quotes)
        for quote in quotes:
            assert quote == quote.strip() != ""
            assert any(quote in text for text in record.sections.values()), quote


@each_record
def test_a_quote_never_starts_or_ends_inside_a_word(record: Record) -> None:
    text = "\n".join(record.sections.values())
    for quote in {quote for quotes in record.gold.values() for quote in quotes}:
        assert re.search(rf"(?<!\w){re.escape(quote)}(?!\w)", text), quote


def test_several_reports_have_headings() -> None:
    assert sum(len(record.sections) >= 2 for record in RECORDS) >= 8


def test_a_third_of_the_cells_is_empty_and_no_category_is_rare() -> None:
    filled = Counter(key for record in RECORDS for key in KEYS if record.gold[key])
    assert filled.total() <= len(RECORDS) * len(KEYS) * 2 / 3
    assert {key: filled[key] for key in KEYS if filled[key] < 7} == {}


def test_negative_findings_are_quoted_over_the_categories() -> None:
    findings = {
        (record.id, quote): key
        for record in RECORDS
        for key in KEYS
        if key not in ("Lab_Image", "History")  # where a negation may be one clause among many
        for quote in record.gold[key]
        if NEGATION.search(quote)
    }
    assert len(findings) >= 40
    assert len(set(findings.values())) >= 8


def test_awkward_characters_are_there_to_exercise_the_tools() -> None:
    text = "".join(LINES)
    assert [mark for mark in "°µβ–×⁹½²“’<>%()" if mark not in text] == []
    assert '\\"' in text
