"""From a model's name to a model that answers: embedded, on a local server, or behind an API."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy
from dspy.lm15 import Config, InvalidRequestError, Message, Request, UnsupportedFeatureError
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMConfigurationError

from crb_dspy.cases import fingerprint
from crb_dspy.errors import CrbError, UserError, one_line
from crb_dspy.models import tally
from crb_dspy.models.budget import Budget
from crb_dspy.models.engine import Engine, ModelGone, estimated_tokens
from crb_dspy.models.line import Line
from crb_dspy.models.meter import Meter
from crb_dspy.models.wire import price

# LiteLLM would fetch its price list at import.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

_PROBE = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"answer": {"type": "array", "items": {"type": "string"}}},
        "required": ["answer"],
        "additionalProperties": False,
    },
}


def hush() -> None:
    """Keep libraries from logging: what they log quotes reports, and rows say what matters."""
    for logger in ("dspy", "LiteLLM", "gepa"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Settings:
    """How a model is reached and asked.

    `temperature` is 0 to 2, `timeout` in seconds, `threads` the calls under way at once.
    `context` is the tokens that prompt and answer may have together: 8,192 for an embedded
    model, no limit known elsewhere unless it is given. `api_key_env` names the environment
    variable that holds the key, where it is not the usual one of the model's provider;
    `max_tokens` bounds the answers to requests that have no bound of their own.
    """

    model: str
    api_base: str | None = None
    temperature: float = 0.0
    seed: int = 0
    context: int | None = None
    timeout: float = 600.0
    threads: int = 1
    api_key_env: str | None = None
    max_tokens: int | None = None


class Model:
    """A model in a role ("task", "reflection"), its meter, and the cache of its answers.

    Nothing is started or asked until the first request that the cache does not hold.
    `identity` changes with all that may change an answer. It stands in the name by which DSPy
    knows the model, and so in the keys of its cache, which leave out the server: all models of
    a process share the folder `cache`, and no two servers share an answer. A model `beside`
    another of the same identity and key shares its server, its slots and its fate.
    """

    def __init__(
        self,
        settings: Settings,
        cache: Path,
        budget: Budget | None = None,
        role: str = "task",
        beside: Model | None = None,
    ) -> None:
        self.settings, self.role, self.meter = settings, role, Meter()
        self._server: Any = None
        self.identity = fingerprint(settings.model, settings.api_base, _weights(settings.model))
        self._cache = cache
        self._local = settings.model.startswith("local/")
        self._context = settings.context or (8192 if self._local else None)
        line = Line(self._connect, settings.threads, settings.timeout, model=settings.model)
        if beside and beside._account() == self._account():
            line = beside.engine.line
        count = self._tokens if self._local else estimated_tokens
        self.engine: Engine = Engine(line, self.meter, budget, count)
        self.engine.context = self._context
        self.lm = self._lm()

    def _account(self) -> tuple[str, str | None]:
        return self.identity, self.settings.api_key_env

    def _lm(self) -> dspy.LM:
        settings = self.settings
        try:
            return dspy.LM(
                f"{self.identity}/{settings.model}",
                engine=self.engine,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                # At temperature 0 a seed changes nothing but the key of the cache.
                **({"seed": settings.seed} if settings.temperature else {}),
                # The engine retries by itself.
                num_retries=0,
                callbacks=[_Asked(self.meter)],
            )
        except LMConfigurationError as error:
            raise UserError(f"model '{settings.model}': {one_line(error)}") from error

    def open(self) -> None:
        """Make DSPy cache answers on disk, and check that the model answers unless it ever did.

        UserError that says what was tried and what to do.
        """
        dspy.configure_cache(disk_cache_dir=str(self._cache), restrict_pickle=True)
        answered = self._cache / self.identity / "answered.json"
        try:
            self.engine.supports_response_schema = json.loads(answered.read_text())["structured"]
        except (OSError, ValueError):  # never asked, or killed just then
            self._check()
            answered.parent.mkdir(exist_ok=True)
            answered.write_text(json.dumps({"structured": self.engine.supports_response_schema}))

    def close(self) -> None:
        """Stop the embedded server, if one was started."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _connect(self) -> Mapping[str, Any]:
        settings = self.settings
        if not self._local:
            base = {"api_base": settings.api_base} if settings.api_base else {}
            return {
                "model": settings.model,
                "timeout": settings.timeout,
                **base,
                **_key(settings),
            }
        from crb_dspy.models import embedded, weights

        path = weights.find(settings.model.removeprefix("local/"))
        context = self._context or 8192
        self._server = embedded.serve(path, context=context, slots=settings.threads)
        return {
            "model": f"openai/{path.stem}",
            "timeout": settings.timeout,
            "api_base": self._server.api_base,
            "api_key": self._server.api_key,
        }

    def _tokens(self, text: str) -> int:
        """Count by the embedded model's own tokenizer."""
        import httpx

        connected = self.engine.line.connected()
        response = httpx.post(
            connected["api_base"].removesuffix("/v1") + "/tokenize",
            headers={"Authorization": f"Bearer {connected['api_key']}"},
            json={"content": text},
            timeout=self.settings.timeout,
        )
        return len(response.raise_for_status().json()["tokens"])

    def _check(self) -> None:
        """Ask one tiny question, constrained to a schema if the server can."""
        self.meter.add(asked=1)
        try:
            try:
                self.engine.complete(self._probe(structured=True), retries=0)
            except (InvalidRequestError, UnsupportedFeatureError):
                self.engine.supports_response_schema = False
                self.engine.complete(self._probe(structured=False), retries=0)
        except (Exception, ModelGone) as error:
            raise UserError(self._unreachable(error)) from error

    def _probe(self, *, structured: bool) -> Request:
        return Request(
            model=self.settings.model,
            messages=(Message.user('Answer with JSON only: {"answer": ["yes"]}'),),
            config=Config(max_tokens=16, response_format=_PROBE if structured else None),
        )

    def _unreachable(self, error: BaseException) -> str:
        if isinstance(cause := error.__cause__, CrbError):
            return str(cause)
        where = f" at {self.settings.api_base}" if self.settings.api_base else ""
        role = "" if self.role == "task" else f"{self.role} "
        return (
            f"{role}model '{self.settings.model}'{where} does not answer: {one_line(error)}; check "
            "the model's name, its key in the environment, and --api-base with a server that is "
            "running"
        )


