"""The store of runs: where it is, runs that begin and end in it, what they have kept."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from crb_dspy import layout
from crb_dspy.errors import UserError, one_line
from crb_dspy.mlflow_run import PARENT, Run, tags_of

FOLDER = Path("mlruns")


def uri() -> str:
    """Return where runs are kept: MLFLOW_TRACKING_URI, else SQLite in `mlruns`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{FOLDER}/mlflow.db"


@contextmanager
def tracked(
    experiment: str,
    name: str,
    parameters: Mapping[str, object],
    kind: str = "compile",
    again: str | None = None,
) -> Iterator[Run]:
    """Open a run and end it as finished, killed (interrupted) or failed, with the reason.

    `again`: the id of a run that was broken off, to go on with; a new one if it is gone.
    UserError if the store cannot be opened, before anything else is done.
    """
    client, where = opened(experiment)
    with explained():
        run_id = _reopened(client, again) if again else None
        if run_id is None:
            run_id = client.create_run(where, run_name=name, tags=tags_of(kind)).info.run_id
            Run(client, run_id, where).batch(run_id, parameters, {})
    run, status = Run(client, run_id, where), "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        run.tag("ended", "interrupted")
        raise
    except BaseException as error:
        run.tag("ended", f"{type(error).__name__}: {one_line(error, 1000)}")
        raise
    finally:
        client.set_terminated(run_id, status)


def _reopened(client: Any, run_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.update_run(run_id, status="RUNNING") or client.get_run(run_id)
    except MlflowException:
        return None
    if "ended" in run.data.tags:
        client.delete_tag(run_id, "ended")
    below = f"tags.`{PARENT}` = '{run_id}'"
    for child in client.search_runs([run.info.experiment_id], filter_string=below):
        client.delete_run(child.info.run_id)
    return run_id


def fetch(run_id: str, artefact: str) -> Path:
    """Return a local file with an artefact; UserError if run or artefact is missing.

    What lies on this machine is given as it lies, the rest is copied to `mlruns/fetched`.
    """
    client = connect()
    with explained():
        root = str(client.get_run(run_id).info.artifact_uri)
        place = urlparse(root)
        if place.scheme in ("", "file"):
            path = Path(unquote(place.path)) / artefact
        else:
            folder = FOLDER / "fetched" / run_id
            folder.mkdir(parents=True, exist_ok=True)
            path = Path(client.download_artifacts(run_id, artefact, str(folder)))
    if not path.is_file():
        raise UserError(f"run {run_id}: no artefact '{artefact}' in {root}")
    return path


@contextmanager
def explained() -> Iterator[None]:
    """Turn MLflow's errors into one line for whoever typed the command."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise UserError(f"MLflow at {uri()}: {one_line(error)}") from error


def connect() -> Any:
    """Return a client of the store, made where there is none; UserError if it can't be."""
    FOLDER.mkdir(exist_ok=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Else it tells of every table it makes.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A process that ends would take traces with it that are still waiting to be written.
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    with explained():
        return MlflowClient(uri())


def opened(experiment: str) -> tuple[Any, str]:
    """Return a client and the id of an experiment, making store and experiment if need be.

    One process at a time: of several that begin together each would make them.
    """
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "store.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        client = connect()
        with explained():
            return client, _experiment(client, experiment)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    # Only our own database: a server knows where its artefacts go.
    own = "MLFLOW_TRACKING_URI" not in os.environ
    place = (FOLDER / "artifacts").absolute().as_uri() if own else None
    return str(client.create_experiment(name, artifact_location=place, tags=layout.view()))
