"""One MLflow run that is under way: batches, tables, children, data, prompts, traces."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.errors import UserError, one_line
from crb_dspy.files import legible
from crb_dspy.scoring.halves import total

if TYPE_CHECKING:
    from crb_dspy.evaluation.rows import Row

PARENT = "mlflow.parentRunId"
# What a run is: compile, part, comparison.
KIND = "kind"
# Of one request.
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100


class Run:
    """One MLflow run that is under way."""

    def __init__(self, client: Any, run_id: str, experiment: str) -> None:
        self._client, self.id, self._experiment = client, run_id, experiment
        self._tables: dict[str, Mapping[str, str]] = {}

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log metrics in one batch."""
        self.batch(self.id, {}, {name: [value] for name, value in metrics.items()})

    def keep(self, path: Path) -> None:
        """Store a file as an artefact of the run."""
        self._client.log_artifact(self.id, str(path))

    def table(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Store columns of equal length as a table that the UI can show and compare."""
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        # MLflow's own way adds to a table that is there, as one is in a run that is gone on with.
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self._client.log_dict(self.id, {"columns": list(columns), "data": rows}, name)
        self._tables[name] = {"path": name, "type": "table"}
        self._client.set_tag(
            self.id, MLFLOW_LOGGED_ARTIFACTS, json.dumps(list(self._tables.values()))
        )

    def tag(self, name: str, value: str) -> None:
        """Set a tag, at most 5,000 characters."""
        self._client.set_tag(self.id, name, legible(value[:5000]))

    def describe(self, text: str) -> None:
        """Set what the UI shows as the run's description, in Markdown."""
        self.tag("mlflow.note.content", text)

    def child(
        self,
        name: str,
        parameters: Mapping[str, object],
        series: Mapping[str, Sequence[float]],
    ) -> str:
        """Store a part as a finished run below this one, in one batch, and return its id.

        `series` are metrics by step, from 0: a metric of one value is a series of one.
        """
        tags = {PARENT: self.id, **tags_of("part")}
        info = self._client.create_run(self._experiment, run_name=name, tags=tags).info
        self.batch(info.run_id, parameters, series)
        self._client.set_terminated(info.run_id)
        return str(info.run_id)

    def dataset(
        self,
        name: str,
        fingerprint: str,
        *,
        columns: Sequence[str] = (),
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Say which data the run used, by name and fingerprint, without a copy of them.

        `columns` are what a case is annotated with, `profile` any numbers about the data.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        schema = [{"name": key, "type": "string", "required": False} for key in columns]
        dataset = Dataset(
            name,
            # Of more than 36 characters MLflow takes none.
            fingerprint[:36],
            "local",
            json.dumps({"uri": name}),
            schema=json.dumps({"mlflow_colspec": schema}),
            profile=json.dumps(profile or {}),
        )
        context = [InputTag("mlflow.data.context", "compile")]
        inputs = [DatasetInput(dataset, context)]
        try:
            self._client.log_inputs(self.id, inputs)
        except MlflowException:
            # Another run logged the same data for the first time in the same moment.
            self._client.log_inputs(self.id, inputs)

    def register_prompts(self, templates: Mapping[str, str | list[dict[str, str]]]) -> list[str]:
        """Store prompts as versions in the registry, linked to the run; return their URIs.

        A template is a text or chat messages, `{{report}}` standing for the report. One that its
        newest version already holds makes no new version. UserError for a name that MLflow
        refuses.
        """
        from mlflow.exceptions import MlflowException

        kept = []
        for name, template in templates.items():
            prompt = newest_prompt(self._client, name)
            try:
                if prompt is None or prompt.template != template:
                    note = f"from run {self.id}"
                    prompt = self._client.register_prompt(name, template, commit_message=note)
                with _process_at(self._client):
                    self._client.link_prompt_version_to_run(self.id, prompt)
            except MlflowException as error:
                raise UserError(f"prompt '{name}': {one_line(error)}") from error
            kept.append(f"prompts:/{prompt.name}/{prompt.version}")
        return kept

    def traces(self, reports: Mapping[str, str], rows: Sequence[Row]) -> int:
        """Store the cases of `reports` (id to text) as traces, whole on return; say how many.

        A trace holds the report and all quotes, and a span a category with gold, quotes, score,
        reason and error. Each takes about a quarter of a second and holds the report's text:
        for a few cases, not for all.
        """
        with _process_at(self._client):
            for case, report in reports.items():
                self._trace(case, report, [row for row in rows if row.case == case])
        return len(reports)

    def _trace(self, case: str, report: str, rows: Sequence[Row]) -> None:
        client = self._client
        mean = total(row.halves for row in rows).score if rows else 0.0
        root = client.start_trace(
            case,
            inputs={"report": report},
            attributes={"score": mean},
            tags={"case": case, "score": f"{mean:.3f}"},
            experiment_id=self._experiment,
            run_id=self.id,
        )
        for row in rows:
            kept = {"score": row.score, "reason": row.reason, "error": row.error}
            span = client.start_span(
                row.category,
                trace_id=root.trace_id,
                parent_id=root.span_id,
                inputs={"gold": list(row.gold)},
                attributes=kept,
            )
            failed = row.failed
            status = "ERROR" if failed else "OK"
            client.end_span(root.trace_id, span.span_id, list(row.predicted), status=status)
        quotes = {row.category: list(row.predicted) for row in rows}
        client.end_trace(root.trace_id, outputs=quotes)

    def batch(
        self,
        run_id: str,
        parameters: Mapping[str, object],
        series: Mapping[str, Sequence[float]],
    ) -> None:
        """Log parameters and metrics by step to a run, in as few requests as MLflow takes."""
        import time

        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        params = [Param(key, legible(str(value)[:500])) for key, value in parameters.items()]
        metrics = [
            Metric(key, float(value), now, step)
            for key, values in series.items()
            for step, value in enumerate(values)
        ]
        most = _MOST_METRICS - _MOST_PARAMETERS
        for start in range(0, max(len(metrics), 1), most):
            chunk = metrics[start : start + most]
            self._client.log_batch(run_id, chunk, [] if start else params)


@contextmanager
def _process_at(client: Any) -> Iterator[None]:
    """Let the process stand at a client's store, by which traces and links of prompts go."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        yield
    finally:
        # MLflow writes it there, where it would pass for the user's own wish.
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)


def newest_prompt(client: Any, name: str) -> Any:
    """Return the newest version of a registered prompt, None if there is none.

    UserError for a name that MLflow refuses, or a registry that can't be used.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.load_prompt(f"prompts:/{name}@latest", allow_missing=True)
    except MlflowException as error:
        raise UserError(f"prompt '{name}': {one_line(error)}") from error


def tags_of(kind: str) -> dict[str, str]:
    """Return the tags of a run of a kind."""
    return {KIND: kind, "mlflow.source.name": f"crb_dspy.{kind}", "mlflow.source.type": "LOCAL"}
