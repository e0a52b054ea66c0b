"""Files in TOML: schemas, experiments, sweeps."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from crb_dspy.errors import UserError


def toml_table(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file; UserError where it is none."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    # Bytes that are no UTF-8, or a number of thousands of digits, are ValueErrors of other kinds.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from error
