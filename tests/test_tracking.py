"""What is written to MLflow can be read back: children, series, data, prompts, traces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.compare.stored import Stored, runs
from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.evaluation.rows import Row, row_of
from crb_dspy.program import Reading
from crb_dspy.tracking import run as mlflow_run
from crb_dspy.tracking import store as tracking
from tests.made_run import home

CASE = Case("c1", {"Report": "He had no fever."}, {"GI": (), "Vitals": ("no fever",)})


def rows() -> list[Row]:
    found = row_of(CASE, "Vitals", Reading({"Vitals": ["no fever"]}))
    return [row_of(CASE, "GI", Reading({}, error="timed out")), found]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a store of its own, in which this process stands."""
    with home(tmp_path_factory.mktemp("store")) as place:
        yield place.path


@pytest.fixture(scope="module")
def written(store: Path) -> dict[str, Any]:
    """A run with everything in it."""
    kept = store / "note ü.txt"
    kept.write_text("kept")
    with tracking.tracked("bench", "mine", {"program": "monolithic", "seed": 0}) as run:
        run.log({"test/score": 0.5})
        run.keep(kept)
        scores = {"validation/score": [0.1, 0.3, 0.2]}
        child = run.child("GI", {"part": "GI"}, scores)
        profile = {"cases": 138, "test": 41}
        run.dataset("sample", "0123456789ab", columns=["GI", "Vitals"], profile=profile)
        run.describe("what it **found**")
    return {"id": run.id, "child": child}


def client() -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking.uri())


def stored(run_id: str) -> Stored:
    (found,) = [run for run in runs() if run.id == run_id]
    return found


def test_a_run_is_read_back(written: dict[str, Any]) -> None:
    run = stored(written["id"])
    assert (run.name, run.experiment, run.status) == ("mine", "bench", "FINISHED")
    assert run.params == {"program": "monolithic", "seed": "0"}
    assert run.metrics == {"test/score": 0.5}
    assert run.tags[mlflow_run.KIND] == "compile"
    assert run.tags["mlflow.note.content"] == "what it **found**"
    assert run.started > 1_700_000_000_000


def test_a_child_is_finished_below_its_parent_with_its_series_by_step(
    written: dict[str, Any],
) -> None:
    child = stored(written["child"])
    assert (child.name, child.status) == ("GI", "FINISHED")
    assert child.tags[mlflow_run.PARENT] == written["id"]
    assert child.tags[mlflow_run.KIND] == "part"
    assert child.params == {"part": "GI"}
    history = client().get_metric_history(child.id, "validation/score")
    assert [(m.step, m.value) for m in history] == [(0, 0.1), (1, 0.3), (2, 0.2)]


def test_a_series_longer_than_a_batch_is_whole(written: dict[str, Any], store: Path) -> None:
    long = [step / 2000 for step in range(2000)]
    with tracking.tracked("bench", "long", {}) as run:
        child = run.child("GI", {f"p{n}": n for n in range(60)}, {"validation/score": long})
    history = client().get_metric_history(child, "validation/score")
    assert [m.value for m in sorted(history, key=lambda m: m.step)] == long
    assert len(stored(child).params) == 60


def test_the_data_are_an_input_with_fingerprint_and_without_text(written: dict[str, Any]) -> None:
    import json

    (entry,) = client().get_run(written["id"]).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("sample", "0123456789ab")
    assert json.loads(entry.dataset.profile) == {"cases": 138, "test": 41}
    names = [column["name"] for column in json.loads(entry.dataset.schema)["mlflow_colspec"]]
    assert names == ["GI", "Vitals"]


def test_an_artefact_is_given_where_it_lies(written: dict[str, Any]) -> None:
    path = tracking.fetch(written["id"], "note ü.txt")
    assert path.read_text() == "kept"
    assert not Path("mlruns/fetched").exists()


