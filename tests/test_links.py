"""What a run prints to be opened, and what its table says a report will cost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crb_dspy.compile.price import per_report
from crb_dspy.data.cases import Case
from crb_dspy.evaluation.rows import row_of
from crb_dspy.models.engine import estimated_tokens
from crb_dspy.program import Reading
from crb_dspy.tracking import view
from crb_dspy.tracking.run import Run
from tests.fake_server import serving
from tests.made_run import home
from tests.test_saved import tuned


def test_links_lead_to_the_strategies_and_to_the_report_of_a_run() -> None:
    found = view.links("http://127.0.0.1:5001/", "3", "ab")
    runs = "http://127.0.0.1:5001/#/experiments/3/runs"
    assert found == {
        "strategies": f"{runs}?workflowType=machine_learning&viewStateShareKey=strategies",
        "report": f"{runs}/ab/artifacts/report.html?workflowType=machine_learning",
        "run": f"{runs}/ab?workflowType=machine_learning",
    }


def test_an_experiment_says_that_it_holds_models_and_charts_what_a_report_costs() -> None:
    tags = view.view()
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    kept = json.loads(tags[f"mlflow.sharedViewState.{view.VIEW}"])
    (scatter,) = [c for c in json.loads(kept["state"])["compareRunCharts"] if "xaxis" in c]
    assert scatter["xaxis"]["key"] == "cost/report_tokens"


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "local/any"])
def test_a_report_costs_its_prompts_and_its_answers(model: str) -> None:
    program = tuned().program
    cases = [Case(name, {"Report": f"He had a fever {name}."}) for name in "abc"]
    rows = [row_of(c, key, Reading({key: ("fever",)})) for c in cases[:2] for key in program.keys]
    found = per_report(program, cases, rows, model)
    sent = [
        estimated_tokens(message["content"])
        for part in program.parts.values()
        for message in part.messages(cases[0].text)
    ]
    answers = [estimated_tokens(json.dumps({key: ["fever"]})) for key in program.keys]
    assert found["cost/report_tokens"] == pytest.approx(sum(sent) + sum(answers), abs=4)
    assert (found["cost/report_usd"] > 0) == model.startswith("openai/")


def test_a_run_that_goes_on_shows_its_scores_stage_by_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, set[str]]] = []
    with serving() as server, home(tmp_path) as place:

        def watched(self: Run, name: str, value: str) -> None:
            real(self, name, value)
            if name == "stage":
                (run,) = place.runs()
                seen.append((value, set(run.data.metrics)))

        real = Run.tag
        monkeypatch.setattr(Run, "tag", watched)
        place.compile(server, "--optimizer", "labeled")
        (run,) = place.runs()
    told = dict(seen)
    assert "cost/calls" not in told["baseline: done"]
    assert {"test/score_baseline", "cost/calls"} <= told["gate: done"]
    assert "test/score" not in told["gate: done"]
    assert run.data.tags["stage"] == "test: done"
    assert re.fullmatch(r"\d\.\d{3} → \d\.\d{3}, [a-z ]+", run.data.tags["result"])
