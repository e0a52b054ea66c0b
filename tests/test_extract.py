"""Extraction over HTTP: order kept, nothing lost or asked twice, whatever ends a run."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.cases import Case
from crb_dspy.data.findings import finding
from crb_dspy.data.readers import Report
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluation.asking import AHEAD, in_order
from crb_dspy.extract.__main__ import main
from crb_dspy.extract.extraction import read_report
from crb_dspy.program import Part
from crb_dspy.quotes.grounding import ground
from crb_dspy.saved import open_program, write_program
from crb_dspy.tracking import store as tracking
from tests.fake_model import fake_model
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.test_saved import WHOLE, tuned

MANY = 1000
CATEGORIES = WHOLE.select(["GI"]).categories


def quoting(body: Body) -> Reply:
    """Quote the number of a report, and something that is not in it."""
    prompt = body["messages"][-1]["content"]
    if "Task:" not in prompt:
        return empty(body)
    (key,) = asked_keys(body)
    return json.dumps({key: [f"cough {number(body)}", "not there"] if key == "GI" else []})


def number(body: Body) -> int:
    found = re.search(r"cough (\d+)", body["messages"][-1]["content"])
    assert found
    return int(found[1])


def flags(server: FakeServer, *arguments: str) -> list[str]:
    own = ["program.json", "--out", "out/findings.jsonl", "--api-base", server.address]
    return [*own, *arguments]


def command(server: FakeServer, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "crb_dspy.extract", *flags(server, *arguments)]


def extracted(folder: Path, server: FakeServer, *arguments: str) -> str:
    """Run the command in this process and return what it printed."""
    with chdir(folder), redirect_stdout(io.StringIO()) as printed:
        assert main(flags(server, *arguments)) == 0
    return printed.getvalue()


def refused(folder: Path, server: FakeServer, *arguments: str) -> str:
    """Run the command and return what it says against it."""
    with chdir(folder), pytest.raises(UserError) as caught:
        main(flags(server, *arguments))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out/findings.jsonl").read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def made(folder: Path, count: int, words: int = 20) -> None:
    """A program for two categories and invented reports about numbered coughs."""
    write_program(folder / "program.json", tuned())
    with (folder / "reports.jsonl").open("w") as file:
        for i in range(count):
            text = f"A girl had cough {i}. " + "She was well {{report}} {x}. " * (words // 5)
            file.write(json.dumps({"id": f"c{i}", "sections": {"Case": text}}) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made(tmp_path, 12)
    return tmp_path


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with serving(quoting) as fake:
        yield fake


def test_findings_come_in_order_with_their_places(folder: Path, server: FakeServer) -> None:
    printed = extracted(folder, server, "--input", "reports.jsonl", "--threads", "4")
    found = rows(folder)
    assert [row["id"] for row in found] == [f"c{i}" for i in range(12)]
    row = found[3]
    assert list(row["findings"]) == ["Neuro", "GI"]
    assert (row["source"], row["errors"], row["mended"]) == ("reports.jsonl", {}, {})
    quote, loose = row["findings"]["GI"]
    case = Case("c3", json.loads((folder / "reports.jsonl").read_text().split("\n")[3])["sections"])
    assert case.text[quote["start"] : quote["end"]] == "cough 3"
    section, at = case.sections[quote["section"]], quote["section_start"]
    assert section[at : at + len("cough 3")] == "cough 3"
    assert quote["status"] == "exact"
    assert (loose["status"], loose["start"], loose["section"]) == ("ungrounded", None, None)
    assert "reports    12, 0 of them from an earlier run, 0 not readable" in printed
    assert "findings   24, 12 of them not in their report" in printed
    assert "errors     0 of 24 cells, 0 more mended" in printed


def test_a_finished_run_asks_nothing_and_changes_nothing(folder: Path) -> None:
    with serving(quoting) as server:
        arguments = ("--input", "reports.jsonl")
        extracted(folder, server, *arguments)
        before, asked = (folder / "out/findings.jsonl").read_bytes(), len(server.bodies)
        again = extracted(folder, server, *arguments)
        assert len(server.bodies) == asked == 25
    assert (folder / "out/findings.jsonl").read_bytes() == before
    assert "reports    12, 12 of them from an earlier run" in again


def test_a_failed_category_is_an_error_in_its_row(folder: Path) -> None:
    def failing(body: Body) -> Reply:
        if "Task:" in body["messages"][-1]["content"] and asked_keys(body) == ["GI"]:
            bad: dict[int, Reply] = {3: 400, 5: "She is well.", 7: '{"GI": ["cough 7"'}
            return bad.get(number(body), quoting(body))
        return quoting(body)

    (folder / "bad.xml").write_text("<html/>")
    with serving(failing) as server:
        printed = extracted(folder, server, "--input", "bad.xml", "reports.jsonl", "--threads", "3")
    found = {row["id"]: row for row in rows(folder)}
    assert list(found) == ["bad", *(f"c{i}" for i in range(12))]
    assert "no article in it" in found["bad"]["errors"]["GI"]
    assert found["bad"]["findings"] == {"Neuro": [], "GI": []}
    assert "broken with 400" in found["c3"]["errors"]["GI"]
    assert "no list of quotes" in found["c5"]["errors"]["GI"]
    assert found["c7"]["errors"] == {}
    assert "broken JSON" in found["c7"]["mended"]["GI"]
    assert {name for name, row in found.items() if row["errors"]} == {"bad", "c3", "c5"}
    assert "1 not readable" in printed
    assert "errors     4 of 26 cells, 1 more mended" in printed


def test_text_on_stdin(folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "He had cough 5 {{report}} { braces }."
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    extracted(folder, server, "--input", "-")
    (row,) = rows(folder)
    assert (row["id"], row["source"]) == ("stdin", "-")
    assert row["findings"]["GI"][0]["section_start"] == text.index("cough")


def test_findings_below_the_folder_that_is_read_are_not_read(
    folder: Path, server: FakeServer
) -> None:
    for _ in range(2):
        extracted(folder, server, "--input", ".")
        assert len(rows(folder)) == 12


def test_a_place_that_cannot_be_written_fails_before_the_first_call(folder: Path) -> None:
    (folder / "out").write_text("a file")
    with serving(quoting) as server:
        said = refused(folder, server, "--input", "reports.jsonl")
        assert server.bodies == []
    assert said.startswith("out/findings.jsonl: cannot be written: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "nowhere"], "nowhere: no such file or folder of reports"),
        (["--input", "empty.txt"], "no report can be read; the first: the report is empty"),
        (["--input", "faulty.jsonl"], "faulty.jsonl, line 1: id: field required"),
        (["--input", "reports.jsonl", "--threads", "0"], "--threads 0: from 1 to 256"),
        (["--input", "reports.jsonl", "--model", "local/qwen"], "unknown local model 'qwen'"),
    ],
)
def test_a_mistake_is_one_line_and_asks_nothing(
    folder: Path, arguments: list[str], said: str
) -> None:
    (folder / "empty.txt").write_text("")
    (folder / "faulty.jsonl").write_text("{}")
    with serving(quoting) as server:
        assert said in refused(folder, server, *arguments)
        assert server.bodies == []


def test_another_program_model_or_input_is_refused(folder: Path, server: FakeServer) -> None:
    arguments = ("--input", "reports.jsonl")
    extracted(folder, server, *arguments)
    before = (folder / "out/findings.jsonl").read_bytes()
    other = refused(folder, server, *arguments, "--model", "openai/other")
    assert "not the same model as when it was begun" in other
    with serving(quoting) as elsewhere:
        assert "not the same api_base" in refused(folder, elsewhere, *arguments)
    (folder / "more.txt").write_text("He had cough 99.")
    more = refused(folder, server, *arguments, "more.txt")
    assert "not the same inputs" in more
    write_program(folder / "program.json", tuned("monolithic"))
    assert "not the same program" in refused(folder, server, *arguments)
    assert (folder / "out/findings.jsonl").read_bytes() == before


def test_a_file_of_something_else_is_left_alone(folder: Path, server: FakeServer) -> None:
    (folder / "out").mkdir()
    (folder / "out/findings.jsonl").write_text("my notes\n")
    said = refused(folder, server, "--input", "reports.jsonl")
    assert "name another --out" in said
    assert (folder / "out/findings.jsonl").read_text() == "my notes\n"


def test_half_a_line_is_cut_off_and_its_report_extracted_again(
    folder: Path, server: FakeServer
) -> None:
    arguments = ("--input", "reports.jsonl")
    extracted(folder, server, *arguments)
    path = folder / "out/findings.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    printed = extracted(folder, server, *arguments)
    assert path.read_bytes() == whole
    assert "calls      0, " in printed
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:5]))
    assert "line 3: 'c3' where 'c2' belongs" in refused(folder, server, *arguments)


def test_a_server_that_dies_ends_the_run_and_its_last_failures_are_asked_again(
    tmp_path: Path,
) -> None:
    made(tmp_path, 60)
    alive = 31

    def dying(body: Body) -> Reply:
        return quoting(body) if len(fake.bodies) <= alive else 401

    with serving(dying) as fake:
        with chdir(tmp_path), pytest.raises(RunError, match="stopped answering"):
            main(flags(fake, "--input", "reports.jsonl"))
        assert 0 < len(rows(tmp_path)) < 60
        assert rows(tmp_path)[-1]["errors"]
        alive = 10**6
        extracted(tmp_path, fake, "--input", "reports.jsonl")
    assert [row["id"] for row in rows(tmp_path)] == [f"c{i}" for i in range(60)]
    assert not any(row["errors"] for row in rows(tmp_path))


def test_what_failed_for_a_reason_that_may_pass_is_asked_again_and_nothing_else(
    tmp_path: Path,
) -> None:
    made(tmp_path, 12)
    hurt = {2, 3, 11}

    def moody(body: Body) -> Reply:
        if "Task:" in body["messages"][-1]["content"] and asked_keys(body) == ["GI"]:
            if number(body) == 5:
                return "She is well."
            if number(body) in hurt:
                return 401
        return quoting(body)

    with serving(moody) as fake:
        first = extracted(tmp_path, fake, "--input", "reports.jsonl")
        assert "3 of them may pass: the same command asks them again" in first
        before, asked = rows(tmp_path), len(fake.bodies)
        again = extracted(tmp_path, fake, "--input", "reports.jsonl")
        assert len(fake.bodies) == asked + 3
        assert rows(tmp_path) == before
        hurt.clear()
        again = extracted(tmp_path, fake, "--input", "reports.jsonl")
        assert "3 calls that had failed were made again" in again
        assert len(fake.bodies) == asked + 6
        assert [row["id"] for row in rows(tmp_path)] == [row["id"] for row in before]
        assert {row["id"] for row in rows(tmp_path) if row["errors"]} == {"c5"}
        (mended,) = [row for row in rows(tmp_path) if row["id"] == "c3"]
        assert [found["quote"] for found in mended["findings"]["GI"]] == ["cough 3", "not there"]
        extracted(tmp_path, fake, "--input", "reports.jsonl", "--retry-failed")
        assert len(fake.bodies) == asked + 7
        extracted(tmp_path, fake, "--input", "reports.jsonl")
        assert len(fake.bodies) == asked + 7
    assert not list((tmp_path / "out").glob(".*"))


def heeding() -> None:
    """Heed Ctrl-C, which children of a background shell are made to ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder: Path, server: FakeServer, asked: int) -> subprocess.Popen[str]:
    """Start a run and return when the server was asked that often."""
    pipe, arguments = subprocess.PIPE, ("--input", "reports.jsonl", "--threads", "4")
    run = subprocess.Popen(
        command(server, *arguments),
        cwd=folder,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=heeding,
    )
    while len(server.bodies) < asked:
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    return run