@pytest.mark.parametrize(
    ("run", "artefact", "message"),
    [("0" * 32, "cells.jsonl", "not found"), (None, "none.txt", "no artefact 'none.txt' in ")],
)
def test_what_is_missing_is_one_line(
    written: dict[str, Any], run: str | None, artefact: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tracking.fetch(run or written["id"], artefact)


def test_runs_of_one_experiment_are_told_from_others(written: dict[str, Any]) -> None:
    with tracking.tracked("other", "theirs", {}):
        pass
    assert [run.name for run in runs("other")] == ["theirs"]
    with pytest.raises(UserError, match=r"no experiment 'none': there is .*bench"):
        runs("none")


def test_more_runs_than_a_page_holds_are_all_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.tracked("many", "parent", {}) as run:
        children = [run.child(f"part {n}", {}, {}) for n in range(5)]
    import mlflow

    search = mlflow.MlflowClient.search_runs

    def paged(*arguments: Any, **named: Any) -> Any:
        return search(*arguments, **named, max_results=2)

    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", paged)
    assert {run.id for run in runs("many")} == {run.id, *children}


def test_prompts_are_versions_of_the_registry_and_equal_ones_none(store: Path) -> None:
    with tracking.tracked("prompts", "first", {}) as run:
        first = run.register_prompts({"gi": "Find {{report}}", "cvs": "Seek {{report}}"})
        again = run.register_prompts({"gi": "Find {{report}}"})
    with tracking.tracked("prompts", "second", {}) as run:
        second = run.register_prompts({"gi": "Search {{report}}"})
    assert first == ["prompts:/gi/1", "prompts:/cvs/1"]
    assert again == ["prompts:/gi/1"]
    assert second == ["prompts:/gi/2"]
    assert client().load_prompt("prompts:/gi/2").template == "Search {{report}}"
    assert '"gi"' in stored(run.id).tags["mlflow.linkedPrompts"]
    messages = [{"role": "system", "content": "Quote."}, {"role": "user", "content": "{{report}}"}]
    with tracking.tracked("prompts", "third", {}) as run:
        assert run.register_prompts({"chat": messages}) == ["prompts:/chat/1"]
        assert run.register_prompts({"chat": messages}) == ["prompts:/chat/1"]
        with pytest.raises(UserError, match=r"prompt 'no/name': "):
            run.register_prompts({"no/name": "x"})


TRACING = """
from crb_dspy.tracking import store as tracking
from tests.test_tracking import CASE, rows
with tracking.tracked("traced", "traced", {}) as run:
    assert run.traces({CASE.id: CASE.text}, rows()) == 1
print(run.id)
"""


def test_traces_are_whole_when_the_process_ends(store: Path) -> None:
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{TRACING}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.split()[-1]
    where = client().get_run(run_id).info.experiment_id
    (trace,) = client().search_traces(locations=[where], run_id=run_id)
    root_span, failed, good = trace.data.spans
    assert root_span.inputs == {"report": CASE.text}
    assert root_span.outputs == {"GI": [], "Vitals": ["no fever"]}
    # The half without gold failed, and the harmonic mean is as low as its lower half.
    assert root_span.attributes["score"] == 0.0
    assert (failed.name, failed.attributes["error"]) == ("GI", "timed out")
    assert failed.status.status_code == "ERROR"
    assert (good.name, good.inputs, good.outputs) == (
        "Vitals",
        {"gold": ["no fever"]},
        ["no fever"],
    )
    assert good.attributes["score"] == 1
    assert "found" in good.attributes["reason"] or good.attributes["reason"]
    assert trace.info.tags["case"] == "c1"


def test_no_store_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="no runs here yet; compile something first"):
        runs()
    assert not (tmp_path / "mlruns").exists()


def test_a_store_that_cannot_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{tmp_path}/files")
    with pytest.raises(UserError, match="MLflow at "), tracking.tracked("bench", "mine", {}):
        raise AssertionError("nothing is done without a store")


def test_a_run_ends_as_it_went(store: Path) -> None:
    for error, status, told in (
        (KeyboardInterrupt(), "KILLED", "interrupted"),
        (ValueError("broken"), "FAILED", "ValueError: broken"),
    ):
        with pytest.raises(type(error)), tracking.tracked("bench", "ending", {}) as run:
            raise error
        assert (stored(run.id).status, stored(run.id).tags["ended"]) == (status, told)
