"""A model opened for use: asked in this project's layout, and closed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy

from crb_dspy.errors import RunError
from crb_dspy.files import FOLDER
from crb_dspy.models.budget import Budget, BudgetSpent
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.lm import Model, silence_libraries
from crb_dspy.models.settings import Settings
from crb_dspy.program.prompt import ReportFirst
from crb_dspy.trust import hosts

# Where answers are kept, whoever asks.
CACHE = FOLDER / "cache"


@contextmanager
def session(settings: Settings, budget: Budget | None = None) -> Iterator[Model]:
    """Open one model and ask it by default; RunError if it stops answering."""
    model = Model(settings, CACHE, budget)
    with opened(model), asking(model.lm):
        yield model


@contextmanager
def opened(*models: Model) -> Iterator[None]:
    """Open models and close them in the end.

    RunError if one stops answering, or if a budget leaves too little to ask anything.
    """
    silence_libraries()
    places = [(model.settings, base) for model in models for base in _bases(model.settings)]
    hosts.tell((settings.model, base) for settings, base in places)
    for _, base in places:
        hosts.spare_proxy(base or "")
    try:
        for model in models:
            model.open()
        yield
    except BudgetSpent as error:
        raise RunError(f"{error}: too little to judge anything; raise it") from error
    except ModelGone as error:
        name = error.model or models[0].settings.model
        raise RunError(f"model '{name}' stopped answering: {error}") from error
    finally:
        for model in reversed(models):
            model.close()


def _bases(settings: Settings) -> tuple[str | None, ...]:
    return (settings.api_base, *settings.beside)


def asking(lm: dspy.LM) -> Any:
    """Return the context in which DSPy asks a model in this project's layout and keeps nothing."""
    return dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True, trace=None)
