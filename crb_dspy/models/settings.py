"""How a model is reached and asked: the one place where each of its settings is spelt."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer

from crb_dspy.files import fingerprint
from crb_dspy.models.address import Address
from crb_dspy.models.parameters import Parameters


def _variable(name: str) -> str:
    known = name in os.environ or (name.isupper() and ("_" in name or name.isalpha()))
    if not known or not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
        raise ValueError("name the environment variable that holds the key, never the key itself")
    return name


Variable = Annotated[str, AfterValidator(_variable)]

# The model of programs that ask none.
NONE = "none"


class Endpoint(BaseModel):
    """All that decides what a model answers; saved programs keep it.

    `temperature` is 0 to 2. `context` is the tokens that prompt and answer may have together:
    8,192 for an embedded model, no limit known elsewhere unless it is given. `api_key_env` names
    the environment variable that holds the key, where it is not the usual one of the provider.
    Logins in `api_base` are taken out as it is read: see `address`. `request` goes to the model as
    it is; `max_answer_tokens` is the least room of an answer, for models that think first.
    `compact` begins the answers of the embedded engine, in the layout that it chooses itself, and
    ends them with their last value: fewer tokens; whether the same answers is not known.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str = Field(min_length=1)
    api_base: Address | None = None
    api_key_env: Variable | None = None
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int = 0
    context: int | None = Field(None, ge=512)
    request: Parameters = Field(default_factory=dict)
    max_answer_tokens: int | None = Field(None, ge=1)
    compact: bool = False

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # What is not set is not written: files and fingerprints from before it could be stay valid.
        later = ("request", "max_answer_tokens", "compact", "beside")
        return {name: its for name, its in write(self).items() if its or name not in later}

    @classmethod
    def of(cls, source: Endpoint, **changes: object) -> Self:
        """Return these settings of anything that has some of them, changed by name."""
        own = {name: getattr(source, name) for name in cls.model_fields if hasattr(source, name)}
        return cls(**own | changes)

    @property
    def embedded(self) -> bool:
        """Whether the model runs in this process."""
        return self.model.startswith("local/")

    @property
    def identity(self) -> str:
        """12 hex digits that change with model, server, weights and what is sent beside a prompt.

        UserError as of `weights`.
        """
        weights = None
        if self.embedded:
            from crb_dspy.models.weights import identity

            weights = identity(self.model.removeprefix("local/"))
        compact = "compact" if self.compact else ""
        beside = [part for part in (self.sent, self.max_answer_tokens, compact) if part]
        return fingerprint(self.model, self.api_base, weights, *beside)

    @property
    def sent(self) -> dict[str, Any]:
        """What goes to the model beside a prompt: `request`, and the context that Ollama reads.

        Ollama cuts a prompt at a few thousand tokens, and says nothing, unless it is told.
        """
        told = self.context if self.model.startswith("ollama") else None
        return {**({"num_ctx": told} if told else {}), **self.request}


class Settings(Endpoint):
    """An endpoint, the longest wait in seconds, and how many calls may be under way at once.

    `beside` are further servers of the very same model: no answer depends on which one gave it.
    """

    # TOML has lists for tuples.
    beside: Annotated[tuple[Address, ...], Field(strict=False)] = ()
    timeout: float = Field(600.0, gt=0)
    threads: int = Field(1, ge=1, le=256)

    def other(self, model: str, api_base: str | None, api_key_env: str | None) -> Settings:
        """Return how another model is asked beside this one: as often at once, all else its own."""
        return Settings(
            model=model,
            api_base=api_base,
            api_key_env=api_key_env,
            seed=self.seed,
            timeout=self.timeout,
            threads=self.threads,
        )
