"""From a model's name to a model that answers: embedded, on a local server, or behind an API."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy
from dspy.lm15 import Config, Message, Request
from dspy.utils.exceptions import LMConfigurationError

from crb_dspy.errors import CrbError, UserError, one_line
from crb_dspy.files import as_json, write_whole
from crb_dspy.models.address import whole
from crb_dspy.models.budget import Budget
from crb_dspy.models.connection import beside_of, key_of
from crb_dspy.models.counted import Counted
from crb_dspy.models.engine import Engine, ModelGone, estimated_tokens
from crb_dspy.models.faults import proxy_for, spare_here
from crb_dspy.models.learnt import Learnt
from crb_dspy.models.meter import Meter
from crb_dspy.models.prices import price
from crb_dspy.models.server import Server
from crb_dspy.models.settings import NONE, Settings

# Times that an answer is offered to the cache, for ten seconds each.
TRIES = 12

_PROBE = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"answer": {"type": "array", "items": {"type": "string"}, "maxItems": 8}},
        "required": ["answer"],
        "additionalProperties": False,
    },
    "strict": True,
}
# Models that think first, at one temperature.
FIXED = re.compile(r"(?:^|/)(?:o[1345](?:-|$)|gpt-5(?!.*-chat))")


class Model:
    """A model in a role ("task", "reflection"), its meter, and the cache of its answers.

    Nothing is started or asked until the first request that the cache does not hold.
    `identity` changes with all that may change an answer. It stands in the name by which DSPy
    knows the model, and so in the keys of its cache, which leave out the server: all models of
    a process share the folder `cache`, and no two servers share an answer. A model `beside`
    another of the same identity and key shares its server, its slots and its fate.
    `longest` bounds, in tokens, the answers to requests that have no bound of their own.
    """

    def __init__(
        self,
        settings: Settings,
        cache: Path,
        budget: Budget | None = None,
        role: str = "task",
        beside: Model | None = None,
        longest: int | None = None,
    ) -> None:
        self.settings, self.role, self.meter = settings, role, Meter()
        self.identity = settings.identity
        self._cache, self.longest = cache, longest
        self._embedded: Any = None
        self._context = settings.context or (8192 if settings.embedded else None)
        server = Server(
            self._connect,
            settings.threads,
            settings.timeout,
            model=settings.model,
            beside=[whole(address) for address in settings.beside],
        )
        if beside and beside._account() == self._account():
            server = beside.engine.server
        count = self._tokens if settings.embedded else estimated_tokens
        self.engine: Engine = Engine(server, self.meter, budget, count)
        self.engine.context = self._context
        self.engine.room = settings.max_answer_tokens or 0
        self.lm = self._lm()

    def _account(self) -> tuple[str, str | None]:
        return self.identity, self.settings.api_key_env

    def _lm(self) -> dspy.LM:
        settings, longest = self.settings, self.longest
        temperature: float | None = settings.temperature
        if FIXED.search(settings.model):
            if temperature not in (0, 1):
                raise UserError(
                    f"model '{settings.model}': its temperature can't be set; leave it out, or say "
                    "temperature = 1"
                )
            self.learnt.lacks({"temperature": "models that think first have one of their own"})
            # Of fewer than so many, DSPy says, they would only think.
            longest = None
        try:
            return Counted(
                self.meter,
                f"{self.identity}/{settings.model}",
                engine=self.engine,
                temperature=temperature,
                max_tokens=longest,
                # At temperature 0 a seed changes nothing but the key of the cache.
                **({"seed": settings.seed} if settings.temperature else {}),
                # The engine retries by itself.
                num_retries=0,
            )
        except LMConfigurationError as error:
            raise UserError(f"model '{settings.model}': {one_line(error)}") from error

    @property
    def learnt(self) -> Learnt:
        """What was learnt of its server."""
        return self.engine.server.learnt

    def open(self) -> None:
        """Make DSPy cache answers on disk, and check that the model answers unless it ever did.

        UserError that says what was tried and what to do.
        """
        try:
            dspy.configure_cache(disk_cache_dir=str(self._cache), restrict_pickle=True)
        except (sqlite3.Error, OSError) as error:
            said = f"{self._cache}: cannot be used as the cache of answers: {error}"
            remedy = "make room, or move it away, and answers are asked anew"
            raise UserError(f"{said}; {remedy}") from error
        _be_patient(dspy.cache.disk_cache)
        if self.settings.model == NONE:
            return
        spare_here()
        try:
            self.engine.know(json.loads(self._answered.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Never asked, or killed just then.
            self.check()
            self._remember()
        self.learnt.told = self._remember

    @property
    def _answered(self) -> Path:
        return self._cache / self.identity / "answered.json"

    def _remember(self) -> None:
        """Note beside the answers how this server is asked."""
        write_whole(self._answered, as_json(self.engine.known()))

    def close(self) -> None:
        """Stop the embedded server, if one was started."""
        if self._embedded is not None:
            self._embedded.close()
            self._embedded = None

    def _connect(self) -> Mapping[str, Any]:
        settings = self.settings
        if settings.model == NONE:
            raise UserError(f"model = '{NONE}': there is no model to ask; use --program given")
        if not settings.embedded:
            base = {"api_base": whole(settings.api_base)} if settings.api_base else {}
            return {
                "model": settings.model,
                "timeout": settings.timeout,
                **base,
                **key_of(settings),
                **beside_of(settings),
            }
        from crb_dspy.models import embedded, weights

        path = weights.find(settings.model.removeprefix("local/"))
        context = self._context or 8192
        self._embedded = embedded.serve(path, context=context, slots=settings.threads)
        return {
            "model": f"openai/{path.stem}",
            "timeout": settings.timeout,
            "api_base": self._embedded.api_base,
            "api_key": self._embedded.api_key,
            **beside_of(settings),
            **({"compact": True} if settings.compact else {}),
        }

    def _tokens(self, text: str) -> int:
        """Count by the embedded model's own tokenizer."""
        import httpx

        connected = self.engine.server.connected()
        response = httpx.post(
            connected["api_base"].removesuffix("/v1") + "/tokenize",
            headers={"Authorization": f"Bearer {connected['api_key']}"},
            json={"content": text},
            timeout=self.settings.timeout,
        )
        return len(response.raise_for_status().json()["tokens"])

    def check(self) -> None:
        """Ask one tiny question in the form in which the run asks: roles, temperature, schema.

        What the server can't take is learnt; a schema too, under which it answers nothing.
        UserError if it does not answer at all.
        """
        self.meter.add(asked=1)
        try:
            response = self.engine.complete(self._probe(), retries=0)
            silent = not (response.text or "").strip() and response.finish_reason == "stop"
            if silent and "response_format" not in self.learnt.lacking:
                bare = self.engine.complete(self._probe(structured=False), retries=0)
                if (bare.text or "").strip():
                    self.learnt.lacks({"response_format": "its answers are empty under a schema"})
        except (Exception, ModelGone) as error:
            raise UserError(self._unreachable(error)) from error
        self.engine.supports_response_schema = "response_format" not in self.learnt.lacking

    def _probe(self, *, structured: bool = True) -> Request:
        settings = self.settings
        return Request(
            model=settings.model,
            system="You answer in JSON.",
            messages=(Message.user('Answer with JSON only: {"answer": ["yes"]}'),),
            config=Config(
                max_tokens=16,
                temperature=settings.temperature,
                seed=settings.seed if settings.temperature else None,
                response_format=_PROBE if structured else None,
            ),
        )

    def _unreachable(self, error: BaseException) -> str:
        if isinstance(cause := error.__cause__, CrbError):
            return str(cause)
        where = f" at {self.settings.api_base}" if self.settings.api_base else ""
        role = "" if self.role == "task" else f"{self.role} "
        if proxy := proxy_for(self.settings.api_base or ""):
            where += f" through the proxy {proxy}"
        return (
            f"{role}model '{self.settings.model}'{where} does not answer: {one_line(error)}; check "
            "the model's name, its key in the environment, and --api-base with a server that is "
            "running"
        )


def silence_libraries() -> None:
    """Keep libraries from logging: what they log quotes reports, and rows say what matters."""
    # Which warn of odd replies, and quote them.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
    for logger in ("dspy", "LiteLLM", "gepa"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)


def priced(settings: Settings) -> bool:
    """Say whether it is known what a model's calls cost; those on this machine cost nothing."""
    local = settings.embedded or settings.model.startswith("ollama")
    here = urlsplit(settings.api_base or "").hostname in ("127.0.0.1", "localhost", "::1")
    return local or here or price(settings.model, 1000, 1000) > 0


def _be_patient(disk: Any) -> None:
    """Let a cache try again what its database was too busy to write.

    By itself it gives up after ten seconds and says nothing: the answer would be asked again.
    """
    hasty = disk.set

    def patient(*args: Any, **given: Any) -> bool:
        return any(hasty(*args, **given) for _ in range(TRIES))

    disk.set = patient
