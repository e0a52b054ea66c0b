"""The store is made whole or not at all, and whatever state it is in is told in one line."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crb_dspy.errors import RunError, UserError
from crb_dspy.tracking import database
from crb_dspy.tracking import store as tracking
from tests.made_run import empty_store

OPEN = "from crb_dspy.tracking import store; store.opened('bench')"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which this process stands; its store would be the default one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlruns").mkdir()
    return tmp_path / "mlruns/mlflow.db"


def copied(place: Path) -> Path:
    place.write_bytes(empty_store().read_bytes())
    return place


def altered(place: Path, *statements: str) -> Path:
    with sqlite3.connect(copied(place)) as file:
        for statement in statements:
            file.execute(statement)
    file.close()
    return place


def tables(path: Path) -> int:
    with sqlite3.connect(path) as file:
        (count,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    file.close()
    return int(count)


def test_a_store_that_is_whole_stays_as_it_is(place: Path) -> None:
    before = copied(place).read_bytes()
    database.ready(place)
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    "left",
    [
        b"",
        ("DELETE FROM alembic_version",),
        ("DROP TABLE alembic_version", "DROP TABLE runs"),
        ("UPDATE alembic_version SET version_num = '0123456789ab'",),
    ],
)
def test_one_that_was_left_half_made_is_made_anew(
    place: Path, left: bytes | tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(left, bytes):
        place.write_bytes(left)
    else:
        altered(place, *left)
    whole = empty_store().read_bytes()
    monkeypatch.setattr(database, "_make", lambda path: path.write_bytes(whole))
    database.ready(place)
    assert place.read_bytes() == whole


def test_one_of_another_version_that_holds_a_run_is_left_alone(place: Path) -> None:
    altered(
        place,
        "UPDATE alembic_version SET version_num = '0123456789ab'",
        "INSERT INTO runs (run_uuid, experiment_id) VALUES ('r', 0)",
    )
    before = place.read_bytes()
    with pytest.raises(UserError, match=r"schema 0123456789ab, here \w+\); copy it, then: mlflow"):
        database.ready(place)
    assert place.read_bytes() == before


@pytest.mark.parametrize("content", [b"\0" * 5000, b"SQLite format 3\0" + b"x" * 5000, b"no"])
def test_what_is_no_database_is_told_in_one_line(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    with pytest.raises(UserError, match=r"mlflow\.db: .*move it away") as caught:
        tracking.connect()
    assert "\n" not in str(caught.value)
    assert place.read_bytes() == content


def test_a_database_of_something_else_is_left_alone(place: Path) -> None:
    with sqlite3.connect(place) as file:
        file.execute("CREATE TABLE patients (name TEXT)")
    file.close()
    with pytest.raises(UserError, match="a database, but not MLflow's"):
        tracking.connect()
    assert tables(place) == 1


def test_one_that_another_program_holds_is_told_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    holder = sqlite3.connect(copied(place), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match="database is locked; close what holds it"):
        tracking.connect()
    holder.close()


def test_a_folder_in_its_place_and_a_file_in_its_folders_are_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir()
    with pytest.raises(UserError, match="unable to open database file"):
        tracking.connect()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(UserError, match="cannot be written"):
        tracking.connect()


def test_a_store_that_fails_in_a_run_ends_it_in_one_line(place: Path) -> None:
    copied(place)
    fails = pytest.raises(RunError, match="MLflow at sqlite:///mlruns/mlflow.db: ")
    with fails, tracking.tracked("bench", "mine", {}) as run:
        run.log({"a name that\nMLflow refuses": 1.0})


def test_prompts_are_registered_in_the_default_store(place: Path) -> None:
    copied(place)
    with tracking.tracked("bench", "mine", {}) as run:
        assert run.register_prompts({"gi": "Find {{report}}"}) == ["prompts:/gi/1"]
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not (place.parents[1] / "mlflow.db").exists()


def opening(folder: Path) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen([sys.executable, "-c", OPEN], cwd=folder, env=environment)


@pytest.mark.slow
def test_processes_killed_while_they_make_the_store_leave_one_that_opens(tmp_path: Path) -> None:
    draft = tmp_path / "mlruns/.mlflow.db.making"
    for wait in (0.0, 0.2, 0.5, 1.0, 1.5):
        process = opening(tmp_path)
        while not draft.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    several = [opening(tmp_path) for _ in range(3)]
    assert [process.wait() for process in several] == [0, 0, 0]
    assert not draft.exists()
