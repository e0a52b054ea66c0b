"""A run that was broken off, at whatever moment, goes on to the result of an unbroken one."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.compile import resume
from crb_dspy.errors import RunError, UserError
from crb_dspy.tracking import run as mlflow_run
from crb_dspy.tracking import store as tracking
from tests.fake_server import Body, FakeServer, Reply, serving
from tests.made_run import Home, empty_store, home, repeated, results
from tests.scoring_reply import sample

FEW = ["--limit", 16, "--categories", "GI", "--optimizer", "factors", "--force"]


def metrics(run: Any) -> dict[str, float]:
    return {k: v for k, v in run.data.metrics.items() if not k.startswith("cost/")}


# The same again.


@pytest.mark.parametrize("optimizer", ["mipro", "gepa", "simba", "factors"])
def test_the_same_experiment_on_the_same_cache_gives_the_same_bytes(
    tmp_path: Path, optimizer: str
) -> None:
    same = ["--limit", 16, "--optimizer", optimizer, "--force", "--threads", 8]
    with serving(sample()) as server, home(tmp_path) as place:
        once, again = repeated(place, server, *same)
        assert metrics(again) == metrics(once)


# kill -9.


def ended(folder: Path) -> Any:
    """The one run of a folder's own store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
        (run,) = Home(folder).runs()
    return run


def started(folder: Path, server: FakeServer, *arguments: str) -> subprocess.Popen[str]:
    (folder / "mlruns").mkdir(parents=True, exist_ok=True)
    if not (folder / "mlruns/mlflow.db").exists():
        shutil.copy(empty_store(), folder / "mlruns/mlflow.db")
    command = [sys.executable, "-m", "crb_dspy.compile", "--model", "openai/fake"]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [*command, "--api-base", server.address, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_killed_at_ten_moments_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    large = ["--categories", "all", "--limit", "34", "--optimizer", "mipro", "--threads", "2"]
    large += ["--force", "--set", "gate=0.3"]
    with serving(sample()) as server:
        process = started(tmp_path / "unbroken", server, *large)
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
        whole = len(server.bodies)
        assert whole >= 900
        server.bodies.clear()
        moments = random.Random(5)
        for threshold in sorted(moments.sample(range(30, whole - 30), 10)):
            process = started(tmp_path / "broken", server, *large)
            while len(server.bodies) < threshold:
                assert process.poll() is None, process.communicate()
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))
            process.kill()
            process.communicate()
        process = started(tmp_path / "broken", server, *large, "--resume")
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
        asked = len(server.bodies)
    folders = [next((tmp_path / name / "mlruns/out").iterdir()) for name in ("unbroken", "broken")]
    unbroken, broken = map(results, folders)
    assert broken == unbroken
    assert whole <= asked <= 1.02 * whole
    once, often = ended(tmp_path / "unbroken"), ended(tmp_path / "broken")
    assert once.info.status == often.info.status == "FINISHED"
    assert metrics(once) == metrics(often)


# Servers that fail.


def test_a_server_that_wants_to_be_asked_later_is_waited_for(tmp_path: Path) -> None:
    living, numbers = sample(), count()

    def busy(body: Body) -> Reply:
        return (429, {"Retry-After": "0.02"}) if 20 <= next(numbers) < 40 else living(body)

    with serving(busy) as server, home(tmp_path) as place:
        place.compile(server, *FEW)
        (run,) = place.runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["cost/calls"] == len(server.bodies) - 20
    assert run.data.metrics["test/errors"] == 0


def test_after_a_server_died_the_same_command_goes_on_with_the_same_run(tmp_path: Path) -> None:
    living, dead = sample(), [False]

    def mortal(body: Body) -> Reply:
        dead[0] = dead[0] or len(server.bodies) == 12
        return 500 if dead[0] else living(body)

    with serving(mortal) as server, home(tmp_path) as place:
        with pytest.raises(RunError, match="stopped answering"):
            place.compile(server, *FEW)
        (broken,) = place.runs()
        assert broken.info.status == "FAILED"
        answered = set(server.prompts()[:11])
        dead[0] = False
        server.bodies[:] = [{"messages": [{"content": ""}]}] * 100
        place.compile(server, *FEW, "--resume")
        (run,) = place.runs()
        assert run.info.run_id == broken.info.run_id
        assert run.info.status == "FINISHED"
        assert not answered & set(server.prompts()[100:])
        assert run.data.metrics["test/score_baseline"] > 0
        assert len(place.runs("part")) == 1


# What is no going on.


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[tuple[Home, FakeServer]]:
    """A run over cases of one's own, broken off in its search."""
    lines = [
        {"id": f"c{n}", "sections": {"R": f"Case {n} had cough."}, "gold": {"RESP": ["cough"]}}
        for n in range(12)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    numbers = count()

    def mortal(body: Body) -> Reply:
        return 500 if next(numbers) > 8 else '{"RESP": ["cough"]}'

    with serving(mortal) as server, home(tmp_path) as place:
        with pytest.raises(RunError):
            place.compile(server, *OWN)
        server.bodies.clear()
        yield place, server


OWN = ["--data", "own.jsonl", "--categories", "RESP", "--optimizer", "factors", "--force"]


def refusal(place: Home, server: FakeServer, *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        place.compile(server, *OWN, *arguments, "--resume")
    message = str(caught.value)
    assert message.startswith("--resume: ")
    assert message.endswith("run without --resume")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seed", 7], "seed: 0 then, 7 now"),
        (["--optimizer", "mipro"], "optimizer: 'factors' then, 'mipro' now"),
        (["--set", "options.trials=3"], "options: {} then, {'trials': 3} now"),
        (["--program", "monolithic"], "prompts of the seed: "),
    ],
)
def test_a_changed_experiment_is_refused_with_what_changed(
    stopped: tuple[Home, FakeServer], change: list[object], said: str
) -> None:
    assert said in refusal(*stopped, *change)
    assert stopped[1].bodies == []


