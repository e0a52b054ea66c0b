"""How MLflow shows the runs of an experiment: strategies alone, with what tells them apart."""

from __future__ import annotations

import json
from typing import Any

VIEW = "strategies"
_WORKFLOW = "machine_learning"
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_COLUMNS = (
    "params.`program`", "params.`optimizer`", "params.`model`",
    "metrics.`test/score`", "metrics.`test/difference`", "metrics.`cost/report_tokens`",
    "tags.`result`",
)  # fmt: skip
# Side by side at 1400 px.
_WIDTHS = {
    "params.`program`": 120, "params.`optimizer`": 75, "params.`model`": 80,
    "metrics.`test/score`": 80, "metrics.`test/difference`": 100,
    "metrics.`cost/report_tokens`": 85, "tags.`result`": 200,
}  # fmt: skip


def view() -> dict[str, str]:
    """Return the tag of an experiment that offers the view: strategies alone, the best first."""
    charts = [
        _chart("BAR", metricKey="test/score", displayName="test/score", runsCountToCompare=20),
        _chart("BAR", metricKey="test/difference", displayName="test/difference"),
        _chart("SCATTER", xaxis=_axis("cost/report_tokens"), yaxis=_axis("test/score")),
    ]
    state = {
        "searchFilter": "tags.kind = 'compile'",
        "orderByKey": "metrics.`test/score`",
        "orderByAsc": False,
        "selectedColumns": _COLUMNS,
        "columnOrder": _COLUMNS,
        "columnWidths": _WIDTHS,
        "compareRunCharts": charts,
        "compareRunSections": [{"uuid": VIEW, "name": VIEW, "display": True, "isReordered": True}],
        "isAccordionReordered": True,
    }
    kept = {"name": VIEW.capitalize(), "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    # Without a kind some versions of MLflow open an experiment on its page of traces.
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(kept), **_KIND}


def links(base: str, experiment: str, run: str) -> dict[str, str]:
    """Return the addresses of what a run is looked at by: all strategies, its report, itself."""
    runs, query = f"{base.rstrip('/')}/#/experiments/{experiment}/runs", "workflowType=" + _WORKFLOW
    return {
        "strategies": f"{runs}?{query}&viewStateShareKey={VIEW}",
        "report": f"{runs}/{run}/artifacts/report.html?{query}",
        "run": f"{runs}/{run}?{query}",
    }


def _chart(kind: str, **more: Any) -> dict[str, Any]:
    about = {"type": kind, "metricSectionId": VIEW, "deleted": False, "isGenerated": False}
    return {"uuid": json.dumps([kind, more]), "runsCountToCompare": 20, **about, **more}


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
