"""What test cases are annotated with reaches nothing before the test, whatever is tuned.

tests/test_auto.py has the same without a model: classifier, weighing, choice. Here a model is asked
in all the ways that `auto` knows: demonstrations, second look, a question that comes first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crb_dspy.data.cases import Case
from optimizers.auto import ASKED, NAMES, SILENT
from tests.fake_server import Body, FakeServer, Reply, asked_keys, serving
from tests.scoring_reply import asks_for_findings, chance, sample
from tests.test_auto import KEYS, POISON, SAMPLE, cells, given

FINDING = sample()


def reply(body: Body) -> Reply:
    """Answer by what is asked and not by gold that may be poisoned; now and then say no."""
    prompt = body["messages"][-1]["content"]
    if asks_for_findings(prompt) and "Does this report say anything" in prompt:
        return json.dumps(dict.fromkeys(asked_keys(body), "no" if chance(prompt) < 0.5 else "yes"))
    return FINDING(body)


def compiled(folder: Path, cases: Sequence[Case], **settings: Any) -> tuple[Path, FakeServer]:
    with serving(reply) as server:
        model = {"model": "openai/qwen2.5-test", "api_base": server.address, "threads": 1}
        asking = {"program": "category_specific", "program_options": {}}
        tried = {"options": {"candidates": len(NAMES)}, "adopt": "expected"}
        return given(folder, cases, **(model | asking | tried | settings)), server


def tuned_by(server: FakeServer) -> list[str]:
    """All that the model was asked, in whatever order."""
    return sorted(server.prompts())


def test_poisoned_test_gold_changes_no_prompt_and_no_choice(tmp_path: Path) -> None:
    cases, settings = SAMPLE[:14], {"split": [0.3, 0.4, 0.3]}
    clean, asked = compiled(tmp_path / "clean", cases, **settings)
    tested = set(json.loads((clean / "split.json").read_text())["test"])
    poisoned = [replace(c, gold=POISON) if c.id in tested else c for c in cases]
    other, again = compiled(tmp_path / "poisoned", poisoned, **settings)
    assert tuned_by(asked) == tuned_by(again)
    rows = [(f / "candidates.jsonl").read_text().splitlines() for f in (clean, other)]
    assert rows[0] == rows[1]
    names = {json.loads(line)["candidate"] for line in rows[0]}
    assert {ASKED, *NAMES} - {SILENT} <= names
    one, two = (json.loads((f / "program.json").read_text()) for f in (clean, other))
    assert [one.get(n) for n in ("state", "support")] == [two.get(n) for n in ("state", "support")]
    assert cells(clean) == cells(other)


def test_poisoned_training_gold_changes_what_is_asked(tmp_path: Path) -> None:
    cases, settings = SAMPLE[:14], {"split": [0.3, 0.4, 0.3]}
    clean, asked = compiled(tmp_path / "clean", cases, **settings)
    tested = set(json.loads((clean / "split.json").read_text())["test"])
    poisoned = [c if c.id in tested else replace(c, gold=POISON) for c in cases]
    _, again = compiled(tmp_path / "poisoned", poisoned, **settings)
    assert tuned_by(asked) != tuned_by(again)


def test_with_folds_a_case_is_judged_by_prompts_made_without_its_gold(tmp_path: Path) -> None:
    cases, settings = SAMPLE[:8], {"folds": 2, "split": [0.2, 0.6, 0.2]}
    clean, _ = compiled(tmp_path / "clean", cases, **settings)
    poisoned = [replace(cases[0], gold=POISON), *cases[1:]]
    other, _ = compiled(tmp_path / "poisoned", poisoned, **settings)
    for key in KEYS:
        assert cells(other)[cases[0].id, key] == cells(clean)[cases[0].id, key]
