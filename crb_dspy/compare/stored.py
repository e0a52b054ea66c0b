"""The runs that MLflow holds, as plain values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crb_dspy.errors import UserError
from crb_dspy.files import FOLDER
from crb_dspy.tracking.store import connect, explained


@dataclass(frozen=True, eq=False)
class Stored:
    """A run as MLflow holds it; `started` is in milliseconds since 1970."""

    id: str
    name: str
    experiment: str
    status: str = "FINISHED"
    started: int = 0
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def runs(experiment: str | None = None) -> list[Stored]:
    """Return the runs of an experiment, or of all, oldest first.

    UserError where there is no store, or no such experiment in it.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ and not (FOLDER / "mlflow.db").exists():
        raise UserError(f"{FOLDER}/mlflow.db: no runs here yet; compile something first")
    client = connect()
    with explained():
        names = {str(e.experiment_id): str(e.name) for e in client.search_experiments()}
        if experiment is not None and experiment not in names.values():
            raise UserError(f"no experiment '{experiment}': there is {', '.join(names.values())}")
        wanted = [key for key, name in names.items() if experiment in (None, name)]
        found = [_stored(run, names) for run in _pages(client, wanted)]
    return found


def _pages(client: Any, experiments: list[str]) -> Iterator[Any]:
    order, token = ["attributes.start_time ASC"], None
    while True:
        page = client.search_runs(experiments, order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _stored(run: Any, experiments: Mapping[str, str]) -> Stored:
    info, data = run.info, run.data
    return Stored(
        id=str(info.run_id),
        name=str(info.run_name),
        experiment=experiments[str(info.experiment_id)],
        status=str(info.status),
        started=int(info.start_time),
        params=dict(data.params),
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )
