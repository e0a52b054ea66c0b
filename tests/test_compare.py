"""The comparison as it is asked for: which runs, against what, printed, written and logged."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crb_dspy.compare import plots
from crb_dspy.compare.__main__ import main
from crb_dspy.compare.comparison_text import WIDTH
from crb_dspy.compare.stored import Stored, runs
from crb_dspy.compare.strategies import find, labels
from crb_dspy.compile.artifacts import toml
from crb_dspy.compile.config import Experiment
from crb_dspy.compile.plan import plan
from crb_dspy.errors import UserError
from crb_dspy.tracking.run import KIND
from crb_dspy.tracking.store import fetch, tracked
from tests.made_run import home

EXPERIMENT = Experiment(
    data="sample", categories=["GI", "Neuro"], split=[0.1, 0.1, 0.8], optimizer="none"
)
PLAN = plan(EXPERIMENT)
CASES, KEYS = PLAN.split.test, PLAN.schema.keys


def kept(name: str, gain: float, optimizer: str, **changes: Any) -> str:
    """Store a compile that scores so much better than its seed, give or take; return its id."""
    about = {
        "program": "category_specific",
        "optimizer": optimizer,
        "benchmark": "casereportbench",
        "data_fingerprint": PLAN.loaded.fingerprint,
        "split_fingerprint": PLAN.split.fingerprint,
        "categories": len(KEYS),
    }
    where = changes.pop("experiment", "bench")
    rng = np.random.default_rng(len(name))
    with tracked(where, name, about | changes) as run:
        base = np.random.default_rng(0).uniform(0.3, 0.5, (len(CASES), len(KEYS)))
        noise = rng.normal(0, 0.01, base.shape)
        scores = base + gain + noise - noise.mean()
        lines = [
            {
                **{"case": case.id, "group": case.group, "category": key, "gold": ["none"]},
                **{"predicted": [f"word of {name}"], "score": float(scores[row, column])},
                **{"predicted_baseline": [], "score_baseline": float(base[row, column])},
            }
            for row, case in enumerate(CASES)
            for column, key in enumerate(KEYS)
        ]
        cells, experiment = Path("cells.jsonl"), Path("experiment.toml")
        cells.write_text("".join(json.dumps(line) + "\n" for line in lines))
        named = EXPERIMENT.model_copy(update={"name": name})
        experiment.write_text(toml(named.model_dump(by_alias=True)))
        run.keep(cells)
        run.keep(experiment)
        run.log({"test/score": float(scores.mean()), "paper/tsr_norm": 40.0})
        run.log({"cost/tokens": 1000.0 * (1 + len(name)), "cost/asked": 9, "cost/calls": 9})
    return run.id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A store with strategies, and with much that is none; the ids of its runs by name."""
    with home(tmp_path_factory.mktemp("store")):
        ids = {"early good": kept("good", 0.2, "bootstrap")}
        ids["elsewhere"] = kept("elsewhere", 0.3, "labeled", split_fingerprint="other")
        ids["plain"] = kept("plain", 0.0, "none")
        ids["good"] = kept("good", 0.2, "bootstrap")
        ids["same | $x$"] = kept("same | $x$", 0.0, "labeled")
        with tracked("bench", "with parts", {}) as run:
            ids["GI"] = run.child("GI", {}, {"test/score": [1.0]})
            raised = pytest.raises(ValueError, match="broken")
        with raised, tracked("bench", "broken", {}):
            raise ValueError("broken")
        ids["theirs"] = kept("theirs", 0.0, "none", benchmark="maccrobat", experiment="other")
        yield ids


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        main(list(arguments))
    return str(caught.value)


IN = ("--experiment", "bench")


def test_all_compiles_of_an_experiment_stand_against_the_untuned_run(
    store: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, *IN, "--baseline", "plain")
    verdict = " ".join(text.split("\n\n")[0].split())
    assert "good is better than plain by +0.2" in verdict
    assert "Holm p = 0.0002)" in verdict
    assert f"{len(CASES)} test cases in {len(CASES)} groups, 2 categories" in text
    assert "note: 1 left out: split_fingerprint other, not " in text
    for name in ("elsewhere", "GI ", "broken", "theirs", "seed of"):
        assert f" {name}" not in text.split("left out")[1]
    assert "corrected for 2 comparisons" in text
    table = text.split("\n", 1)[1].split("MLflow run")[0]
    assert max(map(len, table.splitlines())) <= WIDTH


