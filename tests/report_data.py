"""Rows of two invented runs over invented reports."""

from __future__ import annotations

import random
from collections.abc import Sequence

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.evaluation.rows import Row, row_of
from crb_dspy.program import Reading

SCHEMA = load_schema("casereportbench")
LOST = "a quote that no report has"


def noisy(cases: Sequence[Case], seed: int, keep: float = 0.6) -> list[Row]:
    """Rows of a run that finds some of gold, adds what is wrong, and fails now and then."""
    rng = random.Random(seed)
    return [_row(case, key, rng, keep) for case in cases for key in (case.gold or {})]


def _row(case: Case, key: str, rng: random.Random, keep: float) -> Row:
    if rng.random() < 0.03:
        return row_of(case, key, Reading({}, error="cut off after 320 tokens"))
    quotes = [quote for quote in (case.gold or {})[key] if rng.random() < keep]
    quotes = [quote.removeprefix("no ") for quote in quotes]
    if rng.random() < 0.2:
        quotes.append(rng.choice(case.text.split(". ")))
    if rng.random() < 0.05:
        quotes.append(LOST)
    return row_of(case, key, Reading({key: tuple(quotes)}))


def long_cases(count: int, words: int, sentences: Sequence[str]) -> list[Case]:
    """Reports of so many words, four quotes a category."""
    rng, cases = random.Random(0), []
    for number in range(count):
        chosen: list[str] = []
        while sum(len(sentence.split()) for sentence in chosen) < words:
            chosen.append(rng.choice(sentences))
        text = " ".join(f"{sentence} ({at})." for at, sentence in enumerate(chosen))
        gold = {key: tuple(rng.sample(chosen, 4)) for key in SCHEMA.keys}
        cases.append(Case(f"long-{number:03}", {"Case": text}, gold))
    return cases
