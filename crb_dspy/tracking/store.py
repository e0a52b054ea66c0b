"""The store of runs: where it is, runs that begin and end in it, what they have kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from crb_dspy.errors import CrbError, RunError, UserError, one_line, scrubbed
from crb_dspy.tracking import database
from crb_dspy.tracking import view as layout
from crb_dspy.tracking.run import PARENT, Run, tags_of

FOLDER = Path("mlruns")
# This machine, by a name at which MLflow opens no assistant over the page: see `make ui`.
HOST = "mlflow.localhost"


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
    with explained(RunError), _ended(client, run_id):
        yield Run(client, run_id, where)


@contextmanager
def _ended(client: Any, run_id: str) -> Iterator[None]:
    """Mark a run with how what is inside ends."""
    status, ended = "FAILED", ""
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status, ended = "KILLED", "interrupted"
        raise
    except BaseException as error:
        ended = f"{type(error).__name__}: {one_line(error, 1000)}"
        raise
    finally:
        if ended:
            client.set_tag(run_id, "ended", ended)
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


def served_by() -> str:
    """Return the command that shows a store that is a file, at the address of `links`."""
    store, port = scrubbed(uri()), _port()
    if Path("Makefile").is_file():  # in a checkout
        return f"make ui STORE={store} PORT={port}"
    return f"mlflow ui --app-name crb_dspy --workers 1 --backend-store-uri {store} --port {port}"


def guide(run_id: str, *pages: str) -> list[str]:
    """Return the lines that say how pages of a run (keys of `links`) are opened."""
    found = links(run_id)
    serve = [] if uri().startswith("http") else [f"serve      {served_by()}"]
    return serve + [f"{'open' if page == pages[0] else '':11}{found[page]}" for page in pages]


def _port() -> str:
    return os.environ.get("PORT", "5000")


def links(run_id: str) -> dict[str, str]:
    """Return where a browser finds a run, on the server of the runs or that of `make ui`.

    A store that is a file has no address of its own: PORT of the environment says which.
    """
    client = connect()
    with explained():
        experiment = str(client.get_run(run_id).info.experiment_id)
    own = uri().startswith(("http://", "https://"))
    base = scrubbed(uri()) if own else f"http://{HOST}:{_port()}"
    return layout.links(base, experiment, run_id)


@contextmanager
def explained(kind: type[CrbError] = UserError) -> Iterator[None]:
    """Turn errors of MLflow and its database into one line for whoever typed the command."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        raise kind(f"MLflow at {uri()}: {one_line(error)}") from error


def connect() -> Any:
    """Return a client of the store, made where there is none; UserError if it can't be."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Else it tells of every table it makes; the variable alone is late for who imported it before.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A process that ends would take traces with it that are still waiting to be written.
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    for logger in ("alembic", "mlflow.store.db"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    import mlflow

    with explained():
        where = uri()
        if path := file():
            database.ready(path)
            # MLflow keeps a connection per address: one that is relative would go on naming
            # the store of the folder in which a process stood first.
            where = f"sqlite:///{path.absolute()}"
        return mlflow.MlflowClient(where)


def file() -> Path | None:
    """Return the file of a store that is one, None for a server's."""
    if not uri().startswith("sqlite:///"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri()).database
    return Path(name) if name and name != ":memory:" else None


def opened(experiment: str) -> tuple[Any, str]:
    """Return a client and the id of an experiment, making store and experiment if need be."""
    client = connect()
    with explained():
        return client, _experiment(client, experiment)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        for key, value in layout.view().items():
            if key not in found.tags:
                client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)
    # Only our own database: a server knows where its artefacts go.
    own = "MLFLOW_TRACKING_URI" not in os.environ
    place = (FOLDER / "artifacts").absolute().as_uri() if own else None
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=place, tags=layout.view()))
    except MlflowException:
        # Another process made it in the same moment.
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        raise
