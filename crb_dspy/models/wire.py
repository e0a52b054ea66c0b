"""Between DSPy's requests and LiteLLM's calls: arguments, replies, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dspy.lm15 import (
    LM15Error,
    Message,
    Request,
    Response,
    ServerError,
    TokenLogprob,
    TopLogprob,
)
from dspy.lm15 import Usage as TokenUsage

from crb_dspy.errors import LEAST, hide, scrubbed, without_secrets
from crb_dspy.models import faults
from crb_dspy.models.reply import Unreadable, get, read

# What an answer without a limit of its own is taken to need at most.
UNLIMITED = 4096


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
        **({"logprobs": True, "top_logprobs": config.logprobs} if config.logprobs else {}),
    }
    system = [{"role": "system", "content": request.system}] if request.system else []
    messages = [{"role": m.role, "content": _content(m, marked)} for m in request.messages]
    return {
        "messages": system + messages,
        **{name: value for name, value in given.items() if value is not None},
    }


def encoded(arguments: Mapping[str, Any]) -> bytes:
    """Return arguments as JSON, texts with half a character too."""
    import orjson

    try:
        return orjson.dumps(arguments)
    except TypeError:
        return json.dumps(arguments).encode()


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


# Where a response says what was odd about its reply: `program/prompt.py` reads `note` and `failed`.
MARKS = "crb_dspy"
# The most tokens that a server may put before a prompt by itself, and the most characters of a
# token: counts beyond them are no counts.
OWN, STRETCH = 20_000, 60


def response_of(reply: Any, model: str) -> Response:
    """Return a reply, LiteLLM's or the JSON of a server, as DSPy's canonical response.

    Without secrets, in case a server tells what it was sent: answers are kept.
    """
    try:
        found = read(reply)
    except Unreadable as error:
        raise ServerError(str(error), status=502) from error
    marks = {name: its for name in ("note", "failed") if (its := getattr(found, name))}
    return Response(
        id=without_secrets(found.id) or None,
        model=without_secrets(found.model or model) or model,
        message=Message.assistant(without_secrets(found.text)),
        finish_reason="length" if found.cut else "stop",
        usage=TokenUsage(
            input_tokens=found.sent, output_tokens=found.written, cache_read_tokens=found.cached
        ),
        provider_data={MARKS: marks} if marks else None,
        logprobs=_logprobs(reply),
    )


def _logprobs(reply: Any) -> tuple[TokenLogprob, ...] | None:
    """Return the probabilities of an answer's tokens, None where the server told none."""
    choices = get(reply, "choices")
    told = get(get(choices[0], "logprobs"), "content") if choices else None
    if not told:
        return None
    return tuple(
        TokenLogprob(
            without_secrets(get(one, "token")),
            float(get(one, "logprob")),
            top=tuple(
                TopLogprob(without_secrets(get(other, "token")), float(get(other, "logprob")))
                for other in get(one, "top_logprobs") or ()
            ),
        )
        for one in told
    )


def counted(response: Response, prompt: str, count: Callable[[str], int]) -> tuple[Response, bool]:
    """Return a response with our own counts where the server's cannot be, and whether it has any.

    They cannot where they are missing, zero, or beyond all bounds for the texts.
    """
    usage, text = response.usage, response.text or ""
    sent, written = usage.input_tokens, usage.output_tokens
    size = len(prompt.encode("utf-8", "replace"))
    good = sent is not None and size / STRETCH <= sent <= size + OWN and sent > 0
    fine = written is not None and len(text) / STRETCH <= written <= 10 * len(text) + 10 * OWN
    if good and fine:
        return response, False
    own = replace(
        usage,
        input_tokens=sent if good else count(prompt),
        output_tokens=written if fine else (count(text) if text else 0),
        cache_read_tokens=usage.cache_read_tokens if good else 0,
        total_tokens=None,
    )
    return replace(response, usage=own), True


def dollars_of(reply: Any) -> float:
    """Return what LiteLLM says a reply cost, 0 where it knows no price."""
    hidden = getattr(reply, "_hidden_params", None) or {}
    return float(hidden.get("response_cost") or 0.0)


def error_of(
    error: Exception, model: str, key: str | None, context: int | None = None
) -> Exception:
    """Return an error of LiteLLM as one of `dspy.lm15`: without secrets, with the time to wait.

    Servers quote the key. LiteLLM keeps the headers where DSPy does not look for them. `context` is
    what is set, for the hint to whom a prompt was too long.
    """
    from dspy.clients._http import retry_after_seconds
    from dspy.clients.engines.litellm_errors import to_lm15_error

    mapped: Exception = to_lm15_error(error, model=model)
    headers = getattr(error, "litellm_response_headers", None) or {}
    if isinstance(mapped, LM15Error) and mapped.retry_after is None:
        mapped.retry_after = retry_after_seconds(headers.get("retry-after"))
    mapped = faults.known(mapped, context)
    said = str(getattr(mapped, "message", "") or mapped)
    # Local servers get a placeholder, which may be a word.
    if key and len(key) >= LEAST:
        hide(key)
    if (clean := scrubbed(said)) != said:
        said = clean
        mapped.args = (said,)
        if hasattr(mapped, "message"):
            mapped.message = said
    return mapped


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has, rather too many: three bytes each."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


def prompt_text(request: Request) -> str:
    """Return all that a request sends, as one text to be counted, its schema included."""
    schema = request.config.response_format
    texts = [request.system or "", *(message.text or "" for message in request.messages)]
    return "\n".join([*texts, str(schema) if schema else ""])
