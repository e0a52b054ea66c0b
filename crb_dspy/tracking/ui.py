"""MLflow's pages, opened on runs: an app of `mlflow ui`, named to it by pyproject.toml."""

from __future__ import annotations

import os
from pathlib import Path

from crb_dspy.tracking.store import HOST

# Unless who starts it says otherwise. Where its jobs are executed it is up after minutes without a
# network; a name of this machine that it does not know it answers with an empty table.
for _name, _value in {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:*,localhost:*,127.0.0.1:*",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:*",
}.items():
    os.environ.setdefault(_name, _value)

from flask import Response  # noqa: E402
from mlflow.server import app as pages  # noqa: E402
from mlflow.server.fastapi_app import app as app  # noqa: E402

# Which of its two halves MLflow shows is kept in the browser alone, and without a choice it is the
# one for chats and agents, whatever an experiment says of itself: empty for runs, under a dialog.
# What is done on its pages is told to nobody, nor need anybody read that it might be.
_CHOICES = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.settings.telemetry.enabled_v1": "false",
    "mlflow.telemetry.info.alert.dismissed_v1": "true",
}
_SCRIPT = "".join(f"localStorage['{key}'] ??= '{value}';" for key, value in _CHOICES.items())


def _page() -> Response:
    """Return MLflow's one page, with our choices in a browser where nobody has chosen yet."""
    text = Path(str(pages.static_folder), "index.html").read_text("utf-8")
    script = f"<head><script>{_SCRIPT}</script>"
    return Response(text.replace("<head>", script, 1), mimetype="text/html")


pages.view_functions["serve"] = _page
