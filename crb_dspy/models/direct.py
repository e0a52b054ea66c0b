"""The short way to an OpenAI-compatible server: one HTTP client, its connections kept alive."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dspy.lm15 import (
    BillingError,
    ContextLengthError,
    LM15Error,
    ProviderError,
    TimeoutError,
    TransportError,
    UnsupportedModelError,
)

from crb_dspy.models.compact import completed, shortened
from crb_dspy.models.faults import words_of
from crb_dspy.models.http import HOPS, MOVED, leads_away, said_in
from crb_dspy.models.prices import dollars
from crb_dspy.models.wire import encoded

if TYPE_CHECKING:
    import httpx

PREFIX = "openai/"
# OpenAI itself treats models differently by their names, which LiteLLM knows.
OPENAI = "api.openai.com"
_BY_CODE: Mapping[str, type[LM15Error]] = {
    "context_length_exceeded": ContextLengthError,
    "insufficient_quota": BillingError,
    "model_not_found": UnsupportedModelError,
}
_OK, _NOT_FOUND = 200, 404
# What this way of asking knows by itself.
OWN = (*("model", "api_base", "api_key", "timeout", "num_retries", "compact", "extra_headers"),)
# Arguments of LiteLLM that are no fields of a request's body.
_LITELLMS = ("headers", "organization", "api_version", "extra_query", "drop_params")


class Fields(dict[str, Any]):
    """An object of a reply, whose fields are attributes; None for those it lacks."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


class Direct:
    """Answers chat completions as LiteLLM does: the same arguments, replies and dollars.

    Where `connected` says `compact`, the embedded engine is asked for values alone. A reply is the
    JSON that a server sent, whatever its shape; an attempt ends at `timeout`, though bytes trickle
    in. Errors are those of `dspy.lm15`, by status and code as LiteLLM tells them apart.
    """

    def __init__(self, connected: Mapping[str, Any]) -> None:
        import httpx

        base = httpx.URL(connected["api_base"])
        path, _, query = base.raw_path.partition(b"?")
        url = path.rstrip(b"/") + b"/chat/completions" + (b"?" + query if query else b"")
        self._url = base.copy_with(raw_path=url)
        key = connected.get("api_key") or os.environ.get("OPENAI_API_KEY") or "none"
        self.model = connected["model"].removeprefix(PREFIX)
        self._compact = bool(connected.get("compact"))
        # What httpx has read once, it copies.
        self._headers = httpx.Headers(_headers(base, key, connected.get("extra_headers") or {}))
        self._seconds = connected.get("timeout")
        self._extensions = {"timeout": httpx.Timeout(self._seconds).as_dict()}
        # A client around it would look for cookies, logins and redirects at every call.
        self._transport = httpx.HTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            proxy=_proxy(base),
            # Reading certificates takes a while.
            verify=base.scheme == "https",
        )

    def __call__(self, *, messages: Any, **given: Any) -> Fields:
        """Make one attempt at a chat completion; LM15Error if it fails."""
        import httpx

        options = {name: value for name, value in given.items() if name not in OWN}
        beside = options.pop("extra_body", None) or {}
        body = {"model": self.model, "messages": messages, **options, **beside}
        body, begun = shortened(body) if self._compact else (body, "")
        try:
            status, headers, text = self._sent(encoded(body))
        except httpx.TimeoutException as error:
            raise TimeoutError(f"timed out: {error or type(error).__name__}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(str(error) or type(error).__name__) from error
        if not _OK <= status < _OK + 100:
            raise _refusal(status, headers, text)
        return self._reply(said_in(text), begun)

    def _sent(self, body: bytes) -> tuple[int, Mapping[str, str], str]:
        """Return status, headers and body of a reply; errors are httpx's.

        ProviderError for a redirect to another server.
        """
        url = self._url
        for _ in range(HOPS + 1):
            status, headers, text = self._posted(url, body)
            if status not in MOVED or not headers.get("location"):
                break
            url = url.join(headers["location"])
            if elsewhere := leads_away(self._url, url):
                raise ProviderError(elsewhere, status=status)
        return status, headers, text

    def _posted(self, url: httpx.URL, body: bytes) -> tuple[int, Mapping[str, str], str]:
        import httpx

        started = time.monotonic()
        request = httpx.Request(
            "POST",
            url,
            headers=self._headers,
            stream=httpx.ByteStream(body),
            extensions=self._extensions,
        )
        request.headers["Content-Length"] = str(len(body))
        response = self._transport.handle_request(request)
        response.request = request
        packed = "content-encoding" in response.headers
        pieces = []
        try:
            for piece in response.iter_bytes() if packed else response.iter_raw():
                pieces.append(piece)
                if self._seconds and time.monotonic() - started > self._seconds:
                    raise httpx.ReadTimeout(f"no whole answer within {self._seconds:g} s")
        finally:
            response.close()
        whole = b"".join(pieces)
        return response.status_code, response.headers, whole.decode("utf-8", "replace")

    def _reply(self, found: Any, begun: str) -> Fields:
        reply = Fields(found if isinstance(found, dict) else {"reply": found})
        if begun:
            with suppress(LookupError, TypeError, AttributeError):  # it is told as it came
                choice = reply["choices"][0]
                text, cut = choice["message"]["content"] or "", choice["finish_reason"] != "stop"
                choice["message"]["content"] = completed(text, begun, cut=cut)
        usage = reply.usage if isinstance(reply.usage, dict) else {}
        reply["_hidden_params"] = {"response_cost": dollars(self.model, usage)}
        return reply


def _headers(base: httpx.URL, key: str, more: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of every call, with the login that stands in the address, or the key."""
    login = f"{base.username}:{base.password}"
    basic = f"Basic {base64.b64encode(login.encode()).decode()}"
    own = [
        ("Host", base.netloc.decode("ascii")),
        ("Authorization", basic if login != ":" else f"Bearer {key}"),
        ("Content-Type", "application/json"),
        ("Accept-Encoding", "gzip"),
        ("User-Agent", "crb_dspy"),
    ]
    named = {name.lower() for name in more}
    return [*((name, its) for name, its in own if name.lower() not in named), *more.items()]


def _proxy(base: httpx.URL) -> str | None:
    """Return the proxy that the environment names for an address."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(base.scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(base.netloc.decode("ascii")) else proxy


def reaches(connected: Mapping[str, Any]) -> bool:
    """Say whether a model is behind an OpenAI-compatible server with an address of its own.

    Where `connected` holds what LiteLLM alone understands, it is not.
    """
    base = connected.get("api_base") or ""
    own = connected["model"].startswith(PREFIX) and "://" in base and OPENAI not in base
    return own and not any(name in connected for name in _LITELLMS)


def _refusal(status: int, headers: Mapping[str, str], body: str) -> LM15Error:
    """Return what a status and the body beside it mean."""
    from dspy._vendor.lm15.errors import map_http_error
    from dspy.clients._http import retry_after_seconds

    said, code = words_of(body) or f"status {status}", _code(body)
    known: dict[str, Any] = {
        "status": status,
        "provider_code": code,
        "retry_after": retry_after_seconds(headers.get("retry-after")),
    }
    kind = UnsupportedModelError if status == _NOT_FOUND else _BY_CODE.get(code or "")
    error: LM15Error = kind(said, **known) if kind else map_http_error(message=said, **known)
    return error


def _code(body: str) -> str | None:
    """Return the code of a failure, where a server has one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    detail = found.get("error", found) if isinstance(found, dict) else None
    code = (detail.get("code") or detail.get("type")) if isinstance(detail, dict) else None
    return str(code) if code else None
