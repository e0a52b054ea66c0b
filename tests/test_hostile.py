"""Hostile answers, names and settings cost a cell or one line, before the first call if can be."""

from __future__ import annotations

import json
import os
import sqlite3
from itertools import count
from pathlib import Path

import pytest

from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.journal import NAME as SPENT
from crb_dspy.errors import UserError
from crb_dspy.models import lm
from crb_dspy.sweep.grid import read_grid
from crb_dspy.tracking import store
from tests.fake_server import Body, Reply, asked_keys, serving
from tests.made_run import home

FEW = ["--limit", 12, "--categories", "GI", "--optimizer", "labeled", "--force"]
ODD = (
    '["a \\ud83d b", "\\udc00"]',
    '["a \\u0000 b", "\\u2028", "\\u0085 c"]',
    "[NaN, Infinity, -1e999, null, true]",
    "[" * 900 + '"deep"' + "]" * 900,
    '["' + "no fever " * 100_000 + '"]',
    '{"x": {"y": ["z"]}}',
    '["<script>alert(1)</script>", "{{7*7}}", "<|im_end|>"]',
)


def test_no_answer_ends_a_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()

    def odd(body: Body) -> Reply:
        if "Task:" not in body["messages"][-1]["content"]:
            return '{"answer": ["yes"]}'
        (key,) = asked_keys(body)
        # The first every other time: three cells judge, and one of them is to hold it.
        turn, again = divmod(next(numbers), 2)
        return f'{{"{key}": {ODD[0] if again else ODD[turn % len(ODD)]}}}'

    with serving(odd) as server, home(tmp_path) as place:
        place.compile(server, *FEW, "--set", "traces=2", "--set", "allow_leaks=true")
        (run,) = place.runs()
        assert run.info.status == "FINISHED"
        cells = (place.out / "cells.jsonl").read_bytes().decode("utf-8").split("\n")[:-1]
        quotes = [quote for line in cells for quote in json.loads(line)["predicted"]]
        assert any("\ufffd" in quote for quote in quotes)
        assert not any("\ud83d" in quote for quote in quotes)
        assert "<script>alert(1)" not in (place.out / "report.html").read_text("utf-8")
        asked = len(server.bodies)
        place.compile(server, *FEW, "--set", "traces=2", "--set", "allow_leaks=true")
        assert len(server.bodies) == asked


def test_half_a_character_in_gold_is_told_before_any_call(tmp_path: Path) -> None:
    line = '{"id": "c1", "sections": {"R": "Cough."}, "gold": {"GI": ["a \\ud83d"]}}\n'
    with serving() as server, home(tmp_path) as place:
        Path("own.jsonl").write_text(line)
        with pytest.raises(UserError, match="own.jsonl: case 'c1': half a character"):
            place.compile(server, "--data", "own.jsonl", *FEW)
        assert server.bodies == []


def test_prompts_of_a_run_are_registered_in_the_default_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server, home(tmp_path) as place:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        place.compile(server, *FEW, "--set", "register_prompts=true")
        (prompt,) = store.connect().search_prompts()
        assert prompt.name.endswith("quickstart.GI")
        assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize(
    ("uri", "said"),
    [("nonsense://x", "MLflow at nonsense"), ("sqlite:////dev/null/x.db", "cannot be written")],
)
def test_a_store_that_cannot_be_used_is_told_before_any_call(
    tmp_path: Path, uri: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server, home(tmp_path) as place:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match=said):
            place.compile(server, *FEW)
        assert server.bodies == []


def test_an_overwritten_cache_and_a_foreign_journal_are_one_line(tmp_path: Path) -> None:
    with serving() as server, home(tmp_path) as place:
        place.compile(server, *FEW)
        asked = len(server.bodies)
        (place.out / SPENT).write_text('{"calls": "many"}\n')
        with pytest.raises(UserError, match=r"spent\.jsonl, line 1: no entry of this version"):
            place.compile(server, *FEW)
        (place.out / SPENT).unlink()
        for shard in Path("mlruns/cache").glob("*/cache.db"):
            shard.write_bytes(b"overwritten" * 1000)
        with pytest.raises(UserError, match="mlruns/cache: cannot be used as the cache"):
            place.compile(server, *FEW)
        assert len(server.bodies) == asked


def test_a_dry_run_checks_the_caps(tmp_path: Path) -> None:
    with serving() as server, home(tmp_path) as place:
        with pytest.raises(UserError, match="max_calls = 2: judging alone"):
            place.compile(server, *FEW, "--max-calls", 2, "--dry-run")
        assert server.bodies == []


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", " ", "", "a\nb", "x" * 101])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="since a folder is called so"):
        read_experiment(None, {"name": name})


def test_the_name_of_a_study_stays_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text('seed = [0, 1]\nsearch = "optuna"\nstudy = "../../x"\n')
    with pytest.raises(UserError, match=r"study = '\.\./\.\./x': a file is called so; write 'x'"):
        read_grid(path, {})


def test_an_answer_is_offered_to_a_busy_cache_again() -> None:
    class Busy:
        asked = 0

        def set(self, *_: object) -> bool:
            self.asked += 1
            return self.asked > 3

    busy = Busy()
    lm._be_patient(busy)
    assert busy.set("key", "answer")
    assert busy.asked == 4
    busy.asked = -10_000
    assert not busy.set("key", "answer")


def test_an_empty_list_of_reports_is_one_line(tmp_path: Path) -> None:
    from crb_dspy.extract.__main__ import main
    from crb_dspy.saved import write_program
    from tests.test_saved import tuned

    write_program(tmp_path / "program.json", tuned())
    (tmp_path / "none.jsonl").write_text("")
    given = ["--input", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    with pytest.raises(UserError, match="no report; give at least one"):
        main([str(tmp_path / "program.json"), *given])


def test_a_database_that_is_locked_for_long_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crb_dspy.tracking.database.PATIENCE", 0.05)
    with serving() as server, home(tmp_path) as place:
        holder = sqlite3.connect("mlruns/mlflow.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="database is locked"):
            place.compile(server, *FEW)
        holder.close()
        assert server.bodies == []
