"""Scoring a saved program: what it prints, and where its model is looked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.benchmarks import load
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluate import main
from crb_dspy.saved import write_program
from crb_dspy.scoring.paper import PAPER
from tests.fake_model import report_of
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.test_saved import WHOLE, tuned

CASES = {case.text.strip(): case for case in load("sample", WHOLE, limit=6).cases}


def right(body: Body) -> Reply:
    """Answer with the gold of the sample, but for GI of the first case, which fails."""
    prompt = body["messages"][-1]["content"]
    if "Task:" not in prompt:
        return empty(body)
    case = CASES[report_of(prompt).strip()]
    (key,) = asked_keys(body)
    if key == "GI" and case is next(iter(CASES.values())):
        return 400
    return json.dumps({key: (case.gold or {})[key]})


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with serving(right) as fake:
        yield fake


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: FakeServer) -> Path:
    """A program that knows its server's address."""
    folder = tmp_path_factory.mktemp("evaluated")
    scores = {"test/score": 0.25}
    write_program(folder / "program.json", tuned(api_base=server.address, scores=scores))
    return folder


def evaluated(folder: Path, *arguments: str) -> str:
    with chdir(folder), redirect_stdout(io.StringIO()) as printed:
        assert main(["program.json", "--data", "sample", "--limit", "6", *arguments]) == 0
    return printed.getvalue()


def test_json_holds_score_metrics_errors_and_cost(folder: Path) -> None:
    found = json.loads(evaluated(folder, "--json", "--threads", "3"))
    # All that is there is found, and of the two cells with nothing one failed.
    assert found["score"]["mean"] == pytest.approx(2 / 3)
    assert found["summary"]["cell_mean"] == pytest.approx(11 / 12)
    assert found["score"]["low"] < 2 / 3 < found["score"]["high"]
    assert (found["score"]["cases"], found["cells"], found["errors"]) == (6, 12, 1)
    assert list(found["categories"]) == ["Neuro", "GI"]
    assert found["categories"]["Neuro"]["score"] == 1
    assert found["categories"]["GI"]["cell_mean"] == pytest.approx(5 / 6)
    assert set(PAPER) < set(found["summary"]) == set(found["categories"]["GI"]) - {"objective"}
    assert found["summary"]["score"] == found["score"]["mean"]
    assert found["categories"]["Neuro"]["tsr_norm"] == 100
    assert found["usage"]["asked"] >= 12
    assert (found["model"], found["tuned"]) == ("openai/fake", {"test/score": 0.25})


