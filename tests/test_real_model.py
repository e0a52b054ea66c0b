"""The real path with a real, very small model: weights, engine, constrained answers, cache."""

import json
from pathlib import Path

import pytest

from crb_dspy.errors import UserError
from crb_dspy.models.weights import find
from tests.offline import offline
from tests.test_compile import cells, compiled, runs

pytestmark = pytest.mark.slow
pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

NAME = "smollm2-135m-instruct"
FLAGS = ["--model", f"local/{NAME}", "--limit", "4", "--categories", "RESP,GU"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        find(NAME)
    except UserError as error:
        pytest.skip(f"no small model: {error}")
    return tmp_path_factory.mktemp("real")


def test_a_real_model_is_tuned_and_asked_nothing_twice(folder: Path) -> None:
    options = ["--optimizer", "labeled", "--set", "options={demonstrations = 1}"]
    first = compiled(folder, *FLAGS, *options)
    assert first.returncode == 0, first.stderr
    again = compiled(folder, *FLAGS, *options)
    assert "calls      0," in again.stdout
    assert {run.info.status for run in runs(folder)} == {"FINISHED"}
    rows = cells(folder)
    assert {row["category"] for row in rows} == {"RESP", "GU"}
    # Constrained to the schema, even this model answers with lists.
    assert not [row for row in rows if row["error"] and not row["salvaged"]]


def test_a_report_is_computed_once_for_all_categories(folder: Path) -> None:
    (run, *_) = [r for r in runs(folder) if r.data.metrics["cost/calls"] > 0]
    sent, computed = (run.data.metrics[f"cost/{n}_tokens"] for n in ("prompt", "computed"))
    assert 0 < computed < 0.8 * sent


def test_once_the_model_is_there_no_network_is_needed(folder: Path, tmp_path: Path) -> None:
    asked = ["-m", "crb_dspy.compile", *FLAGS, "--optimizer", "none"]
    done, tried = offline(tmp_path, *asked, path=str(Path(__file__).parents[1]))
    assert done.returncode == 0, done.stderr
    assert tried == []
    assert {row["category"] for row in cells(tmp_path / "empty")} == {"RESP", "GU"}


def test_the_resolved_experiment_is_kept(folder: Path) -> None:
    (split,) = folder.glob("mlruns/out/*/split.json")
    sides = json.loads(split.read_text())
    assert sum(map(len, sides.values())) == 4
    assert all(sides.values())
