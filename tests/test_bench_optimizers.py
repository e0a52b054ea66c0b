"""The bench of optimizers: its simulated model, how it counts, and its command."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.simulated import MODES, SEED, SHARES, VALIDATION, Watch, World, searched, side_by_side
from crb_dspy.catalog import build_program
from crb_dspy.data.schema import load_schema
from tests.fake_server import serving
from tests.made_data import entry, save

SCRIPT = Path(__file__).parents[1] / "bench" / "optimizers.py"
PROGRAM = build_program(
    "category_specific", load_schema("casereportbench").select(["GI", "GU"]), {}
)


def bench(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", *arguments],
        env={**os.environ, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_wordings_scores_average_to_its_worth_and_never_change() -> None:
    world = World(0)
    better = next(
        text
        for text in (world.proposal("GI", "seed") for _ in range(20))
        if world.worth(("GI", text, "")) > SEED + 0.05
    )
    cases = [str(n) for n in range(4000)]
    for wording in (("GI", "seed", ""), ("GI", better, "")):
        scores = [world.score(wording, case) for case in cases]
        assert statistics.fmean(scores) == pytest.approx(world.worth(wording), abs=0.015)
        assert scores == [world.score(wording, case) for case in cases]
        assert all(0 <= score <= 1 for score in scores)


def test_equal_seeds_give_both_modes_the_same_steps() -> None:
    one, other = World(3), World(3)
    for _ in range(4):
        other.proposal("GU", "seed")
    texts = [(one.proposal("GI", "seed"), other.proposal("GI", "seed")) for _ in range(4)]
    worths = [(one.worth(("GI", a, "")), other.worth(("GI", b, ""))) for a, b in texts]
    assert all(a == b for a, b in worths)
    assert len(set(worths)) == 4


def test_a_joint_mipro_spends_what_its_recipe_says() -> None:
    watch = searched("mipro", PROGRAM, 0, {"candidates": 2, "trials": 1})
    # Two parts on 10 training cases, two proposals each, and then on 30 validation cases.
    assert watch.reached[:2] == [(0, 0, SEED), (2 * (10 + 2 + 30), 2 * (10 + 2 + 30), SEED)]
    # The other candidate meets a sixth of the cases at a time.
    assert watch.spent()[1] in [2 * (10 + 2 + 30 + met) for met in range(5, 31, 5)]


def test_what_was_asked_before_is_a_request_and_no_call() -> None:
    watch, changed = Watch(World(0)), PROGRAM.GI.with_instruction("Quote it.")
    watch.ask(PROGRAM, VALIDATION[0])
    assert watch.spent() == (2, 2)
    watch.ask(PROGRAM, VALIDATION[0])
    assert watch.spent() == (2, 4)
    watch.ask(PROGRAM.with_parts({"GI": changed}), VALIDATION[0])
    assert watch.spent() == (3, 6)


def test_gepa_runs_through_to_new_instructions() -> None:
    watch = searched("gepa", PROGRAM.GI, 1, {"rounds": 4})
    assert watch.world.proposals["GI"] > 0
    assert len(watch.reached) > 2
    assert watch.spent()[0] < watch.spent()[1]


def test_searches_side_by_side_take_turns() -> None:
    short, long = Watch(World(0)), Watch(World(0))
    short.asked = {(("GI", "seed", ""), str(n)) for n in range(2)}
    long.asked = {(("GI", "seed", ""), str(n)) for n in range(5)}
    short.reached.append((2, 2, 0.6))
    long.reached += [(3, 3, 0.5), (5, 5, 0.8)]
    course = side_by_side([short, long])
    assert list(course.spent) == [0, 2, 4, 5, 6, 7]
    assert course.worth.tolist() == pytest.approx([0.4, 0.4, 0.5, 0.55, 0.55, 0.7])
    assert course.at([3, 4, 99]) == pytest.approx([0.4, 0.5, 0.7])
    assert course.reaching(0.55) == 5
    assert course.reaching(0.71) == float("inf")


def test_the_command_gives_curves_ratios_and_a_plot(tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    sizes = ["--seeds", "1", "--trials", "4", "--rounds", "1"]
    found = bench("--only", "simulated", *sizes, "--plot", str(picture))["simulated"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    for mode in MODES:
        assert set(found[mode]) == {"mipro", "gepa"}
        for curve in found[mode].values():
            assert all(len(curve[k]) == len(SHARES) for k in ("calls", "median", "low", "high"))
    assert set(found["calls_to_reach_joint_best_ratio"]) == {"mipro", "gepa"}
    assert all(value >= 0 for value in found["calls_to_reach_joint_best_ratio"].values())
    plain = bench("--only", "simulated", *sizes, "--searches", "mipro", "--plain-joint")[
        "simulated"
    ]
    # 14 parts, each on 10 training cases, with 10 proposals, and 5 candidates on 30 cases.
    assert plain["joint"]["mipro"]["spent"] <= 14 * (10 + 10 + 5 * 30)
    assert plain["joint"]["mipro"]["spent"] > found["joint"]["mipro"]["spent"]
    assert plain["by_parts"]["mipro"]["finals"] == found["by_parts"]["mipro"]["finals"]


@pytest.mark.slow
def test_real_compiles_both_ways_under_one_cap(tmp_path: Path) -> None:
    data = save(tmp_path / "cases.jsonl", *(entry(f"c{n}", gold={"GI": []}) for n in range(9)))
    with serving() as server:
        where = ["--model", "openai/fake", "--api-base", server.address, "--data", data]
        what = ["--schema", "casereportbench", "--categories", "GI,Neuro", "--limit", "9"]
        rest = ["--optimizers", "mipro", "--max-calls", "60", "--folder", str(tmp_path / "runs")]
        found = bench("--only", "real", *where, *what, *rest, "--set", "force=true")["real"]
        asked = len(server.bodies)
    rows = [found[mode]["mipro"] for mode in MODES]
    assert all(0 < row["calls"] <= 60 for row in rows)
    assert sum(row["calls"] for row in rows) == asked
    assert all(row["test"] == row["baseline"] == 1 for row in rows)
    assert all(row["seconds"] > 0 and row["cases"] > 0 for row in rows)
