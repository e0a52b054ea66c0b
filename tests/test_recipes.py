"""The contract of every recipe, and what each does of its own."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from crb_dspy import recipe as seam
from crb_dspy.cases import Case
from crb_dspy.catalog import find_recipe, names
from crb_dspy.evaluate import evaluate
from crb_dspy.program import ExtractionProgram, Part
from crb_dspy.schema import load_schema
from tests.fake_model import FakeEngine, fake_model, report_of

SCHEMA = load_schema("casereportbench").select(["GI"])


def case(name: str, finding: str) -> Case:
    gold = {"GI": (f"{finding}-{name}",) if finding else ()}
    text = f"On day one {name} had {finding}-{name} at night. All else was well that day."
    return Case(name, {"Report": text}, gold)


TRAIN = [case(f"train{i}", "vomiting" if i % 3 else "") for i in range(6)]
VALIDATION = [case(f"validation{i}", "diarrhoea") for i in range(4)]
# What is found only by a prompt that shows an example.
LEARNT = "Examples, from other patients' reports"


def answer(prompt: str) -> str:
    """Find the right word in a report, but only after an example."""
    words = report_of(prompt).split()
    found = [word for word in words if "-" in word and (LEARNT in prompt or "train1" in word)]
    return json.dumps({"GI": found})


class Alone(ExtractionProgram):
    def build(self, schema: object, **options: object) -> dict[str, Part]:
        return {"GI": Part(SCHEMA.categories)}


def context(notes: list[tuple[str, float]], seed: int = 0) -> seam.Context:
    def answers(part: Part, cases: Sequence[Case]) -> list[seam.Answer]:
        rows = evaluate(Alone(SCHEMA).with_parts({"GI": part}), cases)
        return [
            seam.Answer(row.score, None if row.error else {"GI": list(row.predicted)})
            for row in rows
        ]

    def note(candidate: str, validation: float) -> None:
        notes.append((candidate, validation))

    return seam.Context(answers, random.Random(seed), note)


def tuned(name: str, seed: int = 0, **options: object) -> tuple[Part, Part, FakeEngine]:
    part = Part(SCHEMA.categories)
    with fake_model(answer) as engine:
        recipe = find_recipe(name, options)
        result = recipe(part, TRAIN, VALIDATION, context([], seed), **options)
    return part, result, engine


@pytest.mark.parametrize("name", names("optimizers"))
class TestEveryRecipe:
    def test_the_seed_is_left_as_it_was_and_the_result_asks_the_same(self, name: str) -> None:
        part, result, _ = tuned(name)
        assert part.messages("R") == Part(SCHEMA.categories).messages("R")
        assert result.keys == part.keys

    def test_the_same_seed_gives_the_same_prompt(self, name: str) -> None:
        assert tuned(name)[1].messages("R") == tuned(name)[1].messages("R")

    def test_only_training_cases_are_shown(self, name: str) -> None:
        prompt = tuned(name)[1].messages("R")[1]["content"]
        assert "validation" not in prompt

    def test_distinct_requests_stay_within_the_estimate(self, name: str) -> None:
        engine = tuned(name)[2]
        estimate = seam.calls(find_recipe(name, {}), len(TRAIN), len(VALIDATION), {})
        assert estimate is not None
        assert len(set(engine.prompts)) <= estimate

    def test_it_says_what_it_tunes_and_costs(self, name: str) -> None:
        text = (find_recipe(name, {}).__doc__ or "").lower()
        assert "tunes" in text or "demonstrations" in text
        assert "cost" in text


def test_none_returns_the_part_itself() -> None:
    part, result, engine = tuned("none")
    assert result is part
    assert engine.requests == []


def test_labeled_shows_gold_and_at_most_one_case_without() -> None:
    _, result, engine = tuned("labeled", demonstrations=3)
    shown = [demo["GI"] for demo in result.predict.demos]
    assert len(shown) == 3
    assert shown.count([]) == 1
    assert engine.requests == []
    assert all(set(demo) == {"report", "GI"} for demo in result.predict.demos)


@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_keeps_what_scores_best_on_validation(seed: int) -> None:
    _, result, _ = tuned("bootstrap", seed, candidates=2)
    assert LEARNT in result.messages("R")[1]["content"]


def test_bootstrap_notes_every_candidate() -> None:
    notes: list[tuple[str, float]] = []
    with fake_model(answer):
        recipe = find_recipe("bootstrap", {})
        recipe(Part(SCHEMA.categories), TRAIN, VALIDATION, context(notes), candidates=3)
    assert [name.split(":")[0] for name, _ in notes] == ["seed", "set 1", "set 2", "set 3"]
    assert notes[0][1] == 0


def test_bootstrap_shows_a_wrong_answer_as_gold() -> None:
    _, result, _ = tuned("bootstrap", candidates=8, demonstrations=6)
    gold = {c.id: list((c.gold or {})["GI"]) for c in TRAIN}
    for demo in result.predict.demos:
        name = next(name for name in gold if f" {name} " in demo["report"])
        assert demo["GI"] == gold[name]