def test_a_changed_data_set_is_refused(stopped: tuple[Home, FakeServer]) -> None:
    place, server = stopped
    path = place.path / "own.jsonl"
    path.write_text(path.read_text().replace("Case 3 had", "Case 3 has"))
    message = refusal(place, server)
    assert "data set: '" in message
    assert "seed" not in message
    assert server.bodies == []


def test_a_changed_schema_or_recipe_of_ones_own_is_refused(tmp_path: Path) -> None:
    schema, recipe = tmp_path / "mine.toml", tmp_path / "mine.py"
    schema.write_text(
        '[[category]]\nkey = "GI"\ntitle = "Bowel"\nguidance = "pain"\ninstruction = "Quote."\n'
    )
    recipe.write_text("def recipe(part, train, validation, context):\n    return part\n")
    own = ["--data", "own.jsonl", "--optimizer", "./mine.py:recipe", "--set", "schema=mine.toml"]
    lines = [
        {"id": f"c{n}", "sections": {"R": f"Case {n}: pain."}, "gold": {"GI": ["pain"]}}
        for n in range(12)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with serving(lambda _: '{"GI": ["pain"]}') as server, home(tmp_path) as place:
        place.compile(server, *own)
        recipe.write_text(recipe.read_text() + "# changed\n")
        with pytest.raises(UserError, match="file of the optimizer: '"):
            place.compile(server, *own, "--resume")
        recipe.write_text(recipe.read_text().removesuffix("# changed\n"))
        schema.write_text(schema.read_text().replace('"pain"', '"aches"'))
        with pytest.raises(UserError, match="schema's text: '"):
            place.compile(server, *own, "--resume")


def test_a_changed_endpoint_is_refused_before_it_is_asked(
    stopped: tuple[Home, FakeServer],
) -> None:
    with serving() as other:
        message = refusal(stopped[0], other)
        assert f"api_base: '{stopped[1].address}' then, '{other.address}' now" in message
        assert other.bodies == []


def test_without_the_flag_a_changed_experiment_is_another_run(
    stopped: tuple[Home, FakeServer],
) -> None:
    place, server = stopped
    with pytest.raises(RunError):
        place.compile(server, *OWN, "--seed", 7)
    assert len(place.runs()) == 2
    assert len(list((place.path / "mlruns/out").iterdir())) == 2


def test_there_is_no_going_on_with_nothing(tmp_path: Path) -> None:
    nothing = pytest.raises(UserError, match=r"--resume: no run 'quickstart' in .*start one")
    with serving() as server, home(tmp_path) as place, nothing:
        place.compile(server, *FEW, "--resume")


def test_a_finished_run_is_gone_through_again_and_not_written_to(tmp_path: Path) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *FEW)
        asked = len(server.bodies)
        place.compile(server, *FEW, "--resume")
        assert len(server.bodies) == asked
        assert len(place.runs()) == 2


# The file that says what a run was.


NOW = {"seed": 0, "options": {"trials": 3}, "data set": "abc"}


def test_the_same_question_finds_its_run_again(tmp_path: Path) -> None:
    assert resume.then(tmp_path, NOW) is None
    for finished in (False, True):
        resume.write(tmp_path, NOW, "run-1", finished=finished)
        state = resume.then(tmp_path, NOW, must=True)
        assert state is not None
        assert (state["mlflow"], state["finished"]) == ("run-1", finished)
    assert resume.then(tmp_path, NOW | {"seed": 1}) is None


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"inputs": {}}', '"run"', "\x00"])
def test_a_torn_file_is_no_run(tmp_path: Path, torn: str) -> None:
    (tmp_path / resume.NAME).write_text(torn)
    assert resume.then(tmp_path, NOW) is None


def test_every_change_is_named() -> None:
    assert resume.changed(NOW, NOW) == []
    now = {"seed": 1, "options": {"trials": 4}, "new": True}
    assert resume.changed(NOW, now) == [
        "seed: 0 then, 1 now",
        "options: {'trials': 3} then, {'trials': 4} now",
        "data set: 'abc' then, None now",
        "new: None then, True now",
    ]


@pytest.mark.parametrize("method", ["table", "log", "describe"])
def test_a_run_killed_while_it_is_written_is_written_once(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        written = getattr(mlflow_run.Run, method)

        def killed(*arguments: Any) -> None:
            written(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(mlflow_run.Run, method, killed)
        with pytest.raises(KeyboardInterrupt):
            place.compile(server, *FEW)
        monkeypatch.setattr(mlflow_run.Run, method, written)
        place.compile(server, *FEW)
        (run,) = place.runs()
        assert run.info.status == "FINISHED"
        assert "ended" not in run.data.tags
        assert len(place.runs("part")) == 1
        cells = json.loads(tracking.fetch(run.info.run_id, "cells.json").read_text())
        assert len(cells["data"]) == len(place.rows("cells.jsonl"))
