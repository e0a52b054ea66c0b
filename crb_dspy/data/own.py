"""A person's own Python file, named FILE.py:NAME."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from crb_dspy.errors import UserError, one_line


def own_object(kind: str, path: Path, attribute: str) -> object:
    """Run a file and return what it calls so; UserError for whatever is wrong with it."""
    if not path.is_file():
        raise UserError(f"{kind} '{path}:{attribute}': no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{kind} '{path}': not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # Whatever a person's own file raises is a mistake in it.
    except Exception as error:
        raise UserError(f"{kind} '{path}': {type(error).__name__}: {one_line(error)}") from error
    if not hasattr(module, attribute):
        raise UserError(f"{kind} '{path}:{attribute}': the file defines no '{attribute}'")
    return getattr(module, attribute)
