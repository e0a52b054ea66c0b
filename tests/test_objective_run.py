"""A run with another objective: warned about, carried out, and named wherever its score stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crb_dspy.compare.__main__ import main as compare
from crb_dspy.errors import UserError
from tests.fake_server import serving
from tests.made_run import home
from tests.scoring_reply import sample

SMALL = ["--limit", 12, "--categories", "GI,Neuro", "--optimizer", "none"]


def test_the_run_warns_and_its_objective_is_named_in_store_report_and_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *SMALL, "--set", "objective=tsr_norm", "--set", "name=paper")
        printed = capsys.readouterr().out
        place.compile(server, *SMALL, "--set", "name=own")
        runs = {run.data.tags["mlflow.runName"]: run for run in place.runs()}
        pages = [p.read_text("utf-8") for p in tmp_path.glob("mlruns/out/paper-*/report.html")]
        assert compare(["paper", "--baseline", "paper:seed"]) == 0
        compared = capsys.readouterr().out
    assert "warning    objective tsr_norm: on these cases the empty answer gets 0." in printed
    assert "without reading" in printed
    params = runs["paper"].data.params
    assert (params["objective"], runs["own"].data.params["objective"]) == ("tsr_norm", "score")
    assert params["category_keys"] == "Neuro,GI"
    assert "objective tsr_norm" in pages[0]
    assert "score: the objective tsr_norm" in compared
    metrics = runs["paper"].data.metrics
    assert metrics["test/score"] == pytest.approx(metrics["paper/tsr_norm"] / 100)
    assert metrics["test/harmonic"] != metrics["test/score"]


def test_runs_of_other_objectives_are_not_compared_as_equals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *SMALL, "--set", "objective=tsr_norm", "--set", "name=paper")
        place.compile(server, *SMALL, "--set", "name=own")
        with pytest.raises(
            UserError, match="objective score, not tsr_norm|objective tsr_norm, not"
        ):
            compare(["paper", "own"])


def test_both_systems_that_ask_no_model_stand_beside_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *SMALL)
        (run,) = place.runs()
        cells = place.rows("cells.jsonl")
        page = (place.out / "report.html").read_text("utf-8")
    printed = capsys.readouterr().out
    assert re.search(r"^empty answer +0\.000 +0\.000 +1\.000$", printed, re.M)
    assert "sentence classifier" in printed
    assert run.data.metrics["empty_answer/score"] == 0
    assert 0 <= run.data.metrics["sentence_classifier/score"] <= 1
    assert all("predicted_sentence_classifier" in cell for cell in cells)
    assert "sentence classifier" in page


def test_categories_that_nobody_annotated_do_not_count_unless_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        json.dumps(
            {"id": f"c{n}", "sections": {"R": f"Colic {n}."}, "gold": {"GI": [f"Colic {n}"]}}
        )
        for n in range(6)
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(lines), "utf-8")
    with serving(sample()) as server, home(tmp_path) as place:
        own = ["--data", tmp_path / "own.jsonl", "--optimizer", "none", "--dry-run"]
        place.compile(server, *own)
        some = capsys.readouterr().out
        place.compile(server, *own, "--categories", "all")
        everything = capsys.readouterr().out
    assert "1 category" in some
    assert "left out, without any gold: Vitals_Hema, Neuro" in some
    assert "14 categories" in everything
    assert "left out" not in everything
