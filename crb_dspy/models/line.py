"""The way to one server: its address, its free slots, and whether it still answers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dspy.lm15 import (
    ContextLengthError,
    RateLimitError,
    ServerError,
    TimeoutError,
    TransportError,
)

from crb_dspy.errors import one_line

# Failures in a row, over all threads, after which a model is taken for gone.
PATIENCE = 12
# Fewer where each of them took the whole timeout.
HUNG = 3
# Seconds before the first further attempt; doubled each time, up to the longest.
BACKOFF, LONGEST = 1.0, 60.0
# What may pass must have lasted for so many times the first wait, as the attempts at a request
# do: else many threads would lose patience before any of them tries again.
LASTING = 7
# Seconds after which a thread that waits looks whether it still should.
GLANCE = 0.2

# Answers kept for those who were about to ask the same.
RECENT = 64

TRANSIENT = (RateLimitError, ServerError, TimeoutError, TransportError)

Completion = Callable[..., Any]
# Raises what ends a wait.
Check = Callable[[], None]


class ModelGone(BaseException):
    """A model stopped answering; not an Exception, so that no optimizer takes it for a score."""

    def __init__(self, reason: str, model: str = "") -> None:
        super().__init__(reason)
        self.model = model


class Line:
    """What all who ask one server share; once the model is gone, every use raises ModelGone.

    `connect` returns the arguments that every LiteLLM call carries (model, api_base, api_key);
    it runs at the first call, so that a run that is answered from its cache starts no server.
    `timeout` in seconds ends an attempt, by what `connect` returns, and the wait for a server
    that does nothing but refuse. `model` is the name that ModelGone carries.
    """

    def __init__(
        self,
        connect: Callable[[], Mapping[str, Any]],
        threads: int = 1,
        timeout: float = 600.0,
        completion: Completion | None = None,
        model: str = "",
    ) -> None:
        self._connect, self._free, self._timeout = connect, threads, timeout
        self._completion, self._model = completion, model
        self._changed, self._connecting = threading.Condition(), threading.Lock()
        self._arguments: Mapping[str, Any] | None = None
        self._failures = self._hung = 0
        self._failing_since = 0.0
        self._refused_since: float | None = None
        self._resume = 0.0
        self._gone, self._over = "", threading.Event()
        # Requests under way by what they ask, for all engines of this server.
        self.flights: dict[str, Any] = {}
        self.flying = threading.Lock()

    def landed(self, key: str, flight: Any) -> None:
        """Forget a request that failed, and the oldest of those that did not.

        Who found nothing in DSPy's cache just before an answer came may ask only after it.
        """
        if flight.response is None:
            del self.flights[key]
        over = self._answered()
        for key in over[: max(0, len(over) - RECENT)]:
            del self.flights[key]

    def forget(self) -> None:
        """Let what was answered be asked again."""
        with self.flying:
            for key in self._answered():
                del self.flights[key]

    def _answered(self) -> list[str]:
        return [key for key, flight in self.flights.items() if flight.over.is_set()]

    def connected(self) -> Mapping[str, Any]:
        """Return what every call carries, connecting first if need be; ModelGone if that fails."""
        with self._connecting:
            self.check()
            if self._arguments is None:
                try:
                    self._arguments = self._connect()
                except Exception as error:
                    raise self._end(one_line(error)) from error
            return self._arguments

    def send(self, given: Mapping[str, Any]) -> Any:
        """Make one attempt at a call."""
        completion = self._completion or _litellm()
        return completion(**given, **self.connected(), num_retries=0)

    @contextmanager
    def slot(self, check: Check) -> Iterator[None]:
        """Hold one of the slots, waiting until one is free and the server takes requests."""
        with self._changed:
            while (wait := self._resume - time.monotonic()) > 0 or not self._free:
                self._alive(check)
                self._changed.wait(min(wait, GLANCE) if wait > 0 else GLANCE)
            self._alive(check)
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify()

    def pause(self, failed: int, check: Check) -> None:
        """Wait before another attempt, longer after each failed one, without a slot."""
        until = time.monotonic() + _jittered(min(BACKOFF * 2**failed, LONGEST))
        while (left := until - time.monotonic()) > 0:
            self._alive(check)
            self._over.wait(min(left, GLANCE))

    def check(self) -> None:
        """ModelGone if the model is gone."""
        if self._gone:
            raise ModelGone(self._gone, self._model)

    def answered(self) -> None:
        """Note an answer: what failed before is forgotten."""
        with self._changed:
            self._failures = self._hung = 0
            self._refused_since = None

    def failed(self, error: Exception, seconds: float) -> None:
        """Note a failed attempt that took so long; ModelGone if it was one too many."""
        with self._changed:
            self.check()
            if is_refusal(error):
                self._refused(error)
            elif not isinstance(error, ContextLengthError):  # which is the report's fault
                self._broken(error, seconds)

    def _refused(self, error: Exception) -> None:
        """Let nobody ask before the server's time, or as long again as was waited up to now."""
        now = time.monotonic()
        since = self._refused_since = self._refused_since or now
        hint = getattr(error, "retry_after", None)
        wait = _jittered(hint or min(max(BACKOFF, now - since), LONGEST))
        if now + wait - since > self._timeout:
            waited = f"refused for {now - since:.0f} s, to be asked in {wait:.0f} s again"
            raise self._end(f"{waited}: {one_line(error)}") from error
        self._resume = max(self._resume, now + wait)

    def _broken(self, error: Exception, seconds: float) -> None:
        # A gateway may say at once that what is behind it timed out: that is no hanging.
        hung = isinstance(error, TimeoutError) and seconds >= self._timeout / 2
        now = time.monotonic()
        self._failing_since = self._failing_since if self._failures else now
        self._failures, self._hung = self._failures + 1, self._hung + 1 if hung else 0
        said = one_line(error)
        if self._hung >= HUNG:
            waited = f"no answer within {self._timeout:g} s, {HUNG} times in a row"
            raise self._end(f"{waited}: {said}") from error
        brief = isinstance(error, TRANSIENT) and now - self._failing_since < LASTING * BACKOFF
        if self._failures >= PATIENCE and not brief:
            raise self._end(f"{self._failures} failures in a row, the last: {said}") from error

    def _alive(self, check: Check) -> None:
        self.check()
        check()

    def _end(self, reason: str) -> ModelGone:
        self._gone = reason
        self._over.set()
        return ModelGone(reason, self._model)


def is_refusal(error: Exception) -> bool:
    """Say whether a server is well but wants to be asked later."""
    later = isinstance(error, ServerError) and error.retry_after
    return isinstance(error, RateLimitError) or bool(later)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.25)


def _litellm() -> Completion:
    import litellm

    litellm.suppress_debug_info = True
    completion: Completion = litellm.completion
    return completion