class _Asked(BaseCallback):  # type: ignore[misc]
    """Counts requests before the cache is looked at."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_lm_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        """Count one request."""
        self._meter.add(asked=1)

    def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """Count a request that came to nothing, and what an answer took, from the cache or not."""
        self._meter.add(lost=int(exception is not None))
        usage = getattr(outputs, "usage", None)
        tally.count((usage.input_tokens or 0) + (usage.output_tokens or 0) if usage else 0)


def priced(settings: Settings) -> bool:
    """Say whether it is known what a model's calls cost; those on this machine cost nothing."""
    local = settings.model.startswith(("local/", "ollama"))
    here = urlsplit(settings.api_base or "").hostname in ("127.0.0.1", "localhost", "::1")
    return local or here or price(settings.model, 1000, 1000) > 0


def _key(settings: Settings) -> dict[str, str]:
    """Return the key to pass on, nothing where LiteLLM finds it by itself."""
    if name := settings.api_key_env:
        if not (key := os.environ.get(name)):
            raise UserError(f"{name}: set this environment variable to the key of {settings.model}")
        return {"api_key": key}
    # OpenAI's client refuses to start without a key, which local servers don't ask for.
    keyless = settings.api_base and "OPENAI_API_KEY" not in os.environ
    return {"api_key": "none"} if keyless and settings.model.startswith("openai/") else {}


def _weights(model: str) -> object:
    """Return what tells a local model's weights apart, None for a model elsewhere."""
    if not model.startswith("local/"):
        return None
    from crb_dspy.models import weights

    return weights.identity(model.removeprefix("local/"))
