"""Work over a cluster: dealt and read again, written whole, capped, killed, and as if done here."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.cluster.allowance import AHEAD, Allowance, Leased
from crb_dspy.cluster.seat import Order, plain
from crb_dspy.data.readers import reports
from crb_dspy.errors import UserError
from crb_dspy.extract.partitions import Partitions
from crb_dspy.extract.spread import FEWEST, deal
from crb_dspy.extract.worker import Piece, Task
from crb_dspy.models import server as server_module
from crb_dspy.models.budget import BudgetSpent, Caps
from crb_dspy.models.settings import Settings
from crb_dspy.saved import program_text, shipped
from tests.fake_server import Body, FakeServer, Reply, serving
from tests.test_extract import made, number, quoting
from tests.test_saved import tuned

pytest.importorskip("ray")

KEYS = ("GI", "Neuro")
KNOWN: dict[str, Any] = {"structured": True}
ROOT = Path(__file__).parents[1]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
placed = st.fixed_dictionaries(
    {
        "quote": texts,
        "status": st.sampled_from(["exact", "ungrounded"]),
        "start": st.none() | st.integers(0, 10**6),
        "end": st.none() | st.integers(0, 10**6),
        "section": st.none() | texts,
        "section_start": st.none() | st.integers(0, 10**6),
        "also": st.lists(st.lists(st.integers(0, 99), min_size=2, max_size=2), max_size=2),
    }
)
lines = st.fixed_dictionaries(
    {
        "id": texts,
        "source": texts,
        "sections": st.dictionaries(texts, texts, max_size=2),
        "findings": st.fixed_dictionaries({key: st.lists(placed, max_size=3) for key in KEYS}),
        "errors": st.dictionaries(st.sampled_from(KEYS), texts),
        "mended": st.dictionaries(st.sampled_from(KEYS), texts),
    }
)


# Files of findings.


@given(st.lists(lines, max_size=5))
def test_a_file_gives_back_the_rows_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    out = Partitions(str(tmp_path_factory.mktemp("out")), KEYS)
    out.write(3, rows, {"reports": len(rows)})
    assert out.rows(3) == rows == list(out.all_rows())
    assert out.counts(3) == {"reports": len(rows)}
    assert [*out.errors([3])] == [said for row in rows for said in row["errors"].values()]
    assert out.numbers() == [3] and out.counts(4) is None


def test_half_a_file_is_no_file_and_other_readers_know_the_schema(tmp_path: Path) -> None:
    import duckdb
    import pandas as pd

    out = Partitions(str(tmp_path), KEYS)
    found = {"quote": "no fever", "status": "exact", "start": 3, "end": 11}
    found |= {"section": "Case", "section_start": 1, "also": []}
    row = {"id": "c1", "source": "s", "sections": {"Case": "A no fever."}}
    row |= {"findings": {"GI": [found], "Neuro": []}, "errors": {"Neuro": "E"}, "mended": {}}
    out.write(0, [row], {"reports": 1})
    frame = pd.read_parquet(tmp_path / out.path(0))
    assert list(frame.columns) == ["id", "source", "sections", "findings", "errors", "mended"]
    assert frame["findings"][0][0]["quote"] == "no fever"
    rows = f"select id, unnest(findings) f from '{tmp_path}/*.parquet'"
    found_again = duckdb.sql(f"select id, f.category, f.quote from ({rows})")
    assert found_again and found_again.fetchall() == [("c1", "GI", "no fever")]
    file = tmp_path / out.path(0)
    file.write_bytes(file.read_bytes()[:-20])
    assert out.counts(0) is None


# Reports dealt.


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4 * FEWEST),
    st.integers(0, 3),
    st.booleans(),
)
def test_pieces_are_read_again_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], files: int, blank: bool
) -> None:
    folder = tmp_path_factory.mktemp("in")
    with (folder / "a.jsonl").open("w") as file:
        for at, name in enumerate(ids):
            file.write(
                json.dumps({"id": name, "sections": {"R": f"text {at} é"}}) + "\n" * (1 + blank)
            )
    for at in range(files):
        (folder / f"b{at}.txt").write_bytes(b"\xff" if at == 1 else f"text of {at}".encode())
    source = reports([str(folder)], folder / "out")
    dealt = deal(source)
    again = [report for piece in dealt.pieces for report in piece.reports(source)]
    assert again == list(source)
    assert dealt.reports == len(again) == len({report.case.id for report in again})
    assert dealt.unreadable == (files > 1)
    plainly = [Piece.of(json.loads(json.dumps(piece.plain()))) for piece in dealt.pieces]
    assert [r for piece in plainly for r in piece.reports(source)] == again


def test_many_reports_are_dealt_in_larger_files(tmp_path: Path) -> None:
    made(tmp_path, 16_100, words=1)
    source = reports([str(tmp_path / "reports.jsonl")], tmp_path / "out")
    dealt = deal(source)
    assert [piece.number for piece in dealt.pieces] == list(range(len(dealt.pieces)))
    assert {sum(piece.takes) for piece in dealt.pieces[:-1]} == {16}
    last = list(dealt.pieces[-1].reports(source))
    assert [report.case.id for report in last] == [f"c{n}" for n in range(16_096, 16_100)]


def test_what_pyarrow_reaches_is_read_like_a_folder_here(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made(tmp_path / "in", 5)
    import pyarrow as pa
    from pyarrow import parquet

    table = {"id": ["p", "q"], "sections": [json.dumps({"A": "x"}), json.dumps({"B": "y"})]}
    parquet.write_table(pa.table(table), tmp_path / "in" / "z.parquet")
    (tmp_path / "in" / "program.json").unlink()
    here = list(reports([str(tmp_path / "in")], tmp_path / "out"))
    there = list(reports([f"file://{tmp_path}/in"], tmp_path / "out"))
    assert [report.case for report in there] == [report.case for report in here]
    assert [report.case.id for report in here][-2:] == ["p", "q"]
    assert here[-1].case.sections == {"B": "y"}
    with pytest.raises(UserError, match="no such file or folder"):
        reports([f"file://{tmp_path}/no"], tmp_path / "out")


# Caps.


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(0, 9)), max_size=80),
)
def test_no_cap_is_passed_by_all_workers_together(
    cap: int, calls: list[tuple[int, int, int]]
) -> None:
    allowance = Allowance(calls=cap, tokens=10 * cap)
    caps = Caps(calls=cap, tokens=10 * cap)
    workers = [Leased(caps, allowance.take, allowance.give) for _ in range(3)]
    spent, done = 0, 0
    for worker, tokens, less in calls:
        try:
            reservation = workers[worker].reserve(tokens)
        except BudgetSpent:
            continue
        used = max(0, tokens - less)
        workers[worker].settle(reservation, used)
        spent, done = spent + used, done + 1
    assert done <= cap and spent <= 10 * cap
    assert done >= min(cap - 2 * AHEAD, len(calls) - 2 * AHEAD) or spent + 9 * AHEAD * 3 > 10 * cap


def test_settings_travel_with_the_logins_that_addresses_need() -> None:
    settings = Settings(
        model="openai/x", api_base="http://me:secret123@h/v1", beside=("http://you:word12345@g/v1",)
    )
    assert "secret123" not in settings.model_dump_json()
    sent = plain(settings)
    assert sent["api_base"] == "http://me:secret123@h/v1"
    assert Settings(**sent) == settings


# What a worker does.


def worker(folder: Path, server: FakeServer) -> tuple[Any, list[Piece], Partitions]:
    settings = Settings(model="openai/fake", api_base=server.address, threads=4)
    source = reports([str(folder / "reports.jsonl")], folder / "out")
    out = Partitions(str(folder / "out"), KEYS)
    out.note({})
    load = partial(shipped, program_text(tuned()))
    return Task(Order(load, plain(settings), KNOWN), source, out)(), deal(source).pieces, out


def test_a_file_that_is_there_is_kept_and_what_failed_in_it_asked_again(tmp_path: Path) -> None:
    made(tmp_path, 20)
    broken = {3}

    def reply(body: Body) -> Reply:
        return 403 if number(body) in broken else quoting(body)

    with serving(reply) as server:
        work, pieces, out = worker(tmp_path, server)
        first = [work(piece.plain()) for piece in pieces]
        assert sum(made["usage"]["calls"] for made in first) == 2 * 19
        assert [row["id"] for row in out.all_rows()] == [f"c{n}" for n in range(20)]
        asked = len(server.bodies)
        again = [work(piece.plain()) for piece in pieces]
        assert [made["counts"] for made in again] == [made["counts"] for made in first]
        assert len(server.bodies) == asked
        assert first[0]["counts"]["failed"] == first[0]["counts"]["passing"] == 2
        broken.clear()
        mended = work(replace(pieces[0], again="passing").plain())
        assert len(server.bodies) == asked + 2
        assert mended["counts"]["failed"] == 0
        assert [row["findings"]["GI"][0]["quote"] for row in out.rows(0)] == [
            f"cough {n}" for n in range(FEWEST)
        ]


def test_a_model_that_is_gone_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 0.001)
    made(tmp_path, 20)
    with serving(lambda body: 503) as server:
        work, pieces, out = worker(tmp_path, server)
        assert "stopped answering" in work(pieces[0].plain())["gone"]
    assert out.numbers() == []
