"""The commands that show what there is and what would be sent."""

import json
from pathlib import Path

import pytest

from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.origin import Origin
from crb_dspy.saved import Saved, write_program
from tests.in_process import ran

CASE = Case("x", {"Report": "He vomited."})


def shown(*arguments: str) -> str:
    done = ran(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def saved(folder: Path) -> Path:
    schema = load_schema("casereportbench").select(["GI", "GU"])
    seed = build_program("category_specific", schema, {"cot": True})
    part = seed.parts["GI"]
    tuned = seed.with_parts(
        {"GI": part.with_demonstrations([part.demonstration(CASE, {"GI": ["vomited"]})])}
    )
    origin = Origin(
        program="category_specific",
        program_options={"cot": True},
        schema="casereportbench",
        categories=["GI", "GU"],
        model="fake/model",
    )
    return write_program(folder / "program.json", Saved(tuned, schema, origin))


def test_prompts_are_shown_as_they_are_sent_with_their_tokens() -> None:
    (prompt,) = json.loads(
        shown("prompts", "category_specific", "--category", "GI", "--format", "json")
    )
    assert prompt["categories"] == ["GI"]
    assert [message["role"] for message in prompt["messages"]] == ["system", "user"]
    tokens = prompt["tokens"]
    assert tokens["total"] == sum(n for name, n in tokens.items() if name != "total")
    assert tokens["demonstrations"] == 0
    assert tokens["report"] > tokens["question"] > 0


def test_a_compiled_program_is_shown_with_its_demonstrations(tmp_path: Path) -> None:
    text = shown("prompts", str(saved(tmp_path)), "--category", "GI")
    assert "He vomited." in text
    assert "=== GU" not in text


@pytest.mark.parametrize("kind", ["programs", "optimizers", "schemas"])
def test_what_there_is_is_listed(kind: str) -> None:
    text = shown("list", kind, "--verbose")
    expected = {"programs": "filtered", "optimizers": "threshold = 0.7", "schemas": "maccrobat"}
    assert expected[kind] in text


def test_headings_show_where_they_lead() -> None:
    lines = shown("list", "headings").splitlines()
    assert any("Neuro" in line and "Neurological examination" in line for line in lines)
    assert any("  all " in line and "Case report" in line for line in lines)
