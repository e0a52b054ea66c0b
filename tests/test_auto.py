"""The default optimizer: what it tries, in which stages, and that no test case has a say in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.flow import run as compiled
from crb_dspy.compile.plan import plan
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.data.splits import Split
from optimizers.auto import NAMES, PROMPTS
from tests import mixed_data
from tests.fake_server import serving
from tests.made_run import home
from tests.made_search import Run, made_plan, made_split, run
from tests.scoring_reply import chance, scoring

KEYS = ["GI", "GU"]


def unsure(case: Case) -> Case:
    """The same where some of what is alike is no finding, so that a classifier can't know all."""
    gold = {key: tuple(q for q in own if chance(q) < 0.6) for key, own in (case.gold or {}).items()}
    return replace(case, gold=gold)


@lru_cache
def searched(**options: int) -> Run:
    made = made_split(KEYS, validation=9)
    split = Split(*(tuple(map(unsure, side)) for side in (made.train, made.validation, made.test)))
    settings = {"optimizer": "auto", "options": options, "adopt": "expected", "gate": 0.1}
    planned = made_plan(split, KEYS, **settings)
    known = [*split.train, *split.validation]
    return run(planned, scoring(known))


def test_every_part_meets_the_same_kinds_in_stages_and_what_each_brought_is_told() -> None:
    found = searched(candidates=3)
    names = {key: {str(row["candidate"]) for row in found.candidates(key)} for key in KEYS}
    assert names["GI"] == names["GU"]
    own = {"classifier alone, weighed", "weighed with the classifier"}
    assert {*own, *NAMES[:3]} <= names["GI"]
    assert f"weighed with the classifier; {NAMES[0]}" in names["GI"]
    assert list(found.tuned.stages) == ["seed", "classifier", "prompts"]
    scores = list(found.tuned.stages.values())
    assert scores[0] < scores[-1]
    assert found.tuned.choice
    assert scores[-1] == found.tuned.choice.expected


def test_it_asks_no_more_than_it_says() -> None:
    found = searched(candidates=3)
    assert len(found.tasks) <= found.planned.estimate.calls


def test_reflection_is_a_stage_where_a_model_for_it_is_named() -> None:
    assert not searched(candidates=3).reflections
    found = searched(candidates=1, rounds=2)
    assert found.reflections
    assert list(found.tuned.stages) == ["seed", "classifier", "prompts", "gepa"]
    settings = {"data": "sample", "categories": KEYS, "optimizer": "auto", "limit": 16}
    named = plan(read_experiment(None, settings | {"reflection_model": "openai/strong"}))
    assert named.tuning.options["rounds"] == 3
    assert "rounds" not in plan(read_experiment(None, settings)).tuning.options
    own = {"reflection_model": "openai/strong", "options": {"rounds": 1}}
    assert plan(read_experiment(None, settings | own)).tuning.options["rounds"] == 1


SAMPLE = load("sample", load_schema("casereportbench")).cases
POISON = {"GI": ("The",), "GU": ("and",)}


def given(folder: Path, cases: Sequence[Case], **changes: object) -> Path:
    """Compile the answers of a made system on cases; return the folder of the artefacts."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"id": c.id, "findings": {k: list(q[:1]) for k, q in (c.gold or {}).items() if k in KEYS}}
        for c in SAMPLE
    ]
    (folder / "given.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [
        {"id": c.id, "sections": dict(c.sections), "gold": {k: list(c.gold[k]) for k in KEYS}}
        for c in cases
        if c.gold
    ]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = {
        "data": str(folder / "cases.jsonl"),
        "categories": KEYS,
        "program": "given",
        "program_options": {"predictions": str(folder / "given.jsonl")},
        "model": "none",
        "options": {"candidates": 0},
        **changes,
    }
    with home(folder):
        return folder / compiled(plan(read_experiment(None, settings))).folder


def test_gold_of_test_cases_changes_nothing_before_the_test(tmp_path: Path) -> None:
    cases = SAMPLE[:20]
    settings = {"split": [0.4, 0.3, 0.3]}
    clean = given(tmp_path / "clean", cases, **settings)
    tested = set(json.loads((clean / "split.json").read_text())["test"])
    poisoned = [replace(c, gold=POISON) if c.id in tested else c for c in cases]
    other = given(tmp_path / "poisoned", poisoned, **settings)
    assert (clean / "candidates.jsonl").read_bytes() == (other / "candidates.jsonl").read_bytes()
    one, two = (json.loads((f / "program.json").read_text()) for f in (clean, other))
    assert one["support"]
    assert [one[name] for name in ("state", "support")] == [two[n] for n in ("state", "support")]
    found = [cells(folder) for folder in (clean, other)]
    assert found[0] == found[1]
    assert {case for case, _ in found[0]} == tested


def test_with_folds_a_case_is_judged_by_what_was_learnt_without_its_gold(tmp_path: Path) -> None:
    cases = SAMPLE[:8]
    settings = {"folds": 2, "split": [0.2, 0.6, 0.2]}
    clean = cells(given(tmp_path / "clean", cases, **settings))
    changed = 0
    for number in (4,):
        poisoned = [replace(c, gold=POISON) if n == number else c for n, c in enumerate(cases)]
        other = cells(given(tmp_path / f"poisoned{number}", poisoned, **settings))
        for key in KEYS:
            assert other[cases[number].id, key] == clean[cases[number].id, key]
        changed += other != clean
    # Else the poison would show nothing.
    assert changed


def cells(folder: Path) -> dict[tuple[str, str], list[str]]:
    """What was found in each cell, by the tuned program and by the classifier beside it."""
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    beside = "predicted_sentence_classifier"
    return {(r["case"], r["category"]): [*r["predicted"], "|", *r[beside]] for r in rows}


def test_a_retrieving_program_is_taught_without_the_test_cases(tmp_path: Path) -> None:
    settings = {"program": "retrieve", "optimizer": "none", "options": {}, "split": [0.4, 0.3, 0.3]}
    settings["program_options"] = {"cut": False}
    cases = SAMPLE[:12]
    clean = given(tmp_path / "clean", cases, **settings)
    tested = set(json.loads((clean / "split.json").read_text())["test"])
    poisoned = [replace(c, gold=POISON) if c.id in tested else c for c in cases]
    other = given(tmp_path / "poisoned", poisoned, **settings)
    assert cells(clean) == cells(other)
    kept = json.loads((clean / "program.json").read_text())["support"]
    assert kept["parts"]["GI"]["floor"] > 1
    assert any(found[:-1] for found in cells(clean).values())


def test_parts_that_no_classifier_helps_try_other_prompts(tmp_path: Path) -> None:
    with home(tmp_path) as place, serving(mixed_data.reply) as server:
        schema, data = mixed_data.written(place.path, 16)
        chosen = ["--set", f"schema={schema}", "--set", "categories=['Course','Findings']"]
        place.compile(server, "--data", data, *chosen, "--force", "--set", "allow_leaks=true")
        tried = {(row["part"], row["candidate"]) for row in place.rows("candidates.jsonl")}
    assert {("Course", name) for name in tuple(PROMPTS)[:2]} <= tried
    assert ("Findings", next(iter(PROMPTS))) not in tried
