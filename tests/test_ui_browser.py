"""The MLflow UI as `make ui` starts it, in a real browser: what a run leaves can be read there."""

from __future__ import annotations

import random
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from crb_dspy.compare import __main__ as compare
from crb_dspy.compare.stored import Stored, runs
from crb_dspy.compile.artifacts import write_inputs
from crb_dspy.compile.config import Experiment
from crb_dspy.compile.flow import parameters
from crb_dspy.compile.plan import plan
from crb_dspy.compile.record import record
from crb_dspy.compile.result import Result
from crb_dspy.data.cases import Case
from crb_dspy.evaluation.figures import difference
from crb_dspy.evaluation.rows import Row, row_of
from crb_dspy.evaluation.systems import systems
from crb_dspy.models.meter import Usage
from crb_dspy.program import Reading
from crb_dspy.tracking import run as mlflow_run
from crb_dspy.tracking import store as tracking
from crb_dspy.tracking.view import VIEW
from crb_dspy.tuning.gate import Verdict
from docs.screenshots import Ui, drawn, elements, served
from tests.browser import chromium, requests
from tests.made_run import home

pytestmark = pytest.mark.slow

EXPERIMENT = "casereportbench: sample"
PROGRAMS, OPTIMIZERS = ("monolithic", "category_specific", "filtered"), ("none", "labeled")
COUNT = len(PROGRAMS) * len(OPTIMIZERS)
# What no page of MLflow 3.17 can be without: it asks who is signed in, and a server without
# accounts has no such address; and its tables need more than one pass to find their size.
UNAVOIDABLE = ("/ajax-api/2.0/mlflow/users/current - ", "ResizeObserver loop ")
CELLS = """
const rows = {}
for (const cell of document.querySelectorAll('.ag-row [col-id]')) {
  const row = cell.closest('.ag-row'), kept = rows[row.getAttribute('row-id')] ??= {}
  kept[cell.getAttribute('col-id').replaceAll('`', '')] = cell.textContent.trim()
  kept.row = Number(row.getAttribute('row-index'))
}
return rows
"""


def strategy(program: str, optimizer: str, skill: float) -> None:
    """Store a compile, as a compile would, whose tuned program finds that share of the quotes."""
    experiment = Experiment(
        name=f"{program}-{optimizer}", data="sample", categories=["GI", "Neuro"], limit=12,
        split=[0.25, 0.0, 0.75], program=program, optimizer=optimizer, model="local/invented",
    )  # fmt: skip
    planned = plan(experiment)
    cases, keys = planned.split.test, planned.schema.keys
    before = invented(cases, keys, 0.2)
    after = before if optimizer == "none" else invented(cases, keys, skill)
    folder = tracking.FOLDER / "out" / experiment.name
    verdicts = [Verdict(name, "no gain shown", "invented") for name in planned.tuning.program.parts]
    used = {
        "reflection": Usage(),
        "task": Usage(asked=30, calls=30, prompt_tokens=int(1e5 * skill)),
    }
    with tracking.tracked(EXPERIMENT, experiment.name, parameters(planned)) as run:
        for path in write_inputs(folder, experiment, planned.split):
            run.keep(path)
        gain = difference(before, after)
        others = systems(planned.split.train, cases, planned.schema, planned.tuning.objective)
        result = Result(
            before,
            after,
            gain,
            verdicts,
            None,
            [],
            "",
            [],
            others,
            None,
            {},
            used,
            [],
            1.0,
            folder,
            run.id,
        )
        record(planned, run, planned.tuning.program, result)


def invented(cases: Sequence[Case], keys: Sequence[str], skill: float) -> list[Row]:
    rng, rows = random.Random(0), []
    for case in cases:
        for key in keys:
            quotes = tuple(quote for quote in (case.gold or {})[key] if rng.random() < skill)
            rows.append(row_of(case, key, Reading({key: quotes})))
    return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stored]]:
    """The runs of a store with strategies and their comparison."""
    with home(tmp_path_factory.mktemp("store")):
        for number, program in enumerate(PROGRAMS):
            for optimizer in OPTIMIZERS:
                strategy(program, optimizer, 0.5 + 0.2 * number)
        assert compare.main([]) == 0
        yield runs(EXPERIMENT)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium(1400, 900) as started:
        yield started


