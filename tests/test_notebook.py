"""The notebook of docs runs from its first cell to its last, against a fake server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fake_server import serving

NOTEBOOK = Path(__file__).parents[1] / "docs/python.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.read(NOTEBOOK, as_version=4)
    with serving() as server:
        monkeypatch.setenv("MODEL", "openai/fake")
        monkeypatch.setenv("API_BASE", server.address)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1])]))
        resources = {"metadata": {"path": str(tmp_path)}}
        client.NotebookClient(
            book, timeout=500, kernel_name="python3", resources=resources
        ).execute()
    shown = [
        output["data"]["text/html"]
        for cell in book.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    # The summary of a compile, its report, a report with marks, two data frames.
    assert len(shown) == 5
    assert "<iframe srcdoc=" in shown[1]


def test_the_notebook_is_committed_without_output() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