def test_ctrl_c_keeps_what_is_done_and_two_runs_do_not_mix(tmp_path: Path) -> None:
    made(tmp_path, 200)
    with serving(quoting, delay=0.05) as server:
        run = started(tmp_path, server, 30)
        beside = refused(tmp_path, server, "--input", "reports.jsonl")
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=300)
        assert "another run is writing it" in beside
        assert run.returncode == 130
        assert "Traceback" not in said
        kept = rows(tmp_path)
        assert 0 < len(kept) < 200
        server.delay = 0
        printed = extracted(tmp_path, server, "--input", "reports.jsonl", "--threads", "4")
    assert f"reports    200, {len(kept)} of them from an earlier run" in printed
    assert rows(tmp_path)[: len(kept)] == kept


def test_hundreds_of_reports_killed_and_resumed_lose_and_repeat_nothing(tmp_path: Path) -> None:
    made(tmp_path, 300)
    with serving(quoting) as server:
        run = started(tmp_path, server, 200)
        run.kill()
        run.wait()
        printed = extracted(tmp_path, server, "--input", "reports.jsonl", "--threads", "4")
        asked = [body for body in server.bodies if "Task:" in body["messages"][-1]["content"]]
    assert [row["id"] for row in rows(tmp_path)] == [f"c{i}" for i in range(300)]
    for i, row in enumerate(rows(tmp_path)):
        assert row["findings"]["GI"][0]["quote"] == f"cough {i}"
        assert row["errors"] == {}
    times = Counter((number(body), asked_keys(body)[0]) for body in asked)
    assert len(times) == 2 * 300
    # At most what was under way when the first run was killed.
    assert sum(times.values()) - len(times) <= 4
    assert not re.search(r"reports +300, 0 of them", printed)


