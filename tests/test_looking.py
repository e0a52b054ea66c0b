"""The commands that show what there is and what would be sent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crb_dspy.cases import Case
from crb_dspy.catalog import build_program
from crb_dspy.saved import Origin, Saved, write_program
from crb_dspy.schema import load_schema

CASE = Case("x", {"Report": "He vomited."})


def ran(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
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
        ran("crb_dspy.prompts", "category_specific", "--category", "GI", "--format", "json")
    )
    assert prompt["categories"] == ["GI"]
    assert [message["role"] for message in prompt["messages"]] == ["system", "user"]
    tokens = prompt["tokens"]
    assert tokens["total"] == sum(n for name, n in tokens.items() if name != "total")
    assert tokens["demonstrations"] == 0
    assert tokens["report"] > tokens["question"] > 0


def test_a_compiled_program_is_shown_with_its_demonstrations(tmp_path: Path) -> None:
    text = ran("crb_dspy.prompts", str(saved(tmp_path)), "--category", "GI")
    assert "He vomited." in text
    assert "=== GU" not in text


@pytest.mark.parametrize("kind", ["programs", "optimizers", "schemas"])
def test_what_there_is_is_listed(kind: str) -> None:
    shown = ran("crb_dspy.list", kind, "--verbose")
    expected = {"programs": "filtered", "optimizers": "threshold = 0.7", "schemas": "maccrobat"}
    assert expected[kind] in shown


def test_headings_show_where_they_lead() -> None:
    lines = ran("crb_dspy.list", "headings").splitlines()
    assert any("Neuro" in line and "Neurological examination" in line for line in lines)
    assert any("  all " in line and "Case report" in line for line in lines)


@pytest.mark.parametrize("module", ["compile", "score", "audit", "prompts", "list"])
def test_help_needs_no_heavy_import(module: str) -> None:
    code = (
        f"import sys; sys.argv = ['{module}', '--help']\n"
        f"from crb_dspy.{module} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'dspy', 'mlflow', 'litellm', 'pandas', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
