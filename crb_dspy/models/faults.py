"""Whose an error is: the request's, the server's, the network's; and what the server said."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dspy.lm15 import (
    ContextLengthError,
    InvalidRequestError,
    ProviderError,
    ServerError,
    TransportError,
    UnsupportedFeatureError,
    UnsupportedModelError,
)

# How servers say that a prompt is too long: vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI,
# LiteLLM's proxy, OpenAI, Azure, Anthropic, Gemini.
_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size|limit|overflow|shift)|maximum context|max_model_len"
    r"|num_ctx|n_ctx|(?:prompt|input|request|message|text)s?\b.{0,40}\b(?:is |are |was |were )?"
    r"(?:too (?:long|large|many)|longer than|exceed)|too (?:many|long).{0,20}(?:tokens|inputs?\b)"
    r"|`?inputs?`? tokens? \+ |`?inputs`? (?:tokens )?must have less than"
    r"|token (?:count|limit).{0,40}exceed"
    r"|exceeds? the (?:maximum|max|limit|available).{0,40}(?:token|context|length)"
    r"|string too long|string_above_max_length|payload too large|entity too large"
    r"|fit in(?:to)? the (?:context|slot|kv)|kv cache",
    re.IGNORECASE | re.DOTALL,
)
_BLOCKED = re.compile(
    r"content[ _-]?(?:filter|policy|management|moderation)|responsible ?ai|safety|moderation"
    r"|flagged|blocked (?:by|due|because)|guardrail|prohibited",
    re.IGNORECASE,
)
TOO_LARGE = 413


def words_of(body: str) -> str:
    """Return what an error's body says, in whatever shape: JSON of any kind, HTML, text."""
    try:
        said = _said(json.loads(body))
    except (ValueError, RecursionError):
        said = re.sub(r"<(?:style|script).*?</(?:style|script)>|<[^>]*>", " ", body, flags=re.S)
    return " ".join(said.split())[:500]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        for name in ("error", "message", "detail", "msg", "errors", "title", "reason", "code"):
            if value.get(name) and (found := _said(value[name])):
                inner = value[name] if isinstance(value[name], dict) else {}
                where = value.get("loc") or value.get("param") or inner.get("param")
                shown = ".".join(map(str, where)) if isinstance(where, list) else str(where or "")
                return f"{shown}: {found}" if shown and shown not in found else found
        return ", ".join(filter(None, map(_said, value.values())))
    if isinstance(value, list):
        return "; ".join(filter(None, map(_said, value)))
    return "" if value is None or isinstance(value, bool) else str(value)


def told(error: Exception) -> str:
    """Return what an error says."""
    return str(getattr(error, "message", "") or error)


def known(error: Exception, context: int | None = None) -> Exception:
    """Return an error as the kind that its words make it, whatever status it came with.

    A prompt that is too long is a ContextLengthError with a hint, also where a server says so with
    500, and an unknown 4xx is an InvalidRequestError.
    """
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    said = told(error)
    blamed = isinstance(error, InvalidRequestError | ServerError | UnsupportedFeatureError)
    if status == TOO_LARGE or (blamed and _TOO_LONG.search(said)):
        return _too_long(said.partition("\n\n  To fix:")[0], status, context)
    if type(error) is ProviderError and isinstance(status, int) and 400 <= status < 500:
        refused: Exception = InvalidRequestError(said, status=status)
        return refused
    return error


def _too_long(said: str, status: Any, context: int | None) -> Exception:
    have = f"context = {context} is more than it takes" if context else "no context is set"
    error: Any = ContextLengthError("", status=status)
    error.message = f"{said[:220]} ({have}: with context = TOKENS long reports are read in pieces)"
    error.args = (error.message,)
    long: Exception = error
    return long


def is_requests_own(error: Exception) -> bool:
    """Say whether an error surely says nothing of the server: too long, or filtered."""
    if isinstance(error, ContextLengthError):
        return True
    return isinstance(error, InvalidRequestError) and bool(_BLOCKED.search(told(error)))


def is_refused_form(error: Exception) -> bool:
    """Say whether another form of the same request may be taken: parameters, schema, roles."""
    if isinstance(error, UnsupportedModelError) or is_requests_own(error):
        return False
    if isinstance(error, InvalidRequestError | UnsupportedFeatureError):
        return True
    return isinstance(error, ServerError) and getattr(error, "status", None) == 501


def proxy_for(address: str) -> str:
    """Return the proxy of the environment that an address is reached through, without its login.

    "" if there is none.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    host = parts.hostname or ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or not host or proxy_bypass(host):
        return ""
    named = urlsplit(found if "://" in found else f"//{found}")
    return f"{named.hostname}:{named.port}" if named.port else str(named.hostname)


def through(error: Exception, address: str) -> Exception:
    """Return an error of the network, or of a gateway, with the proxy it may be due to."""
    status = getattr(error, "status", None)
    suspect = isinstance(error, TransportError) or status in (403, 407, 502, 503, 504)
    suspect = suspect or "onnection error" in told(error)  # OpenAI's client has no more to say
    if suspect and (proxy := proxy_for(address)):
        host = urlsplit(address).hostname
        said = f"{told(error)} (asked through the proxy {proxy}; NO_PROXY={host} goes past it)"
        error.args = (said,)
        if hasattr(error, "message"):
            error.message = said
    return error


def spare_here(addresses: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")) -> None:
    """Let what runs on this machine be reached directly, whatever proxy the environment names."""
    for name in ("NO_PROXY", "no_proxy"):
        listed = [part for part in os.environ.get(name, "").split(",") if part.strip()]
        if "*" not in listed:
            missing = [host for host in addresses if host not in listed]
            os.environ[name] = ",".join([*listed, *missing])
