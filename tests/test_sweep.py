"""Sweeps and studies through their command, against a real HTTP server by way of LiteLLM."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from crb_dspy.compile import resume
from crb_dspy.errors import UserError
from crb_dspy.sweep import __main__ as sweep
from crb_dspy.sweep.grid import Point, points, read_grid
from crb_dspy.sweep.points import Outcome, folder, side_by_side
from crb_dspy.sweep.study import EARLY, OUTCOME, WORKER, Study
from crb_dspy.tracking import store as tracking
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.made_run import empty_store

GRID = """
name = "small"
data = "cases.jsonl"
categories = ["GI"]
split = [0.25, 0.0, 0.75]
program = ["monolithic", "category_specific"]
model = "openai/fake"

[points.zero-shot]
optimizer = "none"

[points.few-shot]
optimizer = "labeled"
gate = 1.0
"""
STUDY = """
name = "small"
data = "cases.jsonl"
categories = ["GI"]
split = [0.25, 0.0, 0.75]
optimizer = "none"
model = "openai/fake"
search = "optuna"
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str
    calls: int

    @property
    def lines(self) -> dict[str, str]:
        """The lines of the points, by name, as they came."""
        return dict(re.findall(r"^ *\d+/\d+ +(\S+) +(.*)$", self.out, re.MULTILINE))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all tests."""
    return f"sqlite:///{shutil.copy(empty_store(), tmp_path_factory.mktemp('store'))}"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    _write_cases(16)


def _write_cases(number: int) -> None:
    lines = [
        {"id": f"c{i}", "sections": {"Report": f"Case {i} had colic."}, "gold": {"GI": ["colic"]}}
        for i in range(number)
    ]
    Path("cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def right(body: Body) -> Reply:
    """Find everything, but nothing when asked to reason first."""
    last = body["messages"][-1]["content"].strip().splitlines()[-1]
    if "Task:" not in body["messages"][-1]["content"] or '"reasoning"' in last:
        return empty(body)
    return json.dumps({key: ["colic"] for key in asked_keys(body)})


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving(right, delay=0.01) as fake:
        yield fake


def swept(
    capsys: pytest.CaptureFixture[str], server: FakeServer, text: str, *arguments: str
) -> Done:
    Path("sweep.toml").write_text(text)
    before = len(server.bodies)
    code = sweep.main(["sweep.toml", "--api-base", server.address, *arguments])
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err, len(server.bodies) - before)


def runs() -> list[Any]:
    client: Any = tracking.connect()
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return [run for run in found if run.data.params.get("optimizer")]


def test_every_point_is_a_compile_under_one_cap_and_is_not_run_again(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    earlier = len(runs())
    first = swept(capsys, server, GRID, "--threads", "3")
    programs, shots = ("monolithic", "category_specific"), ("zero-shot", "few-shot")
    names = {f"{program}-{shot}" for program in programs for shot in shots}
    assert first.code == 0, first.err
    assert set(first.lines) == names
    assert all(line.startswith("1.000 ") for line in first.lines.values())
    assert 1 < server.most <= 3
    # With one category both programs ask the same: who asked first is of no account.
    tokens = {n: re.findall(r"(\S+) tokens", line) for n, line in first.lines.items()}
    assert tokens["monolithic-zero-shot"] == tokens["category_specific-zero-shot"]
    mine = runs()[: len(runs()) - earlier]
    assert {run.info.run_name for run in mine} == names
    assert {run.info.status for run in mine} == {"FINISHED"}

    again = swept(capsys, server, GRID, "--threads", "3")
    assert (again.code, again.calls) == (0, 0)
    assert all("finished before" in line for line in again.lines.values())
    assert len(runs()) == earlier + 4

    more = swept(
        capsys, server, GRID.replace("program = [", 'program = ["filtered", '), "--threads", "3"
    )
    news = {name for name, line in more.lines.items() if "finished before" not in line}
    assert news == {"filtered-zero-shot", "filtered-few-shot"}


def test_points_that_start_from_the_same_seed_ask_it_once(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    server.delay = 0.1
    done = swept(capsys, server, GRID, "--set", 'program="monolithic"', "--threads", "2")
    assert done.code == 0
    prompts = [json.dumps(body["messages"]) for body in server.bodies]
    assert len(set(prompts)) == 1 + 2 * 12
    # All 12 would be asked twice, but for a request that ends just before the other begins.
    assert len(prompts) < len(set(prompts)) + 6


def test_the_table_is_sorted_by_score_and_leaves_the_verdict_to_compare(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    text = (
        GRID.partition("[points")[0] + 'optimizer = "none"\nprogram_options.cot = [true, false]\n'
    )
    done = swept(capsys, server, text, "--set", 'program="monolithic"')
    table = done.out.partition("by score")[2]
    assert table.index("cot=false") < table.index("cot=true")
    assert "0.000  as its seed" in done.lines["cot=true"]
    assert "crb_dspy.compare" in table


def test_a_cap_holds_over_all_points_and_those_that_are_short_are_reported(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    done = swept(capsys, server, GRID, "--max-calls", "30", "--threads", "4")
    assert done.calls <= 30
    assert done.code == 1
    failed = [
        name for name, line in done.lines.items() if line.startswith("failed: --max-calls 30")
    ]
    assert 0 < len(failed) < 4
    assert f"{len(failed)} of 4 points failed" in done.err
    # With more to spend, the rest is made up for.
    rest = swept(capsys, server, GRID, "--max-calls", "100", "--threads", "4")
    assert rest.code == 0
    assert sum("finished before" in line for line in rest.lines.values()) == 4 - len(failed)


def test_a_model_that_fails_costs_its_own_points_only(capsys: pytest.CaptureFixture[str]) -> None:
    def dying(body: Body) -> Reply:
        if body["model"] == "dead" or (body["model"] == "ill" and "Task:" in str(body)):
            return 401
        return right(body)

    models = 'model=["openai/dead", "openai/ill", "openai/fake"]'
    with serving(dying) as server:
        done = swept(capsys, server, GRID, "--set", models, "--set", 'program="monolithic"')
    assert done.code == 1
    lines = done.lines
    assert "failed: model 'openai/dead'" in lines["openai_dead-zero-shot"]
    # It answers what is tiny: its cells failed, not the model.
    assert "failed: the model answered about no cell" in lines["openai_ill-zero-shot"]
    assert lines["openai_fake-zero-shot"].startswith("1.000")
    assert lines["openai_fake-few-shot"].startswith("1.000")
    assert done.err.startswith("4 of 6 points failed: ")


def test_mistakes_and_dry_runs_ask_nothing(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    with pytest.raises(UserError, match="point monolithic-zero-shot: unknown key 'sead'"):
        swept(capsys, server, GRID, "--set", "sead=1")
    done = swept(capsys, server, GRID, "--dry-run")
    assert (done.code, done.calls) == (0, 0)
    assert "small: 4 points (2 program x 2 points)" in done.out
    assert not Path("mlruns/out").exists()


def test_an_interrupted_sweep_ends_the_runs_that_are_under_way(server: FakeServer) -> None:
    Path("sweep.toml").write_text(GRID)
    point, *_ = points(read_grid(Path("sweep.toml"), {"api_base": server.address}))
    begun, ended = threading.Event(), threading.Event()
    ids: list[str] = []

    def carry(point: Point) -> Outcome:
        client = tracking.connect()
        ids.append(client.create_run(client.create_experiment("interrupted")).info.run_id)
        folder(point).mkdir(parents=True)
        resume.write(folder(point), {}, ids[0], finished=False)
        begun.set()
        ended.wait(60)
        return Outcome(point.name)

    def asked() -> Iterator[Point]:
        yield point
        begun.wait(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(asked().__next__, carry, 2))
    assert tracking.connect().get_run(ids[0]).info.status == "KILLED"
    ended.set()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_of_two_that_choose_the_same_point_the_first_has_it(server: FakeServer) -> None:
    Path("sweep.toml").write_text(STUDY + "program_options.cot = [false, true]\n")
    grid = read_grid(Path("sweep.toml"), {"api_base": server.address})
    one, other = Study(grid, points(grid)), Study(grid, points(grid))
    (wanted, _) = one.points
    one._study.sampler = optuna.samplers.PartialFixedSampler(dict(wanted), one._sampler)
    slow = one._study.ask()
    later, labels = other._suggested(wanted)
    # The first has not yet said what it takes: the later one waits for it.
    ((name, choices),) = one._axes.items()
    chosen = threading.Timer(0.3, lambda: slow.suggest_categorical(name, choices))
    chosen.start()
    assert not other._first(later, labels)
    chosen.join()
    assert slow.params == dict(wanted)
    assert one._first(slow, wanted)


def trials() -> list[optuna.trial.FrozenTrial]:
    backend = optuna.storages.journal.JournalFileBackend("mlruns/studies.journal")
    storage = optuna.storages.JournalStorage(backend)
    return list(optuna.load_study(study_name="small", storage=storage).trials)


def test_a_study_leaves_the_test_cases_alone_and_shows_its_front(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    text = STUDY + "program_options.cot = [false, true]\n"
    Path("sweep.toml").write_text(text)
    point = points(read_grid(Path("sweep.toml"), {}))[0]
    done = swept(capsys, server, text)
    assert done.code == 0, done.err
    asked = " ".join(str(body) for body in server.bodies)
    assert all(case.text not in asked for case in point.planned.split.test)
    values = {t.user_attrs[OUTCOME]["name"]: t.values for t in trials()}
    assert values["cot=false"][0] == 1 and values["cot=true"][0] == 0
    front = done.out.partition("none is better")[2]
    assert "cot=false" in front and "cot=true" not in front
    (path,) = re.findall(r"crb_dspy.compile (\S+)", done.out)
    assert points(read_grid(Path(path), {}))[0].planned.split == point.planned.split
    # The study is over: nothing more is asked.
    again = swept(capsys, server, text)
    assert (again.calls, again.lines) == (0, {})
    with pytest.raises(UserError, match="study 'small' in .* is about other points or data"):
        swept(capsys, server, text, "--set", "seed=7")


def test_a_trial_that_cannot_win_is_stopped_early(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    text = (
        STUDY.replace("[0.25, 0.0, 0.75]", "[0.5, 0.0, 0.5]")
        + "program_options.cot = [false, true]\n"
    )
    text = f"seed = {_seed_that_begins_with('cot=false')}\n" + text
    _write_cases(48)
    done = swept(capsys, server, text, "--max-calls", "200")
    assert f"{EARLY}: on 6 of 12 cases cot=false is better for less" in done.lines["cot=true"]
    states = [t.state for t in trials() if not t.user_attrs.get("withdrawn")]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED]
    assert "of 2 trials" in done.out
    # The check, 12 cases without reasoning, 6 with.
    assert done.calls == 1 + 12 + 6


def _seed_that_begins_with(label: str) -> int:
    for seed in range(20):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        if study.ask().suggest_categorical("x", ["cot=false", "cot=true"]) == label:
            return seed
    raise AssertionError("no seed")


def test_a_trial_of_a_process_that_is_gone_is_taken_up(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    text = STUDY + "program_options.cot = [false, true]\n"
    Path("sweep.toml").write_text(text)
    grid = read_grid(Path("sweep.toml"), {"api_base": server.address})
    study = Study(grid, points(grid))
    assert study._ask() is not None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (trial,) = study._running.values()
    trial.set_user_attr(WORKER, (socket.gethostname(), ended.pid))
    done = swept(capsys, server, text)
    assert set(done.lines) == {"cot=false", "cot=true"}
    states = [t.state for t in trials() if not t.user_attrs.get("withdrawn")]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def test_a_point_that_fails_in_a_study_is_not_tried_again_by_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ill(body: Body) -> Reply:
        return 401 if "Task:" in str(body) else right(body)

    with serving(ill) as server:
        done = swept(capsys, server, STUDY + "program_options.cot = [false, true]\n")
    assert done.code == 1
    assert set(done.lines) == {"cot=false", "cot=true"}


def test_a_storage_that_cannot_be_had_is_one_line_without_its_password(
    capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    storage = "storage=nowhere://me:secret@127.0.0.1:1/x"
    with pytest.raises(UserError, match=r"storage = 'nowhere://me:\*\*\*@127.0.0.1:1/x'") as caught:
        swept(capsys, server, STUDY, "--set", storage)
    assert "secret" not in str(caught.value)


def test_two_processes_share_one_study(tmp_path: Path) -> None:
    """No report is read before both have asked for one: each carries out a trial at least.

    They begin at the same time, without a store.
    """
    text = STUDY + 'program = ["monolithic", "category_specific", "filtered"]\n'
    text += "program_options.cot = [false, true]\ntrials = 5\n"
    Path("sweep.toml").write_text(text)
    asked = [threading.Event(), threading.Event()]

    def reply(mine: int) -> Any:
        def answer(body: Body) -> Reply:
            if "Task:" in str(body):
                asked[mine].set()
                assert asked[1 - mine].wait(120)
            return right(body)

        return answer

    with serving(reply(0)) as one, serving(reply(1)) as other:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "crb_dspy.sweep", "sweep.toml", "--api-base", s.address],
                env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for s in (one, other)
        ]
        ended = [process.communicate(timeout=240) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], [err for _, err in ended]
    own = [Done(0, out, err, 0).lines for out, err in ended]
    assert all(own)
    assert sum(map(len, own)) == len({*own[0], *own[1]}) == 5
    finished = [t for t in trials() if t.state == TrialState.COMPLETE]
    assert len({str(t.params) for t in finished}) == len(finished) == 5
    assert all(Outcome(**t.user_attrs[OUTCOME]).score in (0, 1) for t in finished)
