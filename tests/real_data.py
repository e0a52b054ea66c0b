"""Where the real annotated data is, which is not part of this project."""

import os
from pathlib import Path

import pytest


def real(name: str) -> Path:
    """Return a file of the real data, or skip the test."""
    folder = os.environ.get("CRB_REAL_DATA")
    if not folder:
        pytest.skip("CRB_REAL_DATA does not name a folder of real data")
    if not (path := Path(folder) / name).exists():
        pytest.skip(f"{path} is missing")
    return path