def test_the_baseline_is_the_oldest_untuned_run_unless_one_is_named(
    store: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    same = store["same | $x$"]
    assert "better than plain by" in printed(capsys, store["good"], store["plain"][:12])
    assert "shown to be better than good" in printed(capsys, "good", same, "--baseline", "good")
    assert "good is better than seed of same" in printed(
        capsys, "good", same, "--baseline", f"{same}:seed"
    )


def test_one_run_is_compared_with_its_own_seed(
    store: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "good")
    assert "good is better than seed of good by +0.2" in text
    assert "corrected for 1 comparison\n" in text


def test_the_untuned_run_alone_is_nothing_to_compare(store: dict[str, str]) -> None:
    assert "plain is the only run" in refusal("plain")


def test_runs_on_other_splits_are_refused_by_name_with_what_differs(store: dict[str, str]) -> None:
    message = refusal("plain", "elsewhere")
    assert message.startswith("run elsewhere (")
    assert "cannot be compared with run plain (" in message
    assert message.endswith(f"split_fingerprint other, not {PLAN.split.fingerprint}")


def test_several_experiments_must_be_told_apart(store: dict[str, str]) -> None:
    assert refusal() == "--experiment NAME: there are runs of bench, other"
    assert "no experiment 'benhc'" in refusal("--experiment", "benhc")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "no run 'nobody': give an id, the beginning of one, or a name"),
        ("GI", "run 'GI' is no finished compile: part, finished"),
        ("broken", "run 'broken' is no finished compile: compile, failed"),
    ],
)
def test_what_is_no_strategy_is_refused(store: dict[str, str], name: str, message: str) -> None:
    assert refusal(name) == message


def test_an_id_is_found_by_its_beginning_if_that_is_enough() -> None:
    metrics = {"test/score": 0.5}
    stored = [Stored(f"abcd{n}", "name", "bench", metrics=metrics) for n in range(2)]
    assert find(stored, "abcd1") == [stored[1]]
    with pytest.raises(UserError, match="run 'abcd': 2 ids begin so"):
        find(stored, "abcd")


def test_runs_of_one_name_are_told_by_what_they_differ_in() -> None:
    def run(number: int, name: str, **params: str) -> Stored:
        return Stored(f"id{number}", name, "bench", params=params)

    named = [run(1, "a", optimizer="none"), run(2, "b", optimizer="gepa")]
    assert labels(named) == ["a", "b"]
    alike = [
        run(1, "compile", program="monolithic", optimizer="none", model="m"),
        run(2, "compile", program="monolithic", optimizer="gepa", model="m"),
        run(3, "compile", program="grouped", optimizer="gepa", model="m"),
        run(4, "compile", program="grouped", optimizer="gepa", model="m"),
    ]
    assert labels(alike) == [
        "monolithic / none",
        "monolithic / gepa",
        "grouped / gepa (id3)",
        "grouped / gepa (id4)",
    ]
    shown = [
        run(1, "compile", optimizer="auto", few_shot="True"),
        run(2, "compile", optimizer="none", few_shot="False"),
        run(3, "compile", optimizer="none", few_shot="True"),
    ]
    assert labels(shown[:2]) == ["auto", "none"]
    both = [run(n, "compile", program=f"p{n}", optimizer=f"o{n}") for n in (1, 2)]
    assert labels(both) == ["p1 / o1", "p2 / o2"]
    assert labels(shown) == ["auto / few-shot", "none / zero-shot", "none / few-shot"]


