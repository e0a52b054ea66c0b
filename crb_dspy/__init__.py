"""Tune prompt programs that extract findings from clinical case reports.

load(program)       a tuned program that takes texts, cases and data frames
compile(data, ...)  tune one on annotated cases
score(frame)        score predicted quotes against gold ones
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crb_dspy.api import compile, load, score

# LiteLLM would fetch its price list at import, whoever imports it first.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

__version__ = "0.1.0"
__all__ = ["compile", "load", "score"]

_root = Path(__file__).parents[1]
if (_root / "pyproject.toml").is_file():
    # In a checkout `programs` and `optimizers` lie beside this folder; installed, inside it.
    __path__.append(str(_root))


class _Verb(ModuleType):
    """The module of a command that can be called too: `crb_dspy.compile(...)`."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return getattr(_api(), self.__name__.rpartition(".")[2])(*given, **named)


class _Package(ModuleType):
    """This package: whoever imports one of its commands finds a module that can be called."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # Imported when it is first used: DSPy takes seconds.
        if name == "load":
            return _api().load
        if name in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def _api() -> ModuleType:
    return importlib.import_module(f"{__name__}.api")


sys.modules[__name__].__class__ = _Package