def test_workers_of_a_cluster_give_the_same_and_ask_again_what_failed_alone(
    folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mapped(items: list[Any], make: Any, cluster: Any) -> Iterator[Any]:
        work = make()
        return (json.loads(json.dumps(work(json.loads(json.dumps(item))))) for item in items)

    monkeypatch.setattr("crb_dspy.cluster.pool.mapped", mapped)
    monkeypatch.setattr("crb_dspy.cluster.pool.connected", lambda cluster: nullcontext())
    alone = json.loads(evaluated(folder, "--json"))
    server.bodies.clear()
    spread = json.loads(evaluated(folder, "--json", "--engine", "ray", "--workers", "2"))
    apart = ("usage", "seconds")
    assert {n: its for n, its in spread.items() if n not in apart} == {
        n: its for n, its in alone.items() if n not in apart
    }
    assert len(server.bodies) == 12 and spread["usage"]["calls"] == 11
    with next((folder / "mlruns" / "cache" / "ray").iterdir()).open("a") as file:
        file.write('[0, [{"quotes"')  # of a run that was killed just then
    again = json.loads(evaluated(folder, "--json", "--engine", "ray"))
    assert again["score"] == spread["score"] and len(server.bodies) == 14
    assert (again["usage"]["asked"], again["usage"]["calls"]) == (12, 1)


def test_a_cap_ends_an_evaluation_and_the_next_goes_on(tmp_path: Path, server: FakeServer) -> None:
    write_program(tmp_path / "program.json", tuned(api_base=server.address))
    with pytest.raises(RunError, match="--max-calls 5 reached; what was answered is kept"):
        evaluated(tmp_path, "--max-calls", "5")
    server.bodies.clear()
    evaluated(tmp_path, "--max-calls", "9")
    # One call was the first question, whether the server is there, and one failed.
    assert len(server.bodies) == 12 - 3


def test_a_failed_cell_scores_nothing_even_where_nothing_was_to_be_found(
    tmp_path: Path,
) -> None:
    line = {"id": "a", "sections": {"R": "Well."}, "gold": {"GI": []}}
    (tmp_path / "cases.jsonl").write_text(json.dumps(line))
    with serving(lambda body: 400 if "Task:" in str(body) else empty(body)) as failing:
        write_program(tmp_path / "program.json", tuned(api_base=failing.address))
        given = ("--data", "cases.jsonl", "--json", "--max-failed", "1")
        found = json.loads(evaluated(tmp_path, *given))
    assert (found["score"]["mean"], found["summary"]["score"], found["errors"]) == (0, 0, 2)
    assert found["score"]["low"] is None


def test_the_table_says_the_same(folder: Path) -> None:
    printed = evaluated(folder)
    assert "data       sample: 6 cases, 2 categories" in printed
    assert "score      0.667  95 % interval" in printed
    assert "0.250 when it was tuned" in printed
    assert "errors     1 of 12 cells, 0 of them mended" in printed
    for name in ("calls ", "tokens ", "seconds ", "nonempty_f1", "hallucination", "Neuro"):
        assert name in printed


def test_a_schema_of_ones_own_reads_gold_of_categories_that_are_not_asked_for(
    tmp_path: Path, server: FakeServer
) -> None:
    toml = "\n".join(
        f'[[category]]\nkey = "{key}"\ntitle = "T"\nguidance = "g"\ninstruction = "Quote."'
        for key in ("Rash", "Pain")
    )
    (tmp_path / "mine.toml").write_text(toml)
    from crb_dspy.data.schema import load_schema

    schema = load_schema(str(tmp_path / "mine.toml")).select(["Rash"])
    line: dict[str, Any] = {"id": "a", "sections": {"R": "Pain."}, "gold": {"Pain": ["Pain"]}}
    (tmp_path / "cases.jsonl").write_text(json.dumps(line))
    with serving() as other:
        saved = tuned("monolithic", {}, schema, api_base=other.address, schema="mine.toml")
        write_program(tmp_path / "program.json", saved)
        found = json.loads(evaluated(tmp_path, "--data", "cases.jsonl", "--json"))
    assert list(found["categories"]) == ["Rash"]
    assert found["score"]["mean"] == 1


def test_a_mistake_asks_nothing(folder: Path) -> None:
    (folder / "bare.jsonl").write_text('{"id": "a", "sections": {"R": "x"}}')
    with serving(right) as server, chdir(folder):
        base = ["--api-base", server.address]
        for arguments, said in (
            (["program.json", "--data", "bare.jsonl"], "no case has gold"),
            (["program.json", "--data", "nowhere.jsonl"], "cannot be read"),
            (["program.json", "--data", "sample", "--limit", "0"], "keep at least one"),
            (["program.json", "--data", "sample", "--threads", "0"], "--threads 0"),
            (["nowhere", "--data", "sample"], "no such program"),
        ):
            with pytest.raises(UserError, match=said):
                main([*arguments, *base])
        assert server.bodies == []


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("evaluate", ["--data", "sample"]),
        ("extract", ["--input", "x", "--out", "y"]),
        ("export", ["--to", "messages", "--out", "y"]),
    ],
)
def test_as_a_command_a_mistake_is_one_line_and_help_needs_no_heavy_import(
    tmp_path: Path, module: str, more: list[str]
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"crb_dspy.{module}"]
    options: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True}
    helped = subprocess.run([*command, "--help"], timeout=60, **options)
    assert helped.returncode == 0
    assert "usage: " in helped.stdout
    assert not {"dspy", "litellm", "mlflow", "pandas"} & {
        line.rpartition("|")[2].strip() for line in helped.stderr.splitlines()
    }
    command = [sys.executable, "-m", f"crb_dspy.{module}", "nowhere", *more]
    done = subprocess.run(command, env=dict(os.environ), timeout=60, **options)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: nowhere: no such program; name a program.json or the folder it is in\n"
    )
    assert list(tmp_path.iterdir()) == []
