"""The SQLite file of a store: made whole or not at all, and told apart from what is none."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from crb_dspy.errors import UserError

# Seconds that another program may hold the file.
PATIENCE = 10.0
# What somebody kept; the experiment that MLflow makes by itself is none of it.
_KEPT = ("runs", "trace_info", "registered_models", "experiments WHERE experiment_id != 0")


def ready(path: Path) -> None:
    """See that a store of MLflow lies at a path, making it if there is none.

    A store that was being made when its process was killed is made anew if nothing is kept in
    it. UserError for a file that is no store, is damaged, held by another program, or of another
    version of MLflow.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not path.exists() or _unfinished(path):
                _make(path)
    except sqlite3.Error as error:
        remedy = "close what holds it, or move it away, and a new one is made"
        raise UserError(f"{path}: cannot be used as MLflow's store: {error}; {remedy}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is making the same store."""
    with path.with_name("store.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _unfinished(path: Path) -> bool:
    """Say whether a store was left half-made; UserError if it is another version's."""
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        found = (
            database.execute("SELECT version_num FROM alembic_version").fetchall()
            if "alembic_version" in tables
            else []
        )
        version, wanted = found[0][0] if found else None, _latest()
        if version == wanted:
            return False
        for kept in _KEPT:
            if kept.split()[0] in tables and _any(database, kept):
                raise UserError(
                    f"{path}: a store of another version of MLflow (schema {version}, here "
                    f"{wanted}); copy it, then: mlflow db upgrade sqlite:///{path}"
                )
        foreign = tables and not {"experiments", "alembic_version"} & tables
    if foreign:
        raise UserError(f"{path}: a database, but not MLflow's; name another place")
    return True


@cache
def _latest() -> str:
    """Return the schema of the MLflow that is installed, for which all its migrations are read."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def _any(database: sqlite3.Connection, kept: str) -> bool:
    return database.execute(f"SELECT 1 FROM {kept} LIMIT 1").fetchone() is not None


def _make(path: Path) -> None:
    """Make an empty store beside its place and move it there."""
    from mlflow import MlflowClient

    draft = path.with_name(f".{path.name}.making")
    _remove(draft)
    client = MlflowClient(f"sqlite:///{draft.absolute()}")
    client.search_experiments()
    client._tracking_client.store.engine.dispose()
    _remove(path)
    draft.replace(path)


def _remove(path: Path) -> None:
    # A journal that outlives its database would be played back into the next one.
    for name in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
