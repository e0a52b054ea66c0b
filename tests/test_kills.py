"""Real processes killed at any moment, from an empty folder each, resume to the same bytes.

CRB_KILLS says how often each command is killed; a campaign takes 40.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.made_run import WRITTEN
from tests.scoring_reply import sample
from tests.test_saved import tuned

KILLS = int(os.environ.get("CRB_KILLS", "3"))
# Where a process is hit: before it asks, while it makes its store, asks, judges, writes.
PLACES = ("start-up", "store", "calls", "gate", "writing")
COMPILE = (
    *("compile", "--limit", "16", "--optimizer", "factors", "--threads", "2"),
    *("--categories", "GI,GU", "--force"),
)
GRID = """\
limit = 12
threads = 2
categories = ["GI"]
optimizer = ["none", "labeled"]
"""
# Calls that may have been under way, of those of all runs together.
REPEATED = 0.02


def environment(folder: Path) -> dict[str, str]:
    own = {name: text for name, text in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return own | {"XDG_STATE_HOME": str(folder / "state"), "OPENAI_API_KEY": "none"}


def started(folder: Path, server: FakeServer, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    name, *rest = arguments
    model = ["--api-base", server.address] + (["--model", "openai/fake"] * (name != "extract"))
    return subprocess.Popen(
        [sys.executable, "-m", f"crb_dspy.{name}", *rest, *model],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said


def reached(place: str, folder: Path, server: FakeServer, whole: int, share: float) -> bool:
    """Say whether a process has come to where it is to be hit."""
    asked = len(server.bodies)
    if place == "start-up":
        return True
    if place == "store":
        store = folder / "mlruns/.mlflow.db.making"
        return store.exists() or asked > 0
    if place == "calls":
        return asked >= share * whole
    if place == "gate":
        return asked >= (0.8 + 0.2 * share) * whole
    return any(folder.glob("mlruns/out/*/prompts.md")) or any(folder.glob("out/findings.jsonl"))


def hit(
    folder: Path, server: FakeServer, arguments: tuple[str, ...], whole: int, chance: random.Random
) -> str:
    """Start a process and kill it somewhere, as if the power failed; say where."""
    place, share = chance.choice(PLACES), chance.random()
    process = started(folder, server, arguments)
    while not reached(place, folder, server, whole, share) and process.poll() is None:
        time.sleep(0.002)
    longest = {"start-up": 4.0, "store": 3.0, "writing": 1.0}.get(place, 0.05)
    time.sleep(chance.uniform(0, longest))
    process.kill()
    process.communicate()
    return place


def campaign(
    tmp_path: Path,
    arguments: tuple[str, ...],
    prepare: Callable[[Path], None],
    results: Callable[[Path], dict[str, bytes]],
    reply: Callable[[Body], Reply],
) -> None:
    with serving(reply) as server:
        folder = tmp_path / "unbroken"
        prepare(folder)
        finished(started(folder, server, arguments))
        unbroken, whole = results(folder), len(server.bodies)
        asked, places = 0, []
        for number in range(KILLS):
            folder = tmp_path / f"broken-{number}"
            prepare(folder)
            server.bodies.clear()
            places.append(hit(folder, server, arguments, whole, random.Random(number)))
            finished(started(folder, server, arguments))
            assert results(folder) == unbroken, (number, places[-1])
            asked += len(server.bodies)
        assert whole * KILLS <= asked <= whole * KILLS * (1 + REPEATED) + 2, places
        print(f"{arguments[0]}: {KILLS} kills {places}, {whole} calls each, {asked} in all")


def nothing(folder: Path) -> None:
    folder.mkdir()


def compiled(folder: Path) -> dict[str, bytes]:
    paths = folder.glob("mlruns/out/*/*")
    return {path.name: path.read_bytes() for path in paths if path.name in WRITTEN}


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_compiles_killed_at_any_moment_end_as_unbroken_ones(tmp_path: Path) -> None:
    campaign(tmp_path, COMPILE, nothing, compiled, sample())


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_sweeps_killed_at_any_moment_end_as_unbroken_ones(tmp_path: Path) -> None:
    def grid(folder: Path) -> None:
        folder.mkdir()
        (folder / "grid.toml").write_text(GRID)

    def points(folder: Path) -> dict[str, bytes]:
        paths = folder.glob("mlruns/out/*/*")
        found = {p.parent.name + p.name: p.read_bytes() for p in paths if p.name in WRITTEN}
        assert len(found) == 2 * len(WRITTEN)
        return found

    campaign(tmp_path, ("sweep", "grid.toml"), grid, points, sample())


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_extractions_killed_at_any_moment_end_as_unbroken_ones(tmp_path: Path) -> None:
    from crb_dspy.saved import write_program

    def reports(folder: Path) -> None:
        folder.mkdir()
        write_program(folder / "program.json", tuned())
        lines = (
            json.dumps({"id": f"c{n}", "sections": {"Case": f"A girl had cough {n}."}}) + "\n"
            for n in range(60)
        )
        (folder / "reports.jsonl").write_text("".join(lines))

    def quoting(body: Body) -> Reply:
        if "Task:" not in body["messages"][-1]["content"]:
            return empty(body)
        time.sleep(0.005)
        return json.dumps({key: ["cough"] for key in asked_keys(body)})

    def findings(folder: Path) -> dict[str, bytes]:
        return {"findings": (folder / "out/findings.jsonl").read_bytes()}

    inputs = ("extract", "program.json", "--input", "reports.jsonl", "--out", "out/findings.jsonl")
    campaign(tmp_path, (*inputs, "--threads", "2"), reports, findings, quoting)
