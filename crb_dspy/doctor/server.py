"""Checks of a model's server: reached, known, answering, and what it can do."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from dspy.lm15 import Config, Message, Request, TimeoutError

from crb_dspy.doctor.checks import Fault, Looking, Unknown
from crb_dspy.errors import one_line
from crb_dspy.models.address import whole
from crb_dspy.models.engine import TINY
from crb_dspy.models.faults import proxy_for
from crb_dspy.models.http import within
from crb_dspy.models.lm import Model
from crb_dspy.models.reply import Reply, get, read
from crb_dspy.models.server import litellm_completion
from crb_dspy.models.settings import Settings
from crb_dspy.models.wire import error_of

# Without these nothing else can be tried.
NEEDED = ("key", "server", "model", "answer")
# Where a server is unless an address is given.
USUAL = {"ollama": "http://127.0.0.1:11434", "ollama_chat": "http://127.0.0.1:11434"}
# Long enough that servers keep it: caches begin at 1,024 tokens.
LONG = "The patient was examined, and nothing of note was found on that day. " * 75
TOGETHER = 4
# Tokens of an answer whose time is taken: few, since a small machine writes one a second.
WORDS = 24
WAIT = 10.0


class Late(Unknown):
    """What can't be said because no answer came in time."""


def checks(model: Model) -> Iterator[tuple[str, Looking, str]]:
    """Yield the checks of a server, each of which asks little."""
    own = Checked(model)
    start = "start the server, or give its address: --api-base http://HOST:PORT/v1"
    yield "key", own.key, "set the variable"
    yield "proxy", own.proxy, ""
    yield "server", own.reached, start
    yield "model", own.listed, "serve it, or name one of those"
    yield "answer", own.answer, "see what the server logs"
    yield "JSON schema", own.schema, ""
    yield "probabilities", own.probabilities, ""
    yield "prefix cache", own.prefix, ""
    yield "context", own.context, ""
    yield "speed", own.speed, ""
    yield "streaming", own.streaming, ""
    yield "batch", own.batch, ""


