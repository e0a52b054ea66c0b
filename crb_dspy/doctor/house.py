"""Checks of this machine: installation, store, cache, disk, engine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from crb_dspy.doctor.checks import Fault, Looking, Unknown
from crb_dspy.evaluation.session import CACHE
from crb_dspy.models.settings import Settings

# Packages whose versions matter, and what the name of each must begin with here.
PACKAGES = {"dspy-ai": "3.4.", "litellm": "", "mlflow": "3.", "pydantic": "2."}
# Gigabytes below which a run may end for want of room.
ROOM = 1.0


def checks(settings: Settings) -> Iterator[tuple[str, Looking, str]]:
    """Yield the checks of this machine with what mends them."""
    yield "installation", installation, "pip install crb_dspy, in a fresh environment"
    yield "store", store, "see MLFLOW_TRACKING_URI, or move mlruns/mlflow.db away"
    yield "cache", cache, "make the folder writable"
    yield "disk", disk, "make room"
    yield "engine", lambda: engine(settings), "pip install 'crb_dspy[local]'"


def installation() -> str:
    """Return the versions that matter."""
    found = {}
    for name, beginning in PACKAGES.items():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise Fault(f"{name} is missing", f"pip install {name}") from None
        if not found[name].startswith(beginning):
            raise Fault(f"{name} {found[name]}", f"pip install '{name}=={beginning}*'")
    return ", ".join([f"Python {sys.version.split()[0]}", *(f"{n} {v}" for n, v in found.items())])


def store() -> str:
    """Return where runs go, once the store has answered."""
    from crb_dspy.errors import scrubbed
    from crb_dspy.tracking import store as tracking

    experiments = tracking.connect().search_experiments()
    return f"{scrubbed(tracking.uri())}, {len(experiments)} experiments"


def cache() -> str:
    """Return how large the cache of answers is, once something could be written there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    probe = CACHE / ".doctor"
    try:
        probe.write_text("x")
        probe.unlink()
    except OSError as error:
        raise Fault(f"{CACHE}: {error.strerror}", "make the folder writable") from error
    size = sum(path.stat().st_size for path in CACHE.rglob("*") if path.is_file())
    return f"{CACHE}, {size / 1e6:.0f} MB"


def disk() -> str:
    """Return the room that is left."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < ROOM:
        raise Fault(f"{free:.1f} GB free", "make room: runs and caches grow")
    return f"{free:.0f} GB free"


def engine(settings: Settings) -> str:
    """Return the embedded engine's version, and whether the model's weights are there."""
    if not settings.embedded:
        raise Unknown(f"not needed for {settings.model}")
    try:
        found = version("xllamacpp")
    except PackageNotFoundError:
        raise Fault("not installed", "pip install 'crb_dspy[local]'") from None
    from crb_dspy.models import weights

    path = weights.find(settings.model.removeprefix("local/"))
    return f"xllamacpp {found}, {path.name} {path.stat().st_size / 1e9:.1f} GB"
