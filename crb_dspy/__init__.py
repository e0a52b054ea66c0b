"""Tune prompt programs that extract findings from clinical case reports."""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).parents[1]
if (_root / "pyproject.toml").is_file():
    # In a checkout `programs` and `optimizers` lie beside this folder; installed, inside it.
    __path__.append(str(_root))
