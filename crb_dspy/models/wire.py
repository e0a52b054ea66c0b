"""Between DSPy's requests and LiteLLM's calls: arguments, replies, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy.lm15 import LM15Error, Message, Request, Response
from dspy.lm15 import Usage as TokenUsage

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


def dollars_of(reply: Any) -> float:
    """Return what LiteLLM says a reply cost, 0 where it knows no price."""
    hidden = getattr(reply, "_hidden_params", None) or {}
    return float(hidden.get("response_cost") or 0.0)


def error_of(error: Exception, model: str, key: str | None) -> Exception:
    """Return an error of LiteLLM as one of `dspy.lm15`: without the key, with the time to wait.

    Servers quote the key. LiteLLM keeps the headers where DSPy does not look for them.
    """
    from dspy.clients._http import retry_after_seconds
    from dspy.clients.engines.litellm_errors import to_lm15_error

    mapped: Exception = to_lm15_error(error, model=model)
    headers = getattr(error, "litellm_response_headers", None) or {}
    if isinstance(mapped, LM15Error) and mapped.retry_after is None:
        mapped.retry_after = retry_after_seconds(headers.get("retry-after"))
    said = str(getattr(mapped, "message", "") or mapped)
    # Local servers get a placeholder, which may be a word.
    if key and len(key) >= 8 and key in said:
        said = said.replace(key, "***")
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


def price(model: str, prompt_tokens: int, completion_tokens: int) -> float:
    """Return what a call would cost in dollars by LiteLLM's price list, 0 where it has none."""
    import litellm

    listed = litellm.model_cost
    entry = listed.get(model) or listed.get(model.partition("/")[2]) or {}
    return float(
        prompt_tokens * (entry.get("input_cost_per_token") or 0.0)
        + completion_tokens * (entry.get("output_cost_per_token") or 0.0)
    )