def memory(folder: Path, server: FakeServer, count: int) -> float:
    """Return the most memory, in MiB, that a run over so many reports of 30 KB held."""
    folder.mkdir()
    made(folder, count, words=5000)
    arguments = ("--input", "reports.jsonl", "--threads", "8")
    run = subprocess.Popen(command(server, *arguments), cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    assert run.returncode == 0
    assert len(rows(folder)) == count
    return usage.ru_maxrss / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_reports(tmp_path: Path, server: FakeServer) -> None:
    few, many = memory(tmp_path / "a", server, 200), memory(tmp_path / "b", server, MANY)
    # The reports alone are 30 MB, what folding and caching make of them more than ten times that.
    assert many - few < 30


class Slow(Part):
    """Answers a case the sooner, the later it stands."""

    def forward(self, case: Case) -> Any:
        time.sleep(0.002 * (20 - int(case.id) % 20))
        return super().forward(case)


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_reports_are_taken_as_they_are_needed_and_given_in_order(threads: int) -> None:
    taken = 0

    def endless() -> Iterator[Report]:
        nonlocal taken
        while True:
            error = "unreadable" if taken % 50 < 49 and taken >= 50 else ""
            taken += 1
            yield Report(Case(str(taken - 1), {"R": "x"}), "s", error)

    ticks: list[None] = []
    with fake_model():
        parts = [Slow(CATEGORIES), Slow(CATEGORIES)]
        tick = partial(ticks.append, None)
        answered = in_order(parts, endless(), ask=read_report, threads=threads, progress=tick)
        for i in range(220):
            report, readings = next(answered)
            assert report.case.id == str(i)
            assert len(readings) == 2
            assert all(reading.error == report.error for reading in readings)
            assert taken <= i + 1 + AHEAD * threads
        answered.close()  # type: ignore[attr-defined]
    assert len(ticks) >= 440


def test_no_report_is_no_answer() -> None:
    assert list(in_order([Part(CATEGORIES)], [], ask=read_report)) == []


def test_every_place_of_a_quote_is_told() -> None:
    case = Case("a", {"One": "Cough.", "Two": "No cough, then cough."})
    found = finding(case, ground(case.text, "cough"))
    assert (found["section"], found["section_start"], found["start"]) == ("One", 0, 7)
    assert [case.text[slice(*span)] for span in found["also"]] == ["cough", "cough"]


def test_a_program_by_the_id_of_its_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(run: str, artefact: str) -> Path:
        fetched.append(run)
        return folder / artefact

    monkeypatch.setattr(tracking, "fetch", fetch)
    assert open_program("0a" * 16).schema.keys == ("Neuro", "GI")
    assert fetched == ["0a" * 16]
    assert open_program(str(folder)).origin.model == "openai/fake"
    assert fetched == ["0a" * 16]


def test_another_model_is_not_looked_for_at_the_first_ones_address() -> None:
    origin = tuned(api_base="http://here/v1", context=2048, temperature=0.5, seed=3).origin
    same = origin.settings(None, None, 2, trust=True)
    other = origin.settings("openai/x", None, 2)
    assert (same.model, same.api_base, same.context) == ("openai/fake", "http://here/v1", 2048)
    assert (other.model, other.api_base, other.context) == ("openai/x", None, None)
    assert (other.temperature, other.seed, other.threads) == (0.5, 3, 2)
    assert origin.settings(None, "http://there/v1", 1).api_base == "http://there/v1"
    with pytest.raises(UserError):
        origin.settings(None, None, 257)