class Checked:
    """A model under examination: what one check found the next may use."""

    def __init__(self, model: Model) -> None:
        self.model, self.settings = model, model.settings
        self._entry: dict[str, Any] = {}
        self._rate = 0.0

    @property
    def address(self) -> str:
        """Where the server is, "" for one that only LiteLLM knows."""
        if self.settings.embedded:
            return str(self.model.engine.server.connected()["api_base"])
        return self.settings.api_base or USUAL.get(self.settings.model.partition("/")[0], "")

    def key(self) -> str:
        """Return which key is used, never the key."""
        settings = self.settings
        if settings.embedded:
            raise Unknown("none needed: the model runs in this process")
        if name := settings.api_key_env:
            if not os.environ.get(name):
                raise Fault(f"{name} is not set", f"export {name}=...")
            return f"from {name}"
        usual = f"{settings.model.partition('/')[0].upper()}_API_KEY"
        if os.environ.get(usual):
            return f"from {usual}"
        if self.address:
            raise Unknown(f"none: {usual} is not set, which servers of one's own seldom need")
        raise Fault(f"{usual} is not set", f"export {usual}=..., or name another: --api-key-env")

    def proxy(self) -> str:
        """Return the proxy on the way."""
        if proxy := proxy_for(self.address):
            host = urlsplit(self.address).hostname
            return f"{proxy} is on the way and sees the reports (NO_PROXY={host} goes past it)"
        return "none on the way"

    def reached(self) -> str:
        """Return the address once a connection was made."""
        if not self.address:
            raise Unknown(f"the provider's own, by LiteLLM ({self.settings.model})")
        if proxy_for(self.address):
            raise Unknown("not tried past the proxy")
        parts = urlsplit(self.address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), timeout=WAIT).close()
        except OSError as error:
            said = f"nothing at {parts.hostname}:{port}: {error.strerror or error}"
            mend = "start the server, or give its address: --api-base http://HOST:PORT/v1"
            raise Fault(said, mend) from error
        return f"{parts.hostname}:{port} takes connections"

    def listed(self) -> str:
        """Return that the server lists the model."""
        if not self.settings.model.startswith(("openai/", "local/")) or not self.address:
            raise Unknown("lists of other APIs are not asked for")
        status, body = self._get(f"{whole(self.address).rstrip('/')}/models")
        if status in (401, 403):
            raise Fault(f"the key is refused ({status})", "check the key: --api-key-env NAME")
        names = [str(entry.get("id")) for entry in _entries(body)]
        if status != 200 or not names:
            raise Unknown(f"no list of models ({status})")
        wanted = str(self.model.engine.server.connected()["model"]).partition("/")[2]
        if wanted not in names:
            mend = f"name one of these: --model openai/{names[0]}"
            raise Fault(f"'{wanted}' is not among {', '.join(names[:8])}", mend)
        self._entry = next(entry for entry in _entries(body) if entry.get("id") == wanted)
        return f"'{wanted}' is listed" + (f" among {len(names)}" if len(names) > 1 else "")

    def answer(self) -> str:
        """Ask what a run asks at its start; say what the server can't take."""
        started = time.monotonic()
        self.model.check()
        took = f"after {time.monotonic() - started:.1f} s, in the form in which a run asks"
        lacking = ", ".join(self.model.learnt.lacking)
        return f"{took}, but for: {lacking} (left out from now on)" if lacking else took

    def schema(self) -> str:
        """Return whether answers keep to a schema."""
        if "response_format" in self.model.learnt.lacking:
            raise Unknown("not taken: answers are read as they come")
        reply = self._ask("Write a poem about rain.", response_format=_FORMAT, max_tokens=WORDS)
        try:
            kept = isinstance(json.loads(reply.text).get("answer"), list)
        except (ValueError, AttributeError):
            kept = reply.cut and reply.text.lstrip().startswith("{")
        if not kept:
            raise Unknown("taken, but not kept to: answers are read as they come")
        return "kept to, whatever is asked"

    def probabilities(self) -> str:
        """Return whether log-probabilities come."""
        try:
            raw = self._send("Say yes.", logprobs=True, max_tokens=1)
        except Exception as error:  # nothing that a run needs
            raise self._none(error) from error
        if not get(get(raw, "choices")[0], "logprobs"):
            raise Unknown("none")
        return "given"

    def prefix(self) -> str:
        """Return how much of a prompt is computed anew when it comes again."""
        self._ask(f"{LONG}\nSay a.")
        second = self._ask(f"{LONG}\nSay b.")
        if not second.sent:
            raise Unknown("no usage is reported")
        if not second.cached:
            raise Unknown("not reported; a report's prompts may be computed anew for each category")
        return f"of {second.sent} tokens {second.sent - second.cached} computed the second time"

    def context(self) -> str:
        """Return the context window, as the server or the settings tell it."""
        told = next((self._entry[n] for n in _WINDOWS if self._entry.get(n)), None)
        told = told or (self._entry.get("meta") or {}).get("n_ctx_train")
        mine = self.model.engine.context
        if told and mine and mine > int(told):
            raise Fault(f"context = {mine}, the server has {told}", f"set context = {told}")
        if mine:
            return f"{mine} tokens, as set" + (f"; the server says {told}" if told else "")
        if told:
            raise Unknown(f"{told} tokens by the server; context = {told} reads longer in pieces")
        raise Unknown("not told; context = TOKENS reads longer reports in pieces")

    def speed(self) -> str:
        """Return tokens a second, generated."""
        started = time.monotonic()
        reply = self._ask("Count from one to fifty in words.", max_tokens=WORDS)
        seconds = time.monotonic() - started
        self._rate = (reply.written or len(reply.text) / 4) / max(seconds, 1e-3)
        rate = f"{self._rate:.{0 if self._rate >= 10 else 1}f}"
        return f"{rate} tokens a second, one call at a time"

    def streaming(self) -> str:
        """Return whether an answer can be streamed; runs don't need it."""
        wire = {n: its for n, its in self.model.engine.server.connected().items() if n != "compact"}
        ask = [{"role": "user", "content": "Say yes."}]
        wire |= {"extra_body": {}, "stream": True, "max_tokens": 4, "messages": ask}
        wire["num_retries"] = 0
        try:
            streamed = partial(litellm_completion(), **wire)
            chunks = within(self.settings.timeout, lambda: sum(1 for _ in streamed()))
        except Exception as error:  # nothing that a run needs
            raise self._none(error) from error
        return f"works ({chunks} chunks); runs don't use it"

    def batch(self) -> str:
        """Return how much faster several calls go at once than one after another."""
        asked = [f"Count from {n} to fifty in words." for n in range(TOGETHER)]
        started = time.monotonic()
        with ThreadPoolExecutor(TOGETHER) as pool:
            replies = list(pool.map(lambda text: self._ask(text, max_tokens=WORDS), asked))
        seconds = time.monotonic() - started
        tokens = sum(reply.written or len(reply.text) / 4 for reply in replies)
        gain = tokens / max(seconds, 1e-3) / max(self._rate, 1e-3)
        more = f"; --threads {TOGETHER} and more pay" if gain > TOGETHER / 2 else ""
        return f"{TOGETHER} calls at once give {gain:.1f} times the tokens a second{more}"

    def _send(self, text: str, **more: Any) -> Any:
        temperature = self.settings.temperature
        config = Config(max_tokens=8, temperature=temperature)
        request = Request(model=TINY.model, messages=(Message.user(text),), config=config)
        given = self.model.engine.given(request)
        limit = "max_tokens" if "max_tokens" in given else "max_completion_tokens"
        if (most := more.pop("max_tokens", None)) is not None:
            given[limit] = max(most, self.model.engine.room)
        try:
            return self.model.engine.server.send({**given, **more})
        except Exception as error:
            if isinstance(late := self._none(error), Late):
                raise late from error
            raise

    def _none(self, error: Exception) -> Unknown:
        """Return that something is not there, or that it was waited for in vain."""
        if isinstance(error, Unknown):
            return error
        if isinstance(error_of(error, self.settings.model, None), TimeoutError):
            return Late(f"no answer within {self.settings.timeout:g} s; --timeout raises it")
        return Unknown(f"none: {one_line(error, 100)}")

    def _ask(self, text: str, **more: Any) -> Reply:
        return read(self._send(text, **more))

    def _get(self, address: str) -> tuple[int, Any]:
        import httpx

        connected = self.model.engine.server.connected()
        headers = {"Authorization": f"Bearer {connected.get('api_key') or 'none'}"}
        headers |= connected.get("extra_headers") or {}
        answer = httpx.get(address, headers=headers, timeout=WAIT)
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, None


# Under which names servers tell their context window: vLLM, OpenRouter, LM Studio, SGLang.
_WINDOWS = ("max_model_len", "context_length", "max_context_length", "context_window")
_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "array", "items": {"type": "string"}}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    },
}


def _entries(body: Any) -> list[dict[str, Any]]:
    found = body.get("data", body.get("models")) if isinstance(body, dict) else body
    return [entry for entry in found or [] if isinstance(entry, dict)]


def settings_of(model: str, **given: Any) -> Settings:
    """Return how a model is reached; what is not given is as usual."""
    return Settings(model=model, **{name: its for name, its in given.items() if its is not None})
