"""Whole runs over a cluster on this machine: killed workers, drivers and nodes lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.extract.partitions import Partitions
from tests.fake_server import Body, FakeServer, Reply, serving
from tests.test_extract import made, number, quoting

pytest.importorskip("ray")

ROOT = Path(__file__).parents[1]

# A cluster on this machine, always beside this process: where Ray loses its own processes, it ends
# the one that started them without a word.


def run(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", f"crb_dspy.{command}", "program.json", *arguments]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=900)


def spread(folder: Path, server: FakeServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "extract", *onto_ray(server), *arguments)


def onto_ray(server: FakeServer) -> list[str]:
    own = ["--input", "reports.jsonl", "--out", "ray", "--engine", "ray"]
    return [*own, "--workers", "2", "--threads", "2", "--api-base", server.address]


def written(folder: Path) -> list[dict[str, Any]]:
    return list(Partitions(str(folder / "ray"), ("GI", "Neuro")).all_rows())


@pytest.fixture(autouse=True)
def _workers_find_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def failing_once(wanted: set[int]) -> Callable[[Body], Reply]:
    def reply(body: Body) -> Reply:
        if "Task:" in body["messages"][-1]["content"] and number(body) in wanted:
            return 400 if number(body) % 2 else "no JSON at all"
        return quoting(body)

    return reply


@pytest.mark.slow
def test_workers_write_what_one_process_writes_and_go_on_where_a_cap_ended_them(
    tmp_path: Path,
) -> None:
    made(tmp_path, 40)
    with serving(failing_once({3, 8})) as server:
        here = ("--input", "reports.jsonl", "--out", "local.jsonl", "--threads", "4")
        assert not run(tmp_path, "extract", *here, "--api-base", server.address).returncode
        server.bodies.clear()
        capped = spread(tmp_path, server, "--max-calls", "30")
        assert capped.returncode == 1 and "--max-calls 30 reached" in capped.stderr
        asked = sum("Task:" in prompt for prompt in server.prompts())
        assert 0 < asked <= 30
        done = spread(tmp_path, server)
        total = sum("Task:" in prompt for prompt in server.prompts())
        assert "reports    40, " in done.stdout and "no list of quotes" in done.stdout
        local = [json.loads(line) for line in (tmp_path / "local.jsonl").read_text().splitlines()]
        assert written(tmp_path) == local
        assert total == 2 * 40
        server.bodies.clear()
        assert "40 of them from an earlier run" in spread(tmp_path, server).stdout
        assert not server.bodies
        other = tmp_path / "reports.jsonl"
        other.write_text("\n".join(other.read_text().splitlines()[1:]) + "\n")
        refused = spread(tmp_path, server)
        assert refused.returncode == 2 and "not the same inputs" in refused.stderr
    manifest = json.loads((tmp_path / "ray" / "manifest.json").read_text())
    assert manifest["reports"] == 40 == sum(f["reports"] for f in manifest["files"].values())


@pytest.mark.slow
def test_workers_evaluate_as_one_process_does_and_ask_what_was_answered_never_again(
    tmp_path: Path,
) -> None:
    made(tmp_path, 20)
    reports = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    gold = [{"GI": [f"cough {n}"] if n % 3 else [], "Neuro": []} for n in range(20)]
    lines = [json.dumps({**row, "gold": its}) for row, its in zip(reports, gold, strict=True)]
    (tmp_path / "cases.jsonl").write_text("\n".join(lines))
    given = ("--data", "cases.jsonl", "--json", "--threads", "2")

    def evaluated(server: FakeServer, *more: str) -> dict[str, Any]:
        done = run(tmp_path, "evaluate", *given, "--api-base", server.address, *more)
        assert not done.returncode, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    with serving(failing_once({3, 8})) as server:
        here = evaluated(server)
        server.bodies.clear()
        capped = run(tmp_path, "evaluate", *given, *onto_ray(server)[4:], "--max-calls", "11")
        assert capped.returncode == 1 and "--max-calls 11 reached" in capped.stderr
        first = evaluated(server, "--engine", "ray", "--workers", "2")
        asked = sum("Task:" in prompt for prompt in server.prompts())
        again = evaluated(server, "--engine", "ray", "--workers", "2")
    apart = ("usage", "seconds")
    assert {n: v for n, v in first.items() if n not in apart} == {
        n: v for n, v in here.items() if n not in apart
    }
    # A case of which one call was answered is asked again.
    assert 2 * 20 <= asked <= 2 * 20 + 4 and first["usage"]["asked"] == 2 * 20
    assert (again["score"], again["usage"]["calls"]) == (first["score"], 2)


@pytest.mark.slow
def test_a_lost_node_costs_the_files_that_it_had_begun(tmp_path: Path) -> None:
    from bench.cluster import below

    made(tmp_path, 240)
    nodes = subprocess.Popen(
        [sys.executable, "-m", "tests.two_nodes"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert nodes.stdin and nodes.stdout
    try:
        address, raylet = nodes.stdout.readline().split()
        with serving(quoting) as server:
            command = [sys.executable, "-m", "crb_dspy.extract", "program.json", *onto_ray(server)]
            with begun(tmp_path, [*command, "--address", address]) as process:
                reach(tmp_path, process, 5)
                assert any("MapWorker" in name for _, name in below(int(raylet)))
                nodes.stdin.write("lose it\n")
                nodes.stdin.flush()
                assert not process.wait(900)
            asked = sum("Task:" in prompt for prompt in server.prompts())
    finally:
        nodes.stdin.close()
        nodes.wait(60)
    assert [row["id"] for row in written(tmp_path)] == [f"c{i}" for i in range(240)]
    # The file of eight reports that was under way there, and one that was waiting.
    assert 2 * 240 <= asked <= 2 * 240 + 2 * 8 * 2


@pytest.mark.slow
def test_killed_workers_and_a_killed_driver_lose_nothing_and_repeat_little(tmp_path: Path) -> None:
    made(tmp_path, 600)
    with serving(quoting) as server:
        command = [sys.executable, "-m", "crb_dspy.extract", "program.json", *onto_ray(server)]
        with begun(tmp_path, command) as process:
            for files in (10, 25, 40):
                kill_worker(tmp_path, process, files)
            reach(tmp_path, process, 50)
        subprocess.run(command, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
        asked = sum("Task:" in prompt for prompt in server.prompts())
    assert [row["id"] for row in written(tmp_path)] == [f"c{i}" for i in range(600)]
    # A file of eight reports for each worker killed, and two files for each of the driver's.
    assert asked <= 2 * 600 + 2 * 8 * (3 + 2 * 2)


@contextmanager
def begun(folder: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, which is killed in the end."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def reach(folder: Path, process: subprocess.Popen[bytes], files: int) -> None:
    deadline = time.monotonic() + 900
    while len(list((folder / "ray").glob("part-*"))) < files:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def kill_worker(folder: Path, process: subprocess.Popen[bytes], files: int) -> None:
    from bench.cluster import below

    reach(folder, process, files)
    while not (workers := [pid for pid, name in below(process.pid) if "MapWorker" in name]):
        time.sleep(0.05)
    os.kill(workers[0], signal.SIGKILL)
