"""The compile command in this process: a folder and an MLflow store of its own, a fake server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from crb_dspy.compile import __main__ as command
from crb_dspy.models import server as server_module
from crb_dspy.tracking import store as tracking
from tests.fake_server import FakeServer

# A recipe without end that says nothing of its costs.
HEEDLESS = """\
def recipe(part, train, validation, context):
    for n in range(100):
        tried = part.with_instruction(f"Quote {n}.")
        context.trial(str(n), tried, validation)
    return part
"""
WRITTEN = ("program.json", "prompts.md", "report.html", "candidates.jsonl", "cells.jsonl")
SMALL = Path(__file__).parent / "fixtures" / "small.toml"
_KEPT: list[TemporaryDirectory[str]] = []


@cache
def empty_store() -> Path:
    """An MLflow store without runs, made once, since making one takes seconds."""
    _KEPT.append(TemporaryDirectory())
    path = Path(_KEPT[-1].name) / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.connect().search_experiments()
    return path


@dataclass(frozen=True)
class Home:
    """A folder in which this process stands, with its runs."""

    path: Path

    def compile(self, server: FakeServer, *arguments: object) -> int:
        """Run the command; errors are raised as they are."""
        given = ["--model", "openai/fake", "--api-base", server.address]
        own = {"--data"} & set(arguments) or any(str(one).endswith(".toml") for one in arguments)
        file = [] if own else [str(SMALL)]
        return command.main([*file, *given, *map(str, arguments)])

    @property
    def out(self) -> Path:
        """The folder of the one run."""
        (found,) = (self.path / "mlruns/out").iterdir()
        return found

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file of the one run."""
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

    def runs(self, kind: str = "compile") -> list[Any]:
        """The runs in MLflow of a kind, the latest first."""
        client = tracking.connect()
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(ids, f"tags.kind = '{kind}'"))


@contextmanager
def home(path: Path) -> Iterator[Home]:
    """Stand in a folder, with a store that stays there, and retry without waiting."""
    (path / "mlruns").mkdir(parents=True, exist_ok=True)
    store = path / "mlruns/mlflow.db"
    if not store.exists():
        shutil.copy(empty_store(), store)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        patch.setattr(server_module, "BACKOFF", 0.001)
        yield Home(path)


def results(folder: Path) -> dict[str, bytes]:
    """All that a run found, as bytes."""
    return {name: (folder / name).read_bytes() for name in WRITTEN}


def repeated(place: Home, server: FakeServer, *arguments: object) -> tuple[Any, Any]:
    """Compile twice, the second time without a call and to the same bytes; return both runs."""
    place.compile(server, *arguments)
    first, asked = results(place.out), len(server.bodies)
    place.compile(server, *arguments)
    assert results(place.out) == first
    assert len(server.bodies) == asked
    again, once = place.runs()
    assert again.info.run_id != once.info.run_id
    return once, again
