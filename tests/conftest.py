"""Settings of all tests, and what tests of exports share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests.fake_server import FakeServer, serving

# Machines differ in speed: how long an example takes is no reason to fail.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# What is agreed to in tests is remembered nowhere else, in child processes neither.
_STATE = tempfile.TemporaryDirectory()
os.environ["XDG_STATE_HOME"] = _STATE.name


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check exports on two texts only, where all of them are not the matter."""
    from crb_dspy.export import _check

    few = {name: _check.FIXTURES[name] for name in ("plain", "braces")}
    monkeypatch.setattr(_check, "FIXTURES", few)


@pytest.fixture
def script_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let proofs run the exported script in this process, where its process is not the matter."""
    from crb_dspy.export import python
    from tests.in_process import script

    monkeypatch.setattr(python, "subprocess", SimpleNamespace(run=script))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server whose answers have to be mended, and a folder of one's own to ask it from."""
    from tests.export_trial import answer

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(answer) as fake:
        yield fake