def test_tables_are_written_with_the_same_numbers(
    store: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = tmp_path / "in" / "a.csv", tmp_path / "a.md"
    text = printed(capsys, *IN, "--baseline", "plain", "--csv", str(table), "--markdown", str(page))
    rows = list(csv.DictReader(table.read_text().splitlines()))
    whole = {row["strategy"]: row for row in rows if row["category"] == "all"}
    assert list(whole) == ["plain", "good", "same | $x$"]
    good = whole["good"]
    assert f"{float(good['difference']):+.3f}" in text
    assert float(good["difference"]) == pytest.approx(
        float(good["value"]) - float(whole["plain"]["value"])
    )
    assert float(good["low"]) < float(good["difference"]) < float(good["high"])
    assert (good["wins"], good["ties"], good["losses"]) == (str(len(CASES)), "0", "0")
    assert (good["run"], good["source"]) == (store["good"], "measured here")
    parts = [
        float(r["difference"]) for r in rows if r["strategy"] == "good" and r["category"] in KEYS
    ]
    assert np.mean(parts) == pytest.approx(float(good["difference"]))
    assert page.read_text().startswith("**good is better than plain by +0.2")
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    # The name's own bar is no column.
    assert {line.replace("\\|", "").count("|") for line in lines[:5]} == {10}


def test_what_cannot_be_written_is_one_line(store: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal("good", "--csv", str(tmp_path / "file" / "a.csv"))


def test_published_scores_are_marked_and_only_beside_their_benchmark(
    store: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "good", "plain", "--published")
    lines = [line for line in text.splitlines() if "re-scored" in line and "tsr_norm" in line]
    assert len(lines) == 5
    assert any("GPT-4o" in line for line in lines)
    assert sum("measured here" in line and "40.0" in line for line in text.splitlines()) == 2
    assert "published: over its 138 cases" in text
    assert refusal("theirs", "--baseline", "theirs:seed", "--published") == (
        "--published: scores are of casereportbench, these runs of maccrobat"
    )


def test_a_comparison_is_a_run_of_its_own_and_no_strategy(
    store: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, *IN, "--baseline", "plain")
    run_id = text.split("MLflow run ")[1].split()[0]
    assert f"/runs/{run_id}?" in text.splitlines()[-1]
    (run,) = [run for run in runs("bench") if run.id == run_id]
    assert (run.tags[KIND], run.status) == ("comparison", "FINISHED")
    assert run.tags["verdict"].startswith("good is better than plain")
    assert run.params["baseline"] == "plain"
    assert "| strategy |" in run.tags["mlflow.note.content"]
    for name in ("differences.png", "categories.png", "pareto.png"):
        assert fetch(run_id, name).read_bytes().startswith(b"\x89PNG")
    assert fetch(run_id, "comparison.csv").read_text().startswith("source,strategy,run,")
    again = printed(capsys, *IN, "--baseline", "plain")
    assert again.split("MLflow run")[0] == text.split("MLflow run")[0]


def test_figures_show_every_strategy(store: dict[str, str]) -> None:
    from crb_dspy.compare.comparison import compare
    from crb_dspy.compare.strategies import choose, laid_out

    comparison = compare(laid_out(choose(runs("bench"), [], "plain", "bench")))
    names = [r"same | \$x\$", "good"]
    (forest,) = plots.differences(comparison).axes
    assert [tick.get_text() for tick in forest.get_yticklabels()] == names
    heat = plots.categories(comparison).axes[0]
    assert [tick.get_text() for tick in heat.get_yticklabels()] == names[::-1]
    assert [tick.get_text() for tick in heat.get_xticklabels()] == list(KEYS)
    assert len(heat.texts) == 4
    (pareto,) = plots.pareto(comparison).axes
    assert {text.get_text() for text in pareto.texts} == {*names, "plain"}


def test_two_runs_are_shown_side_by_side(
    store: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "two.html"
    printed(capsys, "good", "plain", "--html", str(page))
    html = page.read_text()
    for shown in ("word of good", "word of plain", "good is better than plain by"):
        assert shown in html
    printed(capsys, "good", "--html", str(page))
    assert "seed of good" in page.read_text()
    assert "--html shows two strategies, not 3" in refusal(
        "good", "plain", store["same | $x$"], "--html", str(page)
    )


def test_a_mistake_ends_the_command_with_one_line(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "crb_dspy.compare"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert done.stderr == ("error: mlruns/mlflow.db: no runs here yet; compile something first\n")
