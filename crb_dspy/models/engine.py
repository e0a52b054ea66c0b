"""One model behind LiteLLM: counted, capped in flight, checked before the first real call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dspy.lm15 import Message, Request, Response
from dspy.lm15 import Usage as TokenUsage

from crb_dspy.errors import one_line
from crb_dspy.models.meter import Meter

# Failures in a row, over all threads, after which a model is taken for gone.
PATIENCE = 12

Completion = Callable[..., Any]


class ModelGone(BaseException):
    """The model stopped answering; not an Exception, so that no optimizer takes it for a score."""


class Engine:
    """Answers DSPy's requests: `complete(Request) -> Response`, one attempt a call.

    `connect` returns the arguments that every LiteLLM call of this model carries (model,
    api_base, api_key); it runs at the first call, so a run that is answered from its cache
    starts no server. Errors are those of `dspy.lm15`, on which DSPy retries what may pass.
    `context` is the most tokens that prompt and answer may have together, None if unknown;
    `count(text)` says how many a text has.
    """

    supports_response_schema = True
    context: int | None = None

    def __init__(
        self,
        connect: Callable[[], Mapping[str, Any]],
        meter: Meter,
        threads: int = 1,
        completion: Completion | None = None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self._connect, self._completion = connect, completion
        self.count = count or estimated_tokens
        self._meter, self._slots = meter, threading.BoundedSemaphore(threads)
        self._lock = threading.Lock()
        self._arguments: Mapping[str, Any] | None = None
        self._failures = 0

    def complete(self, request: Request) -> Response:
        """Ask the model once, waiting for a free slot; ModelGone after `PATIENCE` failures."""
        with self._slots:
            started = time.perf_counter()
            try:
                reply = self._ask(request)
            except Exception as error:  # counted and passed on
                self._failed(error)
                if (mapped := _mapped(error, request.model)) is error:
                    raise
                raise mapped from error
            self._failures = 0
            response = response_of(reply, request.model)
            self._count(reply, response.usage, time.perf_counter() - started)
            return response

    def _ask(self, request: Request) -> Any:
        completion, connected = self._completion or _litellm(), self.connected()
        # Other APIs and local servers keep prefixes by themselves.
        marked = "claude" in connected["model"]
        return completion(**arguments(request, marked=marked), **connected, num_retries=0)

    def connected(self) -> Mapping[str, Any]:
        """Return what every call carries, connecting first if need be."""
        with self._lock:
            if self._arguments is None:
                self._arguments = self._connect()
            return self._arguments

    def _failed(self, error: Exception) -> None:
        self._meter.add(failures=1)
        with self._lock:
            self._failures += 1
            if self._failures >= PATIENCE:
                said = one_line(error)
                raise ModelGone(f"{PATIENCE} failures in a row, the last: {said}") from error

    def _count(self, reply: Any, usage: TokenUsage, seconds: float) -> None:
        sent = usage.input_tokens or 0
        hidden = getattr(reply, "_hidden_params", None) or {}
        self._meter.add(
            calls=1,
            prompt_tokens=sent,
            computed_tokens=sent - (usage.cache_read_tokens or 0),
            completion_tokens=usage.output_tokens or 0,
            usd=hidden.get("response_cost") or 0.0,
            seconds=seconds,
        )


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has, rather too many: three bytes each."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


def arguments(request: Request, *, marked: bool = False) -> dict[str, Any]:
    """Return a request as the keyword arguments of `litellm.completion`.

    `marked`: of a message in two parts, the first is marked to be kept in the API's prompt cache.
    """
    config = request.config
    given = {
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "seed": config.seed,
        "response_format": _format(config.response_format),
    }
    system = [{"role": "system", "content": request.system}] if request.system else []
    messages = [{"role": m.role, "content": _content(m, marked)} for m in request.messages]
    return {
        "messages": system + messages,
        **{name: value for name, value in given.items() if value is not None},
    }


def _content(message: Message, marked: bool) -> Any:
    """Return a message's text, its parts joined by line breaks; marked, as blocks."""
    if not marked or len(message.parts) == 1:
        return message.text
    shared, *rest = [part.text for part in message.parts]
    first = {"type": "text", "text": f"{shared}\n", "cache_control": {"type": "ephemeral"}}
    return [first, *({"type": "text", "text": text} for text in rest)]


def _format(canonical: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return DSPy's canonical response format in the shape of OpenAI's API."""
    if canonical is None:
        return None
    if canonical["type"] != "json_schema":
        return dict(canonical)
    constraint = {name: value for name, value in canonical.items() if name != "type"}
    return {"type": "json_schema", "json_schema": {"name": "answer", **constraint}}


def response_of(reply: Any, model: str) -> Response:
    """Return LiteLLM's reply as DSPy's canonical response."""
    choice, usage = reply.choices[0], reply.usage
    details = getattr(usage, "prompt_tokens_details", None)
    return Response(
        id=reply.id or None,
        model=reply.model or model,
        message=Message.assistant(choice.message.content or ""),
        finish_reason="length" if choice.finish_reason == "length" else "stop",
        usage=TokenUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cache_read_tokens=getattr(details, "cached_tokens", None) or 0,
        ),
    )


def _litellm() -> Completion:
    import litellm

    litellm.suppress_debug_info = True
    completion: Completion = litellm.completion
    return completion


def _mapped(error: Exception, model: str) -> Exception:
    """Return an error of LiteLLM as one of `dspy.lm15`, so that DSPy knows which may pass."""
    from dspy.clients.engines.litellm_errors import to_lm15_error

    mapped: Exception = to_lm15_error(error, model=model)
    return mapped
