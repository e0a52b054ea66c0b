"""The experiments for a server: files that can be planned, and the one table of their runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from bench import server
from bench.server import COLUMNS, CURVE, FOLDER, SAME, latest, table
from crb_dspy.compare.stored import Stored
from crb_dspy.compile.caps import check_caps
from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.flow import parameters
from crb_dspy.compile.plan import plan
from crb_dspy.curve.stands import check
from crb_dspy.sweep.grid import points, read_grid
from tests.fake_server import serving
from tests.made_run import home
from tests.real_data import real
from tests.scoring_reply import sample

FILES = sorted(path.stem for path in FOLDER.glob("*.toml"))
ALL = {
    "test/score_baseline": 0.25,
    "test/score": 0.5,
    "cost/calls": 1200.0,
    "empty_answer/score": 0.0,
    "empty_answer/empty_agreement": 1.0,
    "sentence_classifier/score": 0.4,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_file_can_be_planned_within_its_caps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRB_REAL_DATA", str(real("casereportbench/gold_24.jsonl").parents[1]))
    if name == CURVE:
        planned = plan(read_experiment(FOLDER / f"{name}.toml", {"model": "openai/x"}))
        check(planned, [6, 12, 18])
        return
    found = points(read_grid(FOLDER / f"{name}.toml", {"model": "openai/x"}))
    for point in found:
        check_caps(point.planned)
    assert name != "maccrobat_ten" or all(point.planned.tested >= 30 for point in found)
    assert name != "maccrobat_sparse" or all(point.planned.tested == 41 for point in found)
    assert name != "never_worse" or len(found) == 6


def stored(name: str, score: float = 0.5) -> Stored:
    told = {"categories": "2", "test": "10", "split_fingerprint": "s"}
    return Stored("1", name, "e", params=told, metrics=ALL | {"test/score": score})


def test_a_row_a_run_and_one_of_each_system_without_a_model() -> None:
    rows = table([stored("auto"), stored("gepa", 0.45)])
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        "system",
        "---",
        "auto",
        "gepa",
        "empty answer (20 cells)",
        "sentence classifier (20 cells)",
    ]
    assert {row.count("|") for row in rows} == {len(COLUMNS) + 2}
    assert "| 0.250 | 0.500 |" in rows[2]
    assert "| 1,200 |" in rows[2]
    assert "| 0 |" in rows[4]


def test_of_each_point_the_newest_run_that_ended_well_is_told(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\ndata = "sample"\nlimit = 8\ncategories = [["GI"]]\n'
        '[points.a]\noptimizer = "none"\n[points.b]\noptimizer = "labeled"\n'
    )
    given = argparse.Namespace(
        model="openai/x", threads=1, api_base=None, reflection_model=None, set=[]
    )
    found = points(read_grid(file, {"model": "openai/x", "threads": 1}))
    about = {point.name: parameters(point.planned) for point in found}
    first, other = (
        replace(one, params={**one.params, **{key: str(about[one.name][key]) for key in SAME}})
        for one in map(stored, "ab")
    )
    newer = replace(first, id="2")
    foreign = replace(first, id="3", params={**first.params, "model": "openai/y"})
    broken = replace(other, status="FAILED")
    told = latest([first, newer, foreign, broken], file, given)
    assert [run.id for run in told] == ["2"]
    assert [run.name for run in latest([other, first], file, given)] == ["a", "b"]


def test_a_file_is_run_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.toml").write_text(
        'name = "small"\ndata = "sample"\nlimit = 6\ncategories = [["GI"]]\n'
        '[points.a]\noptimizer = "none"\n[points.b]\noptimizer = "labeled"\ngate = 1.0\n'
    )
    monkeypatch.setattr(server, "FOLDER", tmp_path)
    with home(tmp_path), serving(sample()) as fake:
        flags = ["--model", "openai/fake", "--api-base", fake.address, "--threads", "2"]
        monkeypatch.setattr("sys.argv", ["server.py", *flags])
        assert server.main() == 0
    printed = capsys.readouterr().out
    assert "## small" in printed
    rows = [line.split(" | ")[0] for line in printed.splitlines() if line.startswith("| ")]
    assert rows[2:4] == ["| a", "| b"]
    assert rows[5].startswith("| sentence classifier")
