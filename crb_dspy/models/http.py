"""One attempt over HTTP: ended when its time is over, its body kept as it came."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import httpx
from dspy.lm15 import InvalidRequestError, ServerError, TimeoutError

from crb_dspy.models.faults import told, words_of
from crb_dspy.models.reply import Unreadable, of_body

# Seconds after its own limit that a library is given to say itself that it waited in vain.
GRACE = 0.5
Given = TypeVar("Given")
# Redirects of one call that are followed, and those that keep method and body.
HOPS, MOVED = 4, (307, 308)
# The status and body of the last reply in a thread.
_LAST = threading.local()


class Recorder(httpx.Client):
    """A client that keeps, for the thread that asks, what a server sent last, word for word."""

    def send(self, request: httpx.Request, **given: Any) -> httpx.Response:
        """Send a request and keep the body of its reply, unless it is streamed to the caller."""
        forget()
        response = super().send(request, **given)
        for _ in range(HOPS):
            following = response.next_request
            if response.status_code not in MOVED or not following:
                break
            if elsewhere := leads_away(request.url, following.url):
                _LAST.reply = (response.status_code, elsewhere)
                return response
            response.close()
            response = super().send(following, **given)
        if not given.get("stream"):
            _LAST.reply = (response.status_code, response.text)
        return response


def leads_away(asked: httpx.URL, target: httpx.URL) -> str:
    """Say that a redirect leads to another server than the one that was named, "" if it does not.

    Neither a report nor a key follows it there.
    """
    if (asked.scheme, asked.netloc) == (target.scheme, target.netloc):
        return ""
    address = str(target.copy_with(username=None, password=None, query=None))
    address = address.removesuffix("/chat/completions")
    return f"redirected to {address}, another server than was named; name it: --api-base {address}"


def forget() -> None:
    """Forget the last reply in this thread."""
    _LAST.reply = (0, "")


def last_reply() -> tuple[int, str]:
    """Return status and body of the last reply in this thread, 0 and "" if there is none."""
    found: tuple[int, str] = getattr(_LAST, "reply", (0, ""))
    return found


def unread(error: Exception) -> Any:
    """Return the JSON of a reply that a library failed at, None if there is none.

    An error with status 200 is raised as what it is; the words of any other are put into `error`,
    where they got lost on the way. ServerError for what is no reply of a model server.
    """
    status, body = last_reply()
    if not 200 <= status < 300:
        if (said := words_of(body)) and said[:60] not in told(error):
            error.args = (f"{told(error)} {said}",)
            if hasattr(error, "message"):
                error.message = error.args[0]
        return None
    return said_in(body)


def said_in(body: str) -> Any:
    """Return the JSON of a reply with status 200; an error that it holds is raised as what it is.

    ServerError for what is no reply of a model server.
    """
    try:
        found = of_body(body)
    except Unreadable as unreadable:
        raise ServerError(str(unreadable), status=502) from unreadable
    if isinstance(found, dict) and found.get("error") and not found.get("choices"):
        inner = found["error"] if isinstance(found["error"], dict) else {}
        code = str(inner.get("code") or found.get("code") or "")
        kind = InvalidRequestError if code.startswith("4") else ServerError
        number = int(code) if code.isdecimal() else 500
        raise kind(words_of(body), status=number)
    return found


def refused() -> Any:
    """Raise what a server said last, where a library said nothing."""
    status, body = last_reply()
    kind = InvalidRequestError if 400 <= status < 500 else ServerError
    raise kind(words_of(body) or "no reply", status=status or 502)


def patient(completion: Callable[..., Any], connected: Mapping[str, Any]) -> Callable[..., Any]:
    """Return LiteLLM's way of asking, ended at `timeout`; odd replies are returned as they came."""
    own, seconds = client(connected), connected.get("timeout")

    def asked(**given: Any) -> Any:
        forget()
        try:
            reply = completion(**given, **own)
            # LiteLLM asks again by itself where roles must alternate, and then gives up silently.
            return refused() if reply is None else reply
        except Exception as error:
            if (odd := unread(error)) is not None:
                return odd
            raise

    def ended(**given: Any) -> Any:
        return within(seconds, partial(asked, **given)) if seconds else asked(**given)

    return ended


def client(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what lets LiteLLM ask an OpenAI-style server of one's own by a `Recorder`."""
    model, base = str(arguments.get("model", "")), arguments.get("api_base")
    if not model.startswith("openai/") or not base:
        return {}
    import openai
    from litellm.llms.custom_httpx.http_handler import get_ssl_configuration

    recorder = Recorder(
        timeout=arguments.get("timeout"),
        follow_redirects=False,  # but as the recorder does
        verify=get_ssl_configuration(),
        limits=httpx.Limits(),  # the slots are the limit
    )
    return {
        "client": openai.OpenAI(
            api_key=arguments.get("api_key") or "none",
            base_url=base,
            max_retries=arguments.get("max_retries", 0),
            http_client=recorder,
        )
    }


def within(seconds: float, call: Callable[[], Given]) -> Given:
    """Return what a call gives; TimeoutError if it takes longer, though bytes may trickle in.

    It is left to itself then, in a thread that keeps no process from ending.
    """
    done: Future[Given] = Future()
    context = copy_context()

    def work() -> None:
        try:
            done.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001  raised where the call was asked for
            done.set_exception(error)

    threading.Thread(target=work, name="call", daemon=True).start()
    try:
        return done.result(seconds + GRACE)
    except NotYet as error:
        if done.done():
            raise
        raise TimeoutError(f"no whole answer within {seconds:g} s") from error
