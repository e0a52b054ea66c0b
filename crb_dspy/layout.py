"""How MLflow shows the runs of an experiment: strategies alone, with what tells them apart."""

from __future__ import annotations

import json
from typing import Any

VIEW = "strategies"
_COLUMNS = (
    "params.`program`", "params.`optimizer`", "params.`few_shot`", "params.`model`",
    "metrics.`test/score`", "metrics.`test/difference`", "metrics.`cost/tokens`", "tags.`verdict`",
)  # fmt: skip


def view() -> dict[str, str]:
    """Return the tag of an experiment that offers the view: strategies alone, the best first."""
    charts = [
        _chart("BAR", metricKey="test/score", displayName="test/score", runsCountToCompare=20),
        _chart("BAR", metricKey="test/difference", displayName="test/difference"),
        _chart("SCATTER", xaxis=_axis("cost/tokens"), yaxis=_axis("test/score")),
    ]
    state = {
        "searchFilter": "tags.kind = 'compile'",
        "orderByKey": "metrics.`test/score`",
        "orderByAsc": False,
        "selectedColumns": _COLUMNS,
        "columnOrder": _COLUMNS,
        "columnWidths": {"params.`program`": 150},
        "compareRunCharts": charts,
        "compareRunSections": [{"uuid": VIEW, "name": VIEW, "display": True, "isReordered": True}],
        "isAccordionReordered": True,
    }
    kept = {"name": VIEW.capitalize(), "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(kept)}


def _chart(kind: str, **more: Any) -> dict[str, Any]:
    about = {"type": kind, "metricSectionId": VIEW, "deleted": False, "isGenerated": False}
    return {"uuid": json.dumps([kind, more]), "runsCountToCompare": 20, **about, **more}


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
