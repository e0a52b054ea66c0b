"""Where the real annotated data is, which is not part of this project."""

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parents[2] / "shared" / "data"


def real(name: str) -> Path:
    """Return a file of the real data, or skip the test."""
    path = Path(os.environ.get("CRB_REAL_DATA") or DEFAULT) / name
    if not path.exists():
        pytest.skip(f"{path} is missing: set CRB_REAL_DATA to the folder of the real data")
    return path
