"""Caps hold for every recipe through the command, and what they leave is judged and written."""

from __future__ import annotations

import re
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.catalog import names
from crb_dspy.compile.estimate import estimate
from crb_dspy.errors import UserError
from tests.fake_server import serving
from tests.made_run import HEEDLESS, home
from tests.made_search import made_plan, made_split
from tests.scoring_reply import sample

FILES = {"program.json", "prompts.md", "cells.jsonl", "candidates.jsonl", "report.html"}
CAPS = [("--max-calls", 50), ("--max-tokens", 20_000)]


@pytest.mark.parametrize(("flag", "cap"), CAPS)
@pytest.mark.parametrize("optimizer", names("optimizers"))
def test_a_cap_holds_with_8_threads_and_the_run_ends_well(
    tmp_path: Path, optimizer: str, flag: str, cap: int, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--limit", 12, "--optimizer", optimizer, "--threads", 8, "--force", flag, cap]
    if flag == "--max-tokens":  # else none would be left for the search
        few += ["--set", "gate=1", "--categories", "GI"]
    with serving(sample(), delay=0.005) as server, home(tmp_path) as place:
        assert place.compile(server, *few) == 0
        used = {"--max-calls": len(server.bodies), "--max-tokens": server.tokens()}
        assert used[flag] <= cap
        assert server.most <= 8
        (run,) = place.runs()
        assert run.info.status == "FINISHED"
        assert {path.name for path in place.out.iterdir()} >= FILES
        cells, candidates = place.rows("cells.jsonl"), place.rows("candidates.jsonl")
    printed = capsys.readouterr().out
    stopped = re.findall(r"^stopped +(--max-\w+ \d+ reached.*); what follows", printed, re.M)
    if flag == "--max-tokens" and optimizer not in ("none", "labeled", "factors", "auto"):
        assert {row["calls"] for row in candidates if row["candidate"] != "seed"} - {0}
    assert bool(stopped) == ("stopped" in run.data.tags)
    if stopped:
        assert stopped == [run.data.tags["stopped"]]
        assert flag in stopped[0]
    # What is judged is judged whole: no cell of it was left unasked.
    assert cells
    assert not [row for row in cells if row["error"] or row["error_baseline"]]
    # A call that was under way when its phase ended may come back after the count.
    assert 0 <= len(server.bodies) - run.data.metrics["cost/calls"] < 8
    if optimizer == "none":
        assert not stopped


@pytest.mark.parametrize(("flag", "cap"), CAPS)
def test_a_search_without_end_is_stopped_with_the_best_so_far(
    tmp_path: Path, flag: str, cap: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(HEEDLESS)
    few = ["--limit", 12, "--threads", 8, "--force", flag, cap, "--set", "gate=1"]
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *few, "--optimizer", "./mine.py:recipe")
        used = {"--max-calls": len(server.bodies), "--max-tokens": server.tokens()}
        # The cap is used up, but for what the last call might have taken.
        assert cap / 2 < used[flag] <= cap
        (run,) = place.runs()
        assert re.match(rf"{flag} \d+ reached \(\d+ kept back\)", run.data.tags["stopped"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/score_baseline"] > 0
        assert "Stopped by its budget: " in run.data.tags["mlflow.note.content"]
        rows = place.rows("candidates.jsonl")
    printed = capsys.readouterr().out
    assert f"\nstopped    {flag} {cap} reached" in printed
    for part in ("Neuro", "GI"):
        own = [row for row in rows if row["part"] == part and row["validation"] is not None]
        best = max(own, key=lambda row: row["validation"])
        assert ("taken (no gate)" in _verdict(printed, part)) == (best is not own[0])


def test_a_cap_of_dollars_leaves_what_judging_takes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEEDLESS)
    few = ["--limit", 12, "--threads", 4, "--force", "--optimizer", "./mine.py:recipe"]
    dear = ["--model", "openai/gpt-4o-mini", "--max-usd", 0.01, "--set", "gate=1"]
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *few, *dear)
        (run,) = place.runs()
        cells = place.rows("cells.jsonl")
    assert re.match(r"--max-usd 0.01 reached \(0\.\d+ kept back\)", run.data.tags["stopped"])
    assert 0.005 < run.data.metrics["cost/usd"] <= 0.01
    assert len(cells) == 2 * 3
    assert not [row for row in cells if row["error"] or row["error_baseline"]]


def test_room_for_a_search_is_shared_with_those_to_come() -> None:
    split = made_split(["GI"], validation=12)
    shares = []
    for cap in range(100, 2000, 20):
        planned = made_plan(split, max_calls=cap, optimizer="factors", options={"trials": 20})
        sides, cases = planned.sides[-1], planned.loaded.cases
        known = estimate(planned.tuning, [sides] * 5, cases)
        kept = known.kept_back(0).calls
        shares.append(known.affordable(0, planned.experiment.caps, asked=16))
        assert 5 * shares[-1] * 20 * len(sides.choose) + kept + 16 <= max(cap, kept + 16) + 1e-6
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert max(b - a for a, b in pairwise(shares)) < 0.05


def _verdict(printed: str, part: str) -> str:
    (line,) = re.findall(rf"^ +{part}: (.*)$", printed, re.M)
    return str(line)


def test_a_cap_that_is_never_reached_is_not_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, "--optimizer", "factors", "--max-calls", 10_000, "--force")
        assert "stopped" not in place.runs()[0].data.tags
    assert "stopped" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "cap", "message"),
    [
        ("--max-calls", 12, r"max_calls = 12: judging alone may take \d+ calls"),
        ("--max-tokens", 100, r"max_tokens = 100: judging alone may take \d+ tokens"),
    ],
)
def test_a_cap_that_judging_alone_would_pass_is_refused_before_any_call(
    tmp_path: Path, flag: str, cap: int, message: str
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        with pytest.raises(UserError, match=message):
            place.compile(server, "--optimizer", "mipro", flag, cap)
        assert server.bodies == []


def test_the_estimate_stands_beside_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--limit", 12, "--optimizer", "mipro", "--force", "--set", "options.trials=3"]
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *few)
    printed = capsys.readouterr().out
    table = printed.partition("stages ")[2]
    line = r"^ +(check|baseline|headroom|search|gate|test) +(task|reflection) +(\d+) +(\d+) +(\d+)"
    rows = re.findall(line, table, re.M)
    # One for each role of a stage that asked: the gate of a choice by expectation does not.
    assert len(rows) == 6
    assert sum(int(calls) for *_, calls in rows) == len(server.bodies)
    assert all(int(asked) <= int(guess) for _, _, guess, asked, _ in rows)