@pytest.fixture(scope="module")
def ui(driver: Any, store: list[Stored]) -> Iterator[Ui]:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    with served(tracking.uri(), Path(sys.prefix)) as started:
        yield started


@pytest.fixture(scope="module")
def experiment(ui: Ui) -> str:
    return f"experiments/{ui.experiment(EXPERIMENT)}/runs"


@pytest.fixture(autouse=True)
def quiet(driver: Any, ui: Ui) -> Iterator[None]:
    """No page may ask anything of another address, or leave an error in the console."""
    driver.get("about:blank")
    driver.get_log("browser"), requests(driver)
    yield
    severe = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert [text for text in severe if not any(known in text for known in UNAVOIDABLE)] == []
    own = (ui.shown, f"blob:{ui.shown}", "data:", "about:")
    assert [address for address in requests(driver) if not address.startswith(own)] == []


def compiles(store: list[Stored]) -> list[Stored]:
    return [run for run in store if run.tags[mlflow_run.KIND] == "compile"]


def best(store: list[Stored]) -> Stored:
    return max(compiles(store), key=lambda run: run.metrics["test/score"])


def click(driver: Any, selector: str) -> None:
    # The pages draw anew what was clicked a moment ago.
    drawn(driver, elements(selector))
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def has(text: str) -> Any:
    return lambda driver: text in driver.find_element("tag name", "body").text


def cell(column: str) -> str:
    return f".ag-cell[col-id='{column}']"


def test_the_run_table_shows_strategies_with_parameters_and_scores_the_best_first(
    driver: Any, ui: Ui, experiment: str, store: list[Stored]
) -> None:
    driver.get(ui.page(experiment))
    drawn(driver, elements(cell("attributes.`Run Name`"), COUNT))
    trigger = drawn(driver, elements("[data-testid=saved-views-trigger]"))[0]
    trigger.click()
    drawn(driver, elements(f"[data-testid=saved-views-item-{VIEW}]"))[0].click()
    drawn(driver, elements(cell("metrics.`test/score`"), COUNT))
    drawn(driver, has(f"{COUNT} matching runs"))
    shown = driver.execute_script(CELLS)
    known = {run.id: run for run in compiles(store)}
    assert shown.keys() == known.keys()
    for run_id, run in known.items():
        row = shown[run_id]
        assert row["attributes.Run Name"].endswith(run.name)
        for name in ("program", "optimizer", "model"):
            assert row[f"params.{name}"] == run.params[name]
        for name in ("test/score", "test/difference", "cost/report_tokens"):
            assert float(row[f"metrics.{name}"]) == pytest.approx(run.metrics[name])
        assert row["tags.result"] == run.tags["result"]
    order = sorted(shown.values(), key=lambda row: int(row["row"]))
    scores = [float(row["metrics.test/score"]) for row in order]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


def test_nothing_lies_over_a_page_and_the_result_is_in_sight(
    driver: Any, ui: Ui, experiment: str
) -> None:
    driver.get(ui.page(experiment, viewStateShareKey=VIEW))
    cells = drawn(driver, elements(cell("tags.`result`"), COUNT))
    inside = driver.execute_script(
        "return [arguments[0].getBoundingClientRect(), innerWidth]", cells[0]
    )
    assert 0 < inside[0]["left"] and inside[0]["left"] + 150 < inside[1]
    assert driver.find_elements("css selector", "[data-assistant-ui]") == []


def test_an_experiment_opens_on_its_runs_however_it_is_come_by(
    driver: Any, ui: Ui, experiment: str
) -> None:
    driver.get(f"{ui.shown}/#/experiments")
    at = experiment.removesuffix("/runs")
    drawn(driver, elements(f"a[href$='#/{at}']"))
    click(driver, f"a[href$='#/{at}']")
    drawn(driver, elements(cell("attributes.`Run Name`")))
    driver.get("about:blank")
    driver.get(f"{ui.shown}/#/{at}")
    drawn(driver, elements(cell("attributes.`Run Name`")))
    # Whoever has chosen the other half keeps it.
    driver.execute_script("localStorage['mlflow.workflowType_v1'] = '\"genai\"'")
    driver.get("about:blank")
    driver.get(f"{ui.shown}/#/{at}")
    try:
        drawn(driver, lambda _: "workflowType=genai" in driver.current_url)
    finally:
        driver.execute_script("localStorage.clear()")


