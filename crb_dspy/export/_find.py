"""Formats by name, found where they lie."""

from __future__ import annotations

import importlib
from pathlib import Path

from crb_dspy.errors import UserError
from crb_dspy.export._seam import Exporter


def names() -> list[str]:
    """Return the names of all formats."""
    return sorted(file.stem.replace("_", "-") for file in Path(__file__).parent.glob("[a-z]*.py"))


def find(name: str) -> Exporter:
    """Return a format by name; UserError that names the nearest."""
    if name not in (choices := names()):
        from crb_dspy.errors import unknown

        raise UserError(f"--to: {unknown('format', name, choices)}")
    module = importlib.import_module(f"crb_dspy.export.{name.replace('-', '_')}")
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    (own,) = (c for c in classes if issubclass(c, Exporter) and c.__module__ == module.__name__)
    return own()
