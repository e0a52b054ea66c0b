"""One server as its clients see it: address, free slots, and whether it still answers."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dspy.lm15 import (
    ProviderError,
    RateLimitError,
    ServerError,
    TimeoutError,
    TransportError,
)

from crb_dspy.errors import one_line
from crb_dspy.models import faults, http
from crb_dspy.models.direct import Direct, reaches
from crb_dspy.models.fleet import Fleet
from crb_dspy.models.learnt import Learnt
from crb_dspy.models.turns import Turns

# Failures in a row, over all threads, after which it is asked whether a model is gone.
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


class Unanswered(ProviderError):  # type: ignore[misc]
    """A batch that was sent has no answer to a request: says nothing of the model."""


class Server:
    """What all who ask one server share; once the model is gone, every use raises ModelGone.

    `connect` returns the arguments that every LiteLLM call carries (model, api_base, api_key);
    it runs at the first call, so that a run that is answered from its cache starts no server.
    `timeout` in seconds ends an attempt, by what `connect` returns, and the wait for a server
    that does nothing but refuse. `model` is the name that ModelGone carries. `beside` are the
    addresses of further servers of the same model.
    """

    def __init__(
        self,
        connect: Callable[[], Mapping[str, Any]],
        threads: int = 1,
        timeout: float = 600.0,
        completion: Completion | None = None,
        model: str = "",
        beside: Sequence[str] = (),
    ) -> None:
        self._beside = beside
        self._connect, self._turns, self._timeout = connect, Turns(threads), timeout
        self._completion, self._model = completion, model
        self._changing, self._connecting = threading.Lock(), threading.Lock()
        self._arguments: Mapping[str, Any] | None = None
        self._failures = self._hung = 0
        self._failing_since = 0.0
        self._refused_since: float | None = None
        self._resume = 0.0
        self._gone, self._over = "", threading.Event()
        self.learnt = Learnt()
        # What the requests that failed in a row were about; what failed though the server is well.
        self._failing: set[str] = set()
        self._blamed: set[str] = set()
        self.doubting = threading.Lock()
        # Requests under way by what they ask, for all engines of this server.
        self.flights: dict[str, Any] = {}
        self._landed: deque[str] = deque()
        self.flying = threading.Lock()

    def landed(self, key: str, flight: Any) -> None:
        """Forget a request that failed, and the oldest of those that did not.

        Who found nothing in DSPy's cache just before an answer came may ask only after it.
        """
        if flight.response is None:
            del self.flights[key]
            return
        self._landed.append(key)
        while len(self._landed) > RECENT:
            del self.flights[self._landed.popleft()]

    def forget(self) -> None:
        """Let what was answered be asked again."""
        with self.flying:
            while self._landed:
                del self.flights[self._landed.popleft()]

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
        """Make one attempt at a call; TimeoutError when its time is over, though bytes trickle in.

        What LiteLLM can't read is returned as the server sent it, as long as it is JSON.
        """
        connected = self.connected()
        if self._completion is None:
            self._completion = self._path(connected)
        return self._completion(**{**connected, **given}, num_retries=0)

    def answer_by(self, completion: Completion) -> None:
        """Let calls be made in another way from now on."""
        self._completion = completion

    def _path(self, connected: Mapping[str, Any]) -> Completion:
        """Return how calls are made: directly where that can be, to several servers or one."""
        if not reaches(connected):
            return http.patient(litellm_completion(), connected)
        if self._beside:
            return Fleet(connected, [connected["api_base"], *self._beside])
        return Direct(connected)

    @contextmanager
    def slot(self, check: Check, about: str) -> Iterator[None]:
        """Hold one of the slots, waiting until one is free and the server takes requests.

        `about` tells the report that is asked about: who waits has its turn by that (`Turns`).
        """
        turn = self._turns.take(about)
        try:
            while not turn.wait(GLANCE):
                self._alive(check)
            # Nobody begins while something tiny tells whether the model is there at all.
            while (wait := self._resume - time.monotonic()) > 0 or self.doubting.locked():
                self._alive(check)
                self._over.wait(min(wait, GLANCE) if wait > 0 else GLANCE)
            self._alive(check)
            yield
        finally:
            self._turns.leave(turn)

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
        with self._changing:
            self._failures = self._hung = 0
            self._failing.clear()
            self._refused_since = None

    def failed(self, error: Exception, seconds: float, about: str = "") -> str:
        """Note a failed attempt that took so long, and what it was about.

        Returns why the model may be gone, if it was one too many; whoever is told asks something
        tiny, and says `gone` or `spared`. ModelGone if the server did nothing but refuse.
        """
        with self._changing:
            self.check()
            if isinstance(error, Unanswered):
                return ""
            if is_refusal(error):
                self._refused(error)
            elif not faults.is_requests_own(error):
                self._failing.add(about)
                return self._broken(error, seconds)
        return ""

    def gone(self, reason: str) -> ModelGone:
        """Give the model up: what is returned is raised by all who ask from now on."""
        with self._changing:
            return self._end(reason)

    def spared(self) -> None:
        """Note that the model is well: what failed is to blame on what was asked."""
        with self._changing:
            self._blamed |= self._failing
            self._failing.clear()
            self._failures = self._hung = 0

    def blames(self, about: str) -> bool:
        """Say whether requests about this failed while the model was well."""
        return about in self._blamed

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

    def _broken(self, error: Exception, seconds: float) -> str:
        # A gateway may say at once that what is behind it timed out: that is no hanging.
        hung = isinstance(error, TimeoutError) and seconds >= self._timeout / 2
        now = time.monotonic()
        self._failing_since = self._failing_since if self._failures else now
        self._failures, self._hung = self._failures + 1, self._hung + 1 if hung else 0
        said = one_line(error)
        if self._hung >= HUNG:
            return f"no answer within {self._timeout:g} s, {self._hung} times in a row: {said}"
        brief = isinstance(error, TRANSIENT) and now - self._failing_since < LASTING * BACKOFF
        if self._failures >= PATIENCE and not brief:
            return f"{self._failures} failures in a row, the last: {said}"
        return ""

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


def litellm_completion() -> Completion:
    """Return LiteLLM's way of asking, which says nothing of its own."""
    import litellm

    litellm.suppress_debug_info = True
    completion: Completion = litellm.completion
    return completion