def test_the_chart_view_draws_every_strategy(
    driver: Any, ui: Ui, experiment: str, store: list[Stored]
) -> None:
    driver.get(ui.page(experiment, viewStateShareKey=VIEW, compareRunsMode="CHART"))
    drawn(driver, elements(".scatterlayer .point", COUNT))
    bars = drawn(driver, elements(".barlayer .trace.bars", 2))[0]
    labels = drawn(driver, lambda _: [e.text for e in bars.find_elements("tag name", "text")])
    scores = sorted(f"{run.metrics['test/score']:.2f}" for run in compiles(store))
    assert sorted(labels) == scores
    text = driver.find_element("tag name", "body").text
    assert all(name in text for name in ("test/score", "test/difference", "cost/report_tokens vs."))


def test_runs_that_are_chosen_open_in_the_compare_view_with_its_chart(
    driver: Any, ui: Ui, experiment: str, store: list[Stored]
) -> None:
    driver.get(ui.page(experiment, viewStateShareKey=VIEW))
    drawn(driver, elements(cell("metrics.`test/score`"), COUNT))
    click(driver, ".ag-header-select-all input")
    click(driver, "[data-testid=runs-compare-button]")
    drawn(driver, has(f"Comparing {COUNT} Runs from 1 Experiment"))
    chart = drawn(driver, elements(".js-plotly-plot"))[0]
    # MLflow chooses one of the metrics; those of the test come first.
    drawn(driver, lambda _: {"program", "optimizer"} <= {*chart.text.split("\n")})
    drawn(driver, lambda _: "\ntest/" in chart.text)
    lines = drawn(driver, elements(".js-plotly-plot canvas"))
    assert all(line.size["width"] > 100 for line in lines)
    assert all(run.name in driver.find_element("tag name", "body").text for run in compiles(store))


def test_a_run_shows_what_it_found(
    driver: Any, ui: Ui, experiment: str, store: list[Stored]
) -> None:
    run = best(store)
    driver.get(ui.page(f"{experiment}/{run.id}"))
    drawn(driver, has("test/score"))
    text = driver.find_element("tag name", "body").text
    assert run.tags["mlflow.note.content"].split("  ")[0] in text
    assert "no gain shown (invented)" in text
    assert "casereportbench (" in text and "crb_dspy.compile" in text


def test_the_report_opens_in_the_artefact_viewer_and_its_filters_work(
    driver: Any, ui: Ui, experiment: str, store: list[Stored]
) -> None:
    driver.get(ui.page(f"{experiment}/{best(store).id}/artifacts/report.html"))
    driver.switch_to.frame(drawn(driver, elements("iframe[sandbox]"))[0])
    marks = drawn(driver, elements(".case mark.bf"))
    assert any(mark.is_displayed() for mark in marks)
    status = driver.find_element("id", "status")
    before = status.text
    click(driver, "[data-set=none]")
    assert status.text.startswith("0 of ") and not before.startswith("0 of ")
    driver.switch_to.default_content()


def test_a_comparison_is_read_in_its_run(
    driver: Any, ui: Ui, experiment: str, store: list[Stored]
) -> None:
    (run,) = (run for run in store if run.tags[mlflow_run.KIND] == "comparison")
    driver.get(ui.page(f"{experiment}/{run.id}"))
    drawn(driver, elements("table"))
    assert run.tags["verdict"] in " ".join(driver.find_element("tag name", "body").text.split())
    driver.get("about:blank")
    driver.get(ui.page(f"{experiment}/{run.id}/artifacts/differences.png"))
    image = drawn(driver, elements("img[alt='differences.png']"))[0]
    drawn(driver, lambda _: image.get_property("naturalWidth") > 100)


def test_artefacts_are_served_as_they_lie(ui: Ui, store: list[Stored]) -> None:
    for name in ("report.html", "cells.jsonl", "program.json"):
        assert (
            ui.artefact(best(store).id, name) == tracking.fetch(best(store).id, name).read_bytes()
        )


def test_only_this_machine_is_answered(ui: Ui) -> None:
    port = int(ui.address.rsplit(":", 1)[1])
    with suppress(OSError), socket.create_connection(("127.0.0.2", port), timeout=10):
        raise AssertionError("it listens on more than 127.0.0.1")
    # A foreign name that leads here, as in DNS rebinding.
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(f"{ui.address}/api/2.0/mlflow/experiments/get", headers={"Host": "a.org"}))
