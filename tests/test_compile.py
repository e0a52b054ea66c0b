"""The whole flow through its command, against a real HTTP server by way of LiteLLM."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from crb_dspy.compile import __main__ as command
from crb_dspy.errors import RunError, UserError
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.in_process import ran
from tests.made_run import SMALL, home
from tests.scoring_reply import sample

SECRET = "sk-this-key-must-not-be-anywhere"
WAYWARD = {
    "prose": "The patient seemed well on the whole.",
    "empty": "",
    "broken": '{"Neuro": ["had a seizure',
    "repeating": '{"Neuro": [' + '"no seizures", ' * 500,
}


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compile in a process of its own."""
    command = [sys.executable, "-m", "crb_dspy.compile", *arguments]
    environment = {**own_store(), "OPENAI_API_KEY": SECRET}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )


def compiled(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compile in this process, with the store in its usual place."""
    with home(folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.setenv("OPENAI_API_KEY", SECRET)
        return ran("compile", *arguments)


def own_store() -> dict[str, str]:
    """Return the environment without the store of other tests of this process."""
    return {name: text for name, text in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


def flags(server: FakeServer, *more: str) -> list[str]:
    return ["--model", "openai/fake", "--api-base", server.address, *more]


def runs(folder: Path, kind: str = "compile") -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, f"tags.kind = '{kind}'"))


def cells(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("mlruns/out/*/cells.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def wayward(body: Body) -> Reply:
    """Answer one category of five badly, each in its own way, and the rest with nothing."""
    if "Task:" not in body["messages"][-1]["content"]:
        return empty(body)
    (key,) = asked_keys(body)
    bad = {"Neuro": "prose", "EENT": "empty", "CVS": "broken", "RESP": "repeating"}
    if key == "GI":
        return 400
    return WAYWARD[bad[key]].replace("Neuro", key) if key in bad else empty(body)


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, FakeServer, str]]:
    """One compile over all categories with a model that misbehaves in five of them."""
    folder = tmp_path_factory.mktemp("survived")
    settings = ["--categories", "all", "--optimizer", "labeled", "--threads", "4", "--limit", "9"]
    # Answers that take no time would hardly ever be under way together.
    with serving(wayward, delay=0.02) as server:
        done = started(folder, *flags(server, *settings))
        assert done.returncode == 0, done.stderr
        yield folder, server, done.stdout


def test_a_bad_answer_is_a_row_with_its_error_and_the_others_stand(survived: Any) -> None:
    rows = cells(survived[0])
    assert len(rows) == 14 * len({row["case"] for row in rows})
    errors = {row["category"]: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"Neuro", "EENT", "CVS", "RESP", "GI"}
    assert "no list of quotes" in errors["Neuro"]
    assert "empty answer" in errors["EENT"]
    assert "broken JSON" in errors["CVS"]
    assert "500 quotes, 1 of them distinct" in errors["RESP"]
    assert "broken with 400" in errors["GI"]
    assert {row["category"] for row in rows if row["salvaged"]} == {"CVS", "RESP"}
    assert all(row["score"] == 0 for row in rows if row["error"] and not row["salvaged"])


def test_the_summary_counts_errors_and_names_what_to_do_next(survived: Any) -> None:
    folder, _, printed = survived
    rows = cells(folder)
    wrong, saved = sum(bool(r["error"]) for r in rows), sum(r["salvaged"] for r in rows)
    assert f"errors     {wrong} of {len(rows)} cells, {saved} of them mended" in printed
    for line in (
        "baseline ",
        "tuned ",
        "difference ",
        "calls ",
        "tokens ",
        "artefacts ",
        "mlflow ui",
    ):
        assert line in printed


def test_no_more_calls_than_threads_were_under_way(survived: Any) -> None:
    assert 1 < survived[1].most <= 4


def test_the_run_holds_its_parameters_metrics_and_artefacts(survived: Any) -> None:
    folder = survived[0]
    (run,) = runs(folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["program"] == "category_specific"
    assert run.data.params["optimizer"] == "labeled"
    for name in ("test/score", "test/score_baseline", "test/GU", "test/Pregnancy", "cost/calls"):
        assert name in run.data.metrics
    for name in ("cost/tokens", "cost/seconds", "test/negation_recall", "paper/tsr_norm"):
        assert name in run.data.metrics
    kept = {path.name for path in folder.glob("mlruns/artifacts/*/artifacts/*")}
    assert kept >= {"experiment.toml", "split.json", "program.json", "prompts.md", "cells.json"}
    assert kept >= {"candidates.jsonl", "candidates.json", "report.html", "cells.jsonl"}
    shown = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in shown] == ["cells.json", "candidates.json"]
    assert run.data.params["few_shot"] in ("True", "False")


def test_every_part_is_a_run_below_it_with_its_outcome(survived: Any) -> None:
    (run,), parts = runs(survived[0]), runs(survived[0], "part")
    assert len(parts) == 14
    assert {part.data.tags["mlflow.parentRunId"] for part in parts} == {run.info.run_id}
    outcomes = [part.data.params["outcome"] for part in parts]
    assert set(outcomes) <= {"taken", "seed kept", "not searched"}
    for part, outcome in zip(parts, outcomes, strict=True):
        expected = {name: part.data.metrics.get(f"expected/{name}") for name in ("gain", "chance")}
        assert (expected["gain"] is not None) == (outcome == "taken")
        assert outcome != "taken" or 0.5 < expected["chance"] <= 1


def test_no_key_is_kept_anywhere(survived: Any) -> None:
    folder, _, printed = survived
    assert SECRET not in printed
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_the_same_command_again_asks_nothing_and_finds_the_same(tmp_path: Path) -> None:
    with serving() as server:
        same = [str(SMALL), *flags(server, "--threads", "4")]
        first = compiled(tmp_path, *same)
        asked = len(server.bodies)
        again = started(tmp_path, *same)
        assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
        assert len(server.bodies) == asked > 30
    assert "calls      0," in again.stdout
    assert first.stdout.split("errors")[0] == again.stdout.split("errors")[0]
    texts = [len({p.read_text() for p in tmp_path.glob(f"mlruns/artifacts/*/artifacts/{name}")})
             for name in ("program.json", "cells.json", "prompts.md")]  # fmt: skip
    assert texts == [1, 1, 1]


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    arguments = ["--model", "openai/fake", "--api-base", "http://127.0.0.1:9/v1"]
    done = compiled(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model 'openai/fake' at http://127.0.0.1:9/v1")
    assert done.stderr.count("\n") == 1
    assert not runs(tmp_path)


def test_a_server_without_structured_output_is_asked_without(tmp_path: Path) -> None:
    with serving(lambda body: 400 if "response_format" in body else empty(body)) as server:
        done = compiled(tmp_path, *flags(server, "--optimizer", "none"))
    assert done.returncode == 0, done.stderr
    assert "errors     0 of" in done.stdout


def test_a_server_that_dies_in_the_middle_fails_the_run(tmp_path: Path) -> None:
    alive = 8

    def dying(body: Body) -> Reply:
        return empty(body) if len(server.bodies) < alive else 401

    with serving(dying) as server:
        done = compiled(tmp_path, *flags(server))
    assert done.returncode == 1
    assert "stopped answering" in done.stderr
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert "test/score" not in run.data.metrics


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_killed_and_legible(tmp_path: Path, stop: signal.Signals) -> None:
    with serving(delay=0.2) as server, home(tmp_path):
        own = flags(server, "--optimizer", "bootstrap")
        command = [sys.executable, "-m", "crb_dspy.compile", *own]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=own_store(),
            stderr=subprocess.PIPE,
            text=True,
            # Children of a background shell are made to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while len(server.bodies) < 5:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.strip().endswith("interrupted")
    assert "Traceback" not in errors
    (run,) = runs(tmp_path)
    assert run.info.status == "KILLED"
    assert run.data.params["optimizer"] == "bootstrap"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--program", "monolitic"], "unknown program 'monolitic': did you mean 'monolithic'?"),
        (["--optimizer", "boostrap"], "unknown optimizer 'boostrap': did you mean 'bootstrap'?"),
        (["--categories", "Neuro,GX"], "unknown category 'GX': did you mean 'GU'?"),
        (["--set", "sead=1"], "unknown key 'sead': did you mean 'seed'?"),
        (
            ["--optimizer", "bootstrap", "--set", "options.candidate=1"],
            "unknown option 'candidate': did you mean 'candidates'?",
        ),
        (["--set", "program_options.cott=1"], "unknown option 'cott': did you mean 'cot'?"),
        (["--threads", "0"], "threads = 0"),
        (["--set", "objective=tsr_nrom"], "unknown objective 'tsr_nrom': did you mean 'tsr_norm'"),
        (["--model", "local/qwen"], "unknown local model 'qwen'"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--data", "$NOT_SET_ANYWHERE/x.jsonl"], "set the environment variable"),
        (["none.toml"], "none.toml: no such experiment file"),
        (
            ["--set", "options.trials=abc"],
            "'trials' = 'abc': input should be a valid integer",
        ),
        (["--set", "options.trials=-1"], "'trials' = -1: input should be greater than 0"),
        (["--program", "./broken.py:P"], "program 'broken.py': SyntaxError: '(' was never closed"),
        (["--optimizer", "./lost.py:f"], "optimizer 'lost.py': ModuleNotFoundError: No module"),
        (["--out", "taken"], "taken/quickstart-"),
        (["--categories", "all", "--set", "context=512"], "context = 512: an answer alone may"),
    ],
)
def test_a_mistake_is_one_line_and_asks_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "broken.py").write_text("class P(")
    (tmp_path / "lost.py").write_text("import nowhere_to_be_found")
    (tmp_path / "taken").write_text("a file")
    with serving() as server, home(tmp_path) as place:
        with pytest.raises(UserError) as caught:
            place.compile(server, *arguments)
        assert server.bodies == []
        assert not (tmp_path / "mlruns/out").exists()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cap_in_dollars_needs_a_price(tmp_path: Path) -> None:
    few = ["--model", "openai/unheard-of", "--max-usd", "5"]
    with home(tmp_path), pytest.raises(UserError, match="no price is known for 'openai/unheard-of"):
        command.main(few)


def test_a_model_that_answers_nothing_of_use_is_no_result(tmp_path: Path) -> None:
    prose = serving(lambda body: "I am sorry." if "Task: " in str(body) else '{"answer": []}')
    with prose as server, home(tmp_path) as place:
        with pytest.raises(RunError, match=r"about no cell of the baseline; \d+ times: "):
            place.compile(server)
        assert place.runs()[0].info.status == "FAILED"


def test_a_mistake_ends_the_command_with_2_and_one_line(tmp_path: Path) -> None:
    done = started(tmp_path, "--optimizer", "boostrap")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown optimizer 'boostrap'")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_dry_run_asks_nothing_and_counts_what_it_would(tmp_path: Path) -> None:
    with serving() as server:
        done = ran("compile", *flags(server, "--dry-run", "--optimizer", "mipro"), cwd=tmp_path)
        assert server.bodies == []
    assert done.returncode == 0
    (most,) = re.findall(r"^estimate   at most (\d+) calls, about [\d,]+ prompt", done.stdout, re.M)
    line = (
        r"^ +(check|baseline|headroom(?: test)?|search|gate|test) +(task|reflection) +(\d+) calls"
    )
    phases = re.findall(line, done.stdout, re.M)
    # One for each role of a stage that asks: the gate of a choice by expectation does not.
    assert len(phases) == 7
    assert sum(int(calls) for *_, calls in phases) == int(most) > 50
    assert not (tmp_path / "mlruns").exists()


def test_a_dry_run_says_what_prompts_cost_where_a_price_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*more: str) -> str:
        command.main(["--optimizer", "mipro", "--dry-run", *more])
        return next(x for x in capsys.readouterr().out.splitlines() if x.startswith("estimate"))

    with home(tmp_path):
        dear = re.search(r"\$(\d+\.\d\d) before answers$", told("--model", "openai/gpt-4o"))
        assert dear
        assert float(dear[1]) > 0
        assert "$" not in told()
        assert "$" in told("--reflection-model", "openai/gpt-4o")


def test_ones_own_data_is_not_taken_for_the_quickstart(tmp_path: Path) -> None:
    lines = [
        {"id": f"c{i}", "sections": {"R": f"Case {i} had cough."}, "gold": {"RESP": ["cough"]}}
        for i in range(3)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with serving() as server:
        own = ["--data", "own.jsonl", "--optimizer", "labeled", "--dry-run"]
        done = ran("compile", *flags(server), *own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = "1 train, 1 validation, 1 test cases, 1 category"
    assert f"own.jsonl: {sizes}" in done.stdout


def test_a_program_and_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from crb_dspy.program import ExtractionProgram, Part\n"
        "class Mine(ExtractionProgram):\n"
        "    def build(self, schema):\n"
        "        return {'everything': Part(schema.categories)}\n"
        "def recipe(part, train, validation, context, *, word='Find'):\n"
        "    part = part.deepcopy()\n"
        "    part.predict.signature = part.predict.signature.with_instructions(word)\n"
        "    return part\n"
    )
    own = ["--program", "./mine.py:Mine", "--optimizer", "./mine.py:recipe"]
    with serving() as server:
        done = compiled(tmp_path, *flags(server), *own, "--set", "options={word='Seek'}")
        assert done.returncode == 0, done.stderr
        assert any("Task: Seek\n" in prompt for prompt in server.prompts())


LABELED = ["--optimizer", "labeled", "--limit", 12, "--set"]


@pytest.mark.parametrize("gate", [1, 0.001])
def test_demonstrations_replace_the_seed_only_if_fresh_cases_show_a_gain(
    tmp_path: Path, gate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *LABELED, f"gate={gate}")
        written = (place.out / "prompts.md").read_text()
        shown = "Examples, from other patients" in written
        (run,) = place.runs()
        assert run.data.params["few_shot"] == str(gate == 1)
        assert run.data.metrics["test/improved_parts"] == 2 * (gate == 1)
    printed = capsys.readouterr().out
    assert shown == ("(tuned)" in written) == (gate == 1)
    said = "taken (no gate)" if gate == 1 else "no gain shown: "
    assert len(re.findall(rf"^ +\w+: {re.escape(said)}", printed, re.M)) == 2
    assert ("### Change" in written) == (gate == 1)
