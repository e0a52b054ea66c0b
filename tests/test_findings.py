"""What an extraction that was broken off has done, and what of it is asked again."""

from __future__ import annotations

from collections.abc import Container
from itertools import count
from pathlib import Path

import pytest

from crb_dspy.evaluation.asking import AHEAD
from crb_dspy.extract.findings import FindingsFile, Line
from crb_dspy.models.server import PATIENCE
from crb_dspy.saved import write_program
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.test_extract import extracted, made, number, quoting, rows
from tests.test_saved import tuned

WINDOW = PATIENCE + AHEAD
MANY, DONE = 70, 60


def asked_about(server: FakeServer) -> set[int]:
    return {number(body) for body in server.bodies if "Task:" in body["messages"][-1]["content"]}


def failing(body: Body, numbers: Container[int], bad: Reply = 404) -> Reply:
    """Answer, but for one category of these reports."""
    if "Task:" not in body["messages"][-1]["content"]:
        return quoting(body)
    return bad if asked_keys(body) == ["GI"] and number(body) in numbers else quoting(body)


def broken_off(folder: Path, server: FakeServer, *arguments: str) -> set[int]:
    """End a run when so many reports are done; return the numbers of later ones asked about.

    What was answered of those is in the cache, so that they may be asked about again or not.
    """
    append, written = FindingsFile.append, count(1)

    def breaking(self: FindingsFile, row: Line) -> None:
        append(self, row)
        if next(written) == DONE:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FindingsFile, "append", breaking)
        with pytest.raises(KeyboardInterrupt):
            extracted(folder, server, "--input", *arguments)
    assert len(rows(folder)) == DONE
    ahead = asked_about(server) - set(range(DONE))
    server.bodies.clear()
    return ahead


@pytest.mark.parametrize("bad", ["She is well.", 400], ids=["unusable", "refused"])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_category_that_always_fails_is_not_asked_about_from_the_start_again(
    tmp_path: Path, bad: Reply, threads: str
) -> None:
    made(tmp_path, MANY)
    with serving(lambda body: failing(body, range(MANY), bad)) as server:
        ahead = broken_off(tmp_path, server, "reports.jsonl")
        before = rows(tmp_path)
        printed = extracted(tmp_path, server, "--input", "reports.jsonl", "--threads", threads)
        asked = asked_about(server)
    assert asked | ahead == set(range(DONE, MANY))
    assert f"reports    {MANY}, {DONE} of them from an earlier run" in printed
    assert rows(tmp_path)[:DONE] == before
    assert all(list(row["errors"]) == ["GI"] for row in rows(tmp_path))


@pytest.mark.parametrize("program", ["monolithic", "category_specific"])
def test_as_many_calls_as_a_dying_server_can_fail_are_asked_again(
    tmp_path: Path, program: str
) -> None:
    made(tmp_path, MANY)
    write_program(tmp_path / "program.json", tuned(program))
    parts = len(tuned(program).program.parts)
    late = range(DONE - (PATIENCE - 1) // parts, DONE)
    alive = False

    def dying(body: Body) -> Reply:
        asks = "Task:" in body["messages"][-1]["content"]
        return 404 if asks and not alive and number(body) in late else empty(body)

    with serving(dying) as server:
        broken_off(tmp_path, server, "reports.jsonl")
        assert [row["id"] for row in rows(tmp_path) if row["errors"]] == [f"c{i}" for i in late]
        alive = True
        extracted(tmp_path, server, "--input", "reports.jsonl")
    assert not any(row["errors"] for row in rows(tmp_path))


def test_failures_are_asked_again_though_answers_came_after_them(tmp_path: Path) -> None:
    made(tmp_path, MANY)
    early, late = DONE - WINDOW - 1, DONE - WINDOW
    numbers = {early, late}
    with serving(lambda body: failing(body, numbers)) as server:
        ahead = broken_off(tmp_path, server, "reports.jsonl")
        numbers.clear()
        extracted(tmp_path, server, "--input", "reports.jsonl")
        # The answers that came after it are in the cache.
        asked = asked_about(server)
    assert asked | ahead == {early, late, *range(DONE, MANY)}
    assert not any(row["errors"] for row in rows(tmp_path))


def test_reports_that_cannot_be_read_do_not_hide_a_late_failure(tmp_path: Path) -> None:
    made(tmp_path, DONE - WINDOW)
    names = [f"bad{i}.xml" for i in range(WINDOW + 10)]
    for name in names:
        (tmp_path / name).write_text("<html/>")
    late = DONE - WINDOW - 1
    numbers = {late}
    with serving(lambda body: failing(body, numbers)) as server:
        broken_off(tmp_path, server, "reports.jsonl", *names)
        numbers.clear()
        extracted(tmp_path, server, "--input", "reports.jsonl", *names)
        assert asked_about(server) == {late}
    assert [row["id"] for row in rows(tmp_path) if row["errors"]] == [n[:-4] for n in names]
