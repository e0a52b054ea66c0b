"""What is kept of a data set, and where: found by its fingerprint, removed for good."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from crb_dspy.compile import resume
from crb_dspy.evaluation.session import CACHE
from crb_dspy.files import FOLDER
from crb_dspy.tracking import store
from crb_dspy.tracking.run import PARENT

_PARAMETER = "data_fingerprint"
_ALL = 3  # runs that are marked as deleted among them


@dataclass(frozen=True)
class Holdings:
    """Folders, MLflow runs (those below them last), versions of prompts, traces, and the cache."""

    folders: tuple[Path, ...]
    runs: tuple[str, ...]
    prompts: tuple[tuple[str, str], ...]
    traces: tuple[str, ...]
    cache: Path | None


def data_sets(out: Path | None = None) -> dict[str, str]:
    """Return the name of every data set of which anything is kept, by fingerprint."""
    found = {}
    for _, inputs in _compiled(out):
        found[str(inputs.get("data set"))] = str(inputs.get("data"))
    for run in _runs(f"params.{_PARAMETER} != ''"):
        found.setdefault(run.data.params[_PARAMETER], run.data.params.get("data", ""))
    return found


def of(fingerprint: str, out: Path | None = None) -> Holdings:
    """Return all that is kept of a data set, in folders and in MLflow."""
    folders = [path for path, inputs in _compiled(out) if inputs.get("data set") == fingerprint]
    runs = _runs(f"params.{_PARAMETER} = '{fingerprint}'")
    below = [child for run in runs for child in _runs(f"tags.`{PARENT}` = '{run.info.run_id}'")]
    names = [run.info.run_id for run in (*runs, *below)]
    for run in (*runs, *below):
        folders += _artefacts(run)
    folders += [path for name in names if (path := FOLDER / "fetched" / name).exists()]
    prompts, traces = _registered(names), _traced(runs)
    cache = CACHE if CACHE.exists() else None
    return Holdings(tuple(folders), tuple(names), prompts, traces, cache)


def remove(found: Holdings) -> Iterator[str]:
    """Remove it all; yield what remains to be done by hand."""
    for folder in (*found.folders, *([found.cache] if found.cache else [])):
        shutil.rmtree(folder)
    if not found.runs:
        return
    client = store.connect()
    with store.explained():
        for name, version in found.prompts:
            client.delete_prompt_version(name, version)
            if not client.search_prompt_versions(name):
                client.delete_prompt(name)
        for trace in found.traces:
            where = client.get_trace(trace).info.experiment_id
            client.delete_traces(where, trace_ids=[trace])
        own = client._tracking_client.store
        for run in found.runs:
            if hasattr(own, "_hard_delete_run"):
                own._hard_delete_run(run)
            else:
                client.delete_run(run)
                yield f"{run}: marked as deleted; `mlflow gc` on the server removes it for good"
    _vacuum()


def _compiled(out: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folders of compiles, and what decided them."""
    for path in sorted((out or FOLDER / "out").glob(f"*/{resume.NAME}")):
        try:
            inputs = json.loads(path.read_text("utf-8"))["inputs"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(inputs, dict):
            yield path.parent, inputs


def _runs(wanted: str) -> list[Any]:
    if "MLFLOW_TRACKING_URI" not in os.environ and not (FOLDER / "mlflow.db").exists():
        return []
    client = store.connect()
    with store.explained():
        where = [experiment.experiment_id for experiment in client.search_experiments(_ALL)]
        found, token = [], None
        while True:
            page = client.search_runs(where, wanted, run_view_type=_ALL, page_token=token)
            found += page
            if not (token := page.token):
                return found


def _artefacts(run: Any) -> list[Path]:
    place = urlparse(str(run.info.artifact_uri))
    folder = Path(unquote(place.path)).parent
    own = place.scheme in ("", "file") and folder.name == run.info.run_id
    return [folder] if own and folder.is_dir() else []


def _registered(runs: list[str]) -> tuple[tuple[str, str], ...]:
    """Return the versions of prompts that these runs registered."""
    if not runs:
        return ()
    client = store.connect()
    notes = {f"from run {run}" for run in runs}
    with store.explained():
        return tuple(
            (prompt.name, str(version.version))
            for prompt in client.search_prompts()
            for version in client.search_prompt_versions(prompt.name)
            if version.commit_message in notes
        )


def _traced(runs: list[Any]) -> tuple[str, ...]:
    """Return the traces of these runs."""
    client: Any = store.connect() if runs else None
    found: list[str] = []
    for run in runs:
        wanted = {"locations": [run.info.experiment_id], "run_id": run.info.run_id}
        token = None
        while True:
            page = client.search_traces(**wanted, include_spans=False, page_token=token)
            found += [str(trace.info.trace_id) for trace in page]
            if not (token := page.token):
                break
    return tuple(found)


def _vacuum() -> None:
    """Give up the pages of an SQLite file in which removed rows still stand."""
    if (path := store.file()) and path.exists():
        with closing(sqlite3.connect(path)) as database:
            database.execute("VACUUM")
