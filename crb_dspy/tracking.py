"""Runs in MLflow: the only file that knows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crb_dspy.errors import one_line

FOLDER = Path("mlruns")


class Run:
    """One MLflow run that is under way."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self.id = client, run_id

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log metrics in one batch."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.id, [Metric(k, float(v), now, 0) for k, v in metrics.items()])

    def keep(self, path: Path) -> None:
        """Store a file as an artefact of the run."""
        self._client.log_artifact(self.id, str(path))

    def table(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Store columns of equal length as a table that the UI can show and compare."""
        self._client.log_table(self.id, dict(columns), name)

    def tag(self, name: str, value: str) -> None:
        """Set a tag, at most 5,000 characters."""
        self._client.set_tag(self.id, name, value[:5000])

    def describe(self, text: str) -> None:
        """Set what the UI shows as the run's description."""
        self.tag("mlflow.note.content", text)


def uri() -> str:
    """Return where runs are kept: MLFLOW_TRACKING_URI, else SQLite in `mlruns`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{FOLDER}/mlflow.db"


@contextmanager
def tracked(experiment: str, name: str, parameters: Mapping[str, object]) -> Iterator[Run]:
    """Open a run and end it as finished, killed (interrupted) or failed, with the reason."""
    client = _client()
    from mlflow.entities import Param

    tags = {"mlflow.source.name": "crb_dspy.compile", "mlflow.source.type": "LOCAL"}
    where = _experiment(client, experiment)
    run_id = client.create_run(where, run_name=name, tags=tags).info.run_id
    client.log_batch(run_id, params=[Param(k, str(v)[:500]) for k, v in parameters.items()])
    run, status = Run(client, run_id), "FAILED"
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


def _client() -> Any:
    FOLDER.mkdir(exist_ok=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Else it tells of every table it makes.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    return MlflowClient(uri())


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    # Only our own database: a server knows where its artefacts go.
    own = "MLFLOW_TRACKING_URI" not in os.environ
    location = (FOLDER / "artifacts").absolute().as_uri() if own else None
    return str(client.create_experiment(name, artifact_location=location))
