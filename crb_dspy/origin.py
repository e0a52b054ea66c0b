"""How a tuned program came about, as its file says."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from crb_dspy import command
from crb_dspy.errors import UserError, explained
from crb_dspy.models import parameters
from crb_dspy.models.direct import PREFIX
from crb_dspy.models.fleet import servers
from crb_dspy.models.settings import NONE, Endpoint, Settings
from crb_dspy.retrieval.support import asks
from crb_dspy.trust import foreign

# Calls that may be under way at once.
_MOST = 256


class Origin(Endpoint):
    """How a program came about: what it was built from, the model it was tuned for, its scores."""

    program: str
    program_options: dict[str, Any] = Field(default_factory=dict)
    # What the file of a program FILE.py:Class held.
    code: str | None = None
    # Its name or path then; the file holds the schema itself.
    schema_: str = Field(alias="schema")
    categories: list[str]
    scores: dict[str, float] = Field(default_factory=dict)
    _asks: bool = PrivateAttr(default=True)

    def of_parts(self, parts: Iterable[Any]) -> Origin:
        """Return it as that of a program with these parts: where none asks, no model is reached."""
        own = self.model_copy()
        own._asks = asks(parts)
        return own

    @field_validator("scores")
    @classmethod
    def _finite(cls, scores: dict[str, float]) -> dict[str, float]:
        # JSON has no NaN, which stands for "undefined".
        return {name: value for name, value in scores.items() if math.isfinite(value)}

    def asked(self, arguments: Namespace) -> Settings:
        """Return `settings` as the flags of a command that asks a saved program have them."""
        return self.settings(
            arguments.model,
            arguments.api_base,
            arguments.threads,
            trust=arguments.trust,
            request=command.parameters(arguments.request),
            room=arguments.max_answer_tokens,
            timeout=arguments.timeout,
        )

    def settings(
        self,
        model: str | None,
        api_base: str | Sequence[str] | None,
        threads: int,
        *,
        trust: bool = False,
        request: Mapping[str, Any] | None = None,
        room: int | None = None,
        timeout: float | None = None,
    ) -> Settings:
        """Return how its own model is reached, or another one by the same settings.

        A program whose classifier stands in the model's place everywhere reaches none, whatever is
        named. `api_base` may be several servers of that model, or files that list them. `request`,
        `room` (max_answer_tokens) and `timeout` (seconds) are what the command adds.

        UserError if more or fewer calls may be under way than can be, and for a server or a key
        that nobody but the program's file names, unless there is or was `trust` in it.
        """
        if not 1 <= threads <= _MOST:
            raise UserError(f"--threads {threads}: from 1 to {_MOST} calls may be under way")
        if not self._asks:
            return Settings(model=NONE, threads=threads)
        listed = servers(api_base)
        first, beside = next(iter(listed), None), tuple(listed[1:])
        at = first or self.api_base
        own: dict[str, Any] = {"threads": threads, "beside": beside, "api_base": at}
        if model not in (None, self.model):
            own |= {"model": model, "api_base": first, "context": None, "api_key_env": None}
            own |= {"request": {}, "max_answer_tokens": None}
        settings = Settings.of(self, **own)
        if beside and not settings.model.startswith(PREFIX):
            raise UserError(
                f"model '{settings.model}': several --api-base are for OpenAI-compatible servers, "
                f"as {PREFIX}NAME"
            )
        foreign.allow_request(parameters.redirects(settings.request), trust=trust)
        added = {"max_answer_tokens": room, "timeout": timeout}
        changed = {name: its for name, its in added.items() if its is not None}
        try:
            own = {"request": {**settings.request, **(request or {})}}
            settings = Settings.of(settings, **changed, **own)
        except ValidationError as error:
            raise UserError(f"asked with {explained(error)}") from error
        if model is None:
            foreign.allow_weights(settings.model, trust=trust)
        place = (settings.model, settings.api_base, settings.api_key_env)
        foreign.allow_server(*place, chosen=bool(first), trust=trust)
        return settings
