"""A worker's own program and model: what asks on another process or machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import dspy

from crb_dspy.cluster.allowance import Leased
from crb_dspy.evaluation.rows import UNASKED
from crb_dspy.evaluation.session import CACHE, asking
from crb_dspy.models.address import whole
from crb_dspy.models.budget import BudgetSpent, Caps
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.lm import Model, silence_libraries
from crb_dspy.models.settings import Settings
from crb_dspy.program import ExtractionProgram, Part, Reading
from crb_dspy.trust import hosts


@dataclass(frozen=True)
class Order:
    """What a worker is told: how to get the program, how the model is asked, what it may spend.

    `settings` are plain, with the logins that addresses need; keys stand in the environment of
    each machine. `known` is what the driver knows of the server. `allowance` is the actor that
    hands out calls, None without caps. Files are named from `folder`, where a worker has it.
    """

    load: Callable[[], ExtractionProgram]
    settings: Mapping[str, Any]
    known: Mapping[str, Any]
    caps: Caps = field(default_factory=Caps)
    allowance: Any = None
    folder: str = field(default_factory=os.getcwd)


def plain(settings: Settings) -> dict[str, Any]:
    """Return settings as an order carries them."""
    plain = settings.model_dump()
    base = settings.api_base and whole(settings.api_base)
    return {**plain, "api_base": base, "beside": tuple(whole(its) for its in settings.beside)}


class Seat:
    """Program and model of one worker, which asks without a cache: what is written is kept."""

    def __init__(self, order: Order) -> None:
        silence_libraries()
        with suppress(OSError):
            os.chdir(order.folder)
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
        self.settings = Settings(**order.settings)
        for address in (self.settings.api_base, *self.settings.beside):
            hosts.spare_proxy(address or "")
        self.parts: Sequence[Part] = list(order.load().parts.values())
        self.model = Model(self.settings, CACHE, _budget(order))
        self.model.engine.know(order.known)
        self._lm = self.model.lm.copy(cache=False)

    def asking(self) -> Any:
        """Return the context in which DSPy asks this worker's model."""
        return asking(self._lm)


def within_budget(
    ask: Callable[[Part, Any], Reading],
) -> Callable[[Part, Any], Reading]:
    """Let a call that the budget leaves unasked be a reading with an error."""

    def asked(part: Part, item: Any) -> Reading:
        try:
            return ask(part, item)
        except BudgetSpent as error:
            nothing: dict[str, list[str]] = {key: [] for key in part.keys}
            return Reading(nothing, error=f"{UNASKED}{error}")

    return asked


def gone(error: ModelGone) -> str:
    """Say that a model is gone, as the driver tells it."""
    return f"model '{error.model}' stopped answering: {error}"


def _budget(order: Order) -> Leased | None:
    if order.allowance is None:
        return None
    import ray

    allowance = order.allowance
    return Leased(
        order.caps,
        lambda calls, tokens: ray.get(allowance.take.remote(calls, tokens)),
        lambda calls, tokens: ray.get(allowance.give.remote(calls, tokens)),
    )
