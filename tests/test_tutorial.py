"""The tutorial does what it says: its commands are run, its lines are compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crb_dspy.convert.documents import Document, Mark, in_order
from crb_dspy.convert.formats import labelstudio
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.quotes.grounding import ground
from tests.fake_server import Body, Reply, empty, serving

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs/tutorial.md"


def answer(body: Body) -> Reply:
    """Draft no category, find nothing."""
    return "[]" if "Write the categories" in body["messages"][-1]["content"] else empty(body)


def document(case: Case) -> Document:
    marks = (
        Mark(*ground(case.text, quote).spans[0], key)
        for key in ("GI", "Neuro")
        for quote in (case.gold or {})[key]
    )
    return Document(case.id, case.text, in_order(marks))


def blocks(text: str) -> list[tuple[str, str]]:
    """The commands of a page, each with the lines that it is said to print."""
    kept = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    parts = re.split(r"^\$ ", "\n".join(kept), flags=re.MULTILINE)[1:]
    return [(command, lines) for command, _, lines in (part.partition("\n") for part in parts)]


def test_the_commands_of_the_tutorial_are_read() -> None:
    commands = [command.split()[2] for command, _ in blocks(TUTORIAL.read_text("utf-8"))]
    wanted = ("convert", "init", "compile", "extract", "convert", "suggest")
    assert commands == [f"crb_dspy.{name}" for name in wanted]


@pytest.mark.slow
def test_the_tutorial_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    cases = load("sample", load_schema("casereportbench")).cases
    labelstudio.write(tmp_path / "export.json", [document(case) for case in cases[:12]])
    (tmp_path / "reports").mkdir()
    for case in cases[12:15]:
        (tmp_path / "reports" / f"{case.id}.txt").write_text(case.text)
    with serving(answer) as server:
        own = {
            "MODEL": "openai/fake",
            "API_BASE": server.address,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        }
        for command, lines in blocks(TUTORIAL.read_text("utf-8")):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env={k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"} | own,
                capture_output=True,
                text=True,
                timeout=500,
            )
            assert done.returncode == 0, (command, done.stderr)
            said = re.escape(lines.strip()).replace(re.escape("..."), "(?:.|\n)*?")
            assert re.match(said, done.stdout), (command, done.stdout)
    (card,) = tmp_path.glob("mlruns/out/mine-*/card.md")
    told = card.read_text("utf-8")
    assert told.startswith("# mine\n") and "## Known weaknesses" in told
    assert ("licence" in told or "of no report" in told) and "| tuned | " in told
    tasks = json.loads((tmp_path / "tasks.json").read_text("utf-8"))
    assert [task["data"]["case"] for task in tasks] == [case.id for case in cases[12:15]]