def test_both_roles_draw_on_one_cap(tmp_path: Path) -> None:
    few = ["--limit", 12, "--optimizer", "gepa", "--force", "--threads", 8, "--max-calls", 50]
    with serving(sample()) as task, serving(sample()) as writer, home(tmp_path) as place:
        other: list[Any] = ["--reflection-model", "openai/writer"]
        place.compile(task, *few, *other, "--set", f"reflection_api_base='{writer.address}'")
        assert len(task.bodies) + len(writer.bodies) <= 50
        assert {body["model"] for body in writer.bodies} == {"writer"}
        assert not [text for text in writer.prompts() if "Task: " in text]


def test_what_was_paid_for_is_kept_for_the_same_search_without_a_cap(tmp_path: Path) -> None:
    few = ["--limit", 12, "--optimizer", "factors", "--force", "--threads", 4]
    with serving(sample()) as server, home(tmp_path / "once") as place:
        place.compile(server, *few)
        unbroken = len(server.bodies)
    with serving(sample()) as server, home(tmp_path / "twice") as place:
        place.compile(server, *few, "--max-calls", 60)
        assert 30 < len(server.bodies) <= 60
        place.compile(server, *few)
        assert len(server.bodies) <= unbroken + 60 // 4
        assert len(set(server.prompts())) == len(server.bodies)


def test_the_stores_of_these_tests_are_their_own(tmp_path: Path) -> None:
    with home(tmp_path) as place:
        assert place.runs() == []
        found = sqlite3.connect(tmp_path / "mlruns/mlflow.db").execute("select count(*) from runs")
        assert found.fetchone() == (0,)
