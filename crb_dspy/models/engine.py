"""One model behind LiteLLM: counted, within its budget, retried, and left when it is gone.

A request that a server refuses for its form is asked again in another one (`models/lacks.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

from dspy.lm15 import Config, Message, Request, Response

from crb_dspy.models import faults, lacks
from crb_dspy.models.budget import Budget, Phase
from crb_dspy.models.meter import Meter
from crb_dspy.models.prices import price
from crb_dspy.models.server import GLANCE, TRANSIENT, ModelGone, Server, is_refusal
from crb_dspy.models.wire import (
    UNLIMITED,
    arguments,
    counted,
    dollars_of,
    encoded,
    error_of,
    estimated_tokens,
    prompt_text,
    response_of,
)

__all__ = ["Engine", "ModelGone", "estimated_tokens"]

# Further attempts at a request after failures that may pass; refusals for the rate don't count.
RETRIES = 3
# Tokens of a chat template, for each message and around them.
TEMPLATE = 16
# Asked where too much fails: who answers this is there.
TINY = Request(
    model="tiny",
    messages=(Message.user('Answer with JSON only: {"answer": ["yes"]}'),),
    config=Config(max_tokens=16),
)


class Engine:
    """Answers DSPy's requests: `complete(Request) -> Response`, in as many attempts as it takes.

    DSPy must not retry beside it (`num_retries=0`): here every attempt is reserved and counted,
    and every wait ends when the model is gone or the budget spent. Of equal requests at
    temperature 0 that are under way at once, one is sent. Errors are those of `dspy.lm15`.
    `context` is the most tokens that prompt and answer may have together, None if unknown;
    `count(text)` says how many a text has. `room` is the least number of tokens that an answer may
    take, for models that think first.
    """

    supports_response_schema = True
    context: int | None = None
    room = 0

    def __init__(
        self,
        server: Server,
        meter: Meter,
        budget: Budget | None = None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self.server, self.budget = server, budget or Budget()
        self.count = count or estimated_tokens
        self._meter = meter

    def known(self) -> dict[str, Any]:
        """Return how the server is asked, for another engine that asks it (`know`)."""
        learnt = self.server.learnt
        lacking, taken = dict(learnt.lacking), sorted(learnt.taken)
        return {"structured": self.supports_response_schema, "lacking": lacking, "taken": taken}

    def know(self, then: Mapping[str, Any]) -> None:
        """Ask as was found out before; KeyError and its like for what is not `known`."""
        learnt = self.server.learnt
        self.supports_response_schema = then["structured"]
        learnt.lacks(then.get("lacking", {}))
        # Else a report that is refused would be asked about in other forms than before.
        learnt.taken |= {*then.get("taken", ())} - {*learnt.lacking}

    def complete(self, request: Request, retries: int = RETRIES) -> Response:
        """Answer a request; ModelGone, BudgetSpent, or the error of the last attempt."""
        phase = self.budget.phase
        if request.config.temperature:
            return self._answered(request, phase, retries)
        # A digest, since reports are not to be kept.
        key = sha256(encoded(arguments(request))).hexdigest()
        with self.server.flying:
            flight: _Flight | None = self.server.flights.get(key)
            if first := flight is None:
                flight = self.server.flights[key] = _Flight()
        if not first:
            return self._joined(flight, phase) or self._answered(request, phase, retries)
        try:
            flight.response = self._answered(request, phase, retries)
            return flight.response
        finally:
            flight.over.set()
            with self.server.flying:
                self.server.landed(key, flight)

    def _joined(self, flight: _Flight, phase: Phase) -> Response | None:
        """Wait for the answer to an equal request, None if it failed."""
        while not flight.over.wait(GLANCE):
            self.server.check()
            self.budget.check(phase)
        return flight.response

    def _answered(self, request: Request, phase: Phase, retries: int) -> Response:
        failed = 0
        while True:
            known = len(self.server.learnt.lacking)
            try:
                return self._attempt(request, phase)
            except Exception as error:
                if faults.is_refused_form(error):
                    if len(self.server.learnt.lacking) > known:  # by another thread meanwhile
                        continue
                    return self._reshaped(request, phase, error)
                if is_refusal(error):  # the server lets nobody ask before its time
                    continue
                hopeless = failed >= retries or self.server.blames(_about(request))
                if not isinstance(error, TRANSIENT) or hopeless:
                    raise
            self.server.pause(failed, partial(self.budget.check, phase))
            failed += 1

    def _reshaped(self, request: Request, phase: Phase, refused: Exception) -> Response:
        """Ask again without what the server may not take, and learn what it was."""
        ask = partial(self._attempt, request, phase)
        return self.server.learnt.reshaped(self.given(request), refused, ask)

    def given(self, request: Request, left: Sequence[str] = ()) -> dict[str, Any]:
        """Return the arguments of a call, without what the server can't take."""
        connected = self.server.connected()
        # Other APIs and local servers keep prefixes by themselves.
        given = arguments(request, marked="claude" in connected["model"])
        if self.room and "max_tokens" in given:
            given["max_tokens"] = max(given["max_tokens"], self.room)
        if extra := connected.get("extra_body"):
            given["extra_body"] = dict(extra)
        return lacks.without(given, (*self.server.learnt.lacking, *left))

    def _attempt(self, request: Request, phase: Phase, left: Sequence[str] = ()) -> Response:
        with self.server.slot(partial(self.budget.check, phase), _about(request)):
            try:
                response = self._sent(request, phase, left)
            except Exception as error:
                if reason := getattr(error, "doubt", ""):
                    self._doubt(reason, phase)
                raise
            self.server.answered()
            return response

    def _doubt(self, reason: str, phase: Phase) -> None:
        """Ask something tiny, since too much fails: ModelGone if that fails too."""
        if not self.server.doubting.acquire(blocking=False):
            return  # somebody asks already
        try:
            self._sent(TINY, phase, doubted=True)
        except Exception as error:
            if is_refusal(error):
                return
            raise self.server.gone(reason) from error
        finally:
            self.server.doubting.release()
        self.server.spared()

    def _sent(
        self, request: Request, phase: Phase, left: Sequence[str] = (), *, doubted: bool = False
    ) -> Response:
        """Make one attempt, reserved and counted; an error has a `doubt` if it was one too many."""
        connected = self.server.connected()
        reservation = self.budget.reserve(*self._most(request, connected), phase)
        tokens, dollars, started = 0, 0.0, time.perf_counter()
        try:
            self.server.check()
            given = self.given(request, left)
            reply = self.server.send(given)
            response = response_of(reply, request.model)
            prompt = prompt_text(request)
            shown = sum(len(message.text or "") for message in request.messages)
            self.server.learnt.read(shown, response.usage.input_tokens)
            response, estimated = counted(response, prompt, self._counted)
            self.server.learnt.answered(given, estimated=estimated)
            dollars = dollars_of(reply)
            tokens = self._count(response, dollars, time.perf_counter() - started)
        except Exception as error:
            seconds = time.perf_counter() - started
            self._meter.add(failures=1)
            known = error_of(error, request.model, connected.get("api_key"), self.context)
            known = faults.through(known, str(connected.get("api_base") or ""))
            if not doubted:
                reason = self.server.failed(known, seconds, _about(request))
                known.doubt = reason  # type: ignore[attr-defined]
            if known is error:
                raise
            raise known from error
        finally:
            self.budget.settle(reservation, tokens, dollars)
        return response

    def _most(self, request: Request, connected: Mapping[str, Any]) -> tuple[int, float]:
        """Return the most tokens and dollars that a call can take, 0 where nothing caps them."""
        caps = self.budget.caps
        if caps.tokens is None and caps.usd is None:
            return 0, 0.0
        prompt = self._counted(prompt_text(request)) + TEMPLATE * (len(request.messages) + 2)
        free = max(1, self.context - prompt) if self.context else UNLIMITED
        answer = max(request.config.max_tokens, self.room) if request.config.max_tokens else free
        usd = price(connected["model"], prompt, answer) if caps.usd is not None else 0.0
        return prompt + answer, usd

    def _counted(self, text: str) -> int:
        import httpx

        try:
            return self.count(text)
        except httpx.HTTPError:  # if the server is down, the call itself will tell
            return estimated_tokens(text)

    def _count(self, response: Response, dollars: float, seconds: float) -> int:
        """Enter an answered call in the meter and return its tokens."""
        usage = response.usage
        sent, written = usage.input_tokens or 0, usage.output_tokens or 0
        self._meter.add(
            calls=1,
            prompt_tokens=sent,
            computed_tokens=sent - (usage.cache_read_tokens or 0),
            completion_tokens=written,
            usd=dollars,
            seconds=seconds,
        )
        return sent + written


def _about(request: Request) -> str:
    """Return what tells the report that a request is about: its first half, which all parts share.

    A digest, since reports are not to be kept.
    """
    first = request.messages[-1].parts[0]
    return sha256(str(getattr(first, "text", "")).encode("utf-8", "replace")).hexdigest()


class _Flight:
    """A request that is under way, for those who ask the same meanwhile."""

    def __init__(self) -> None:
        self.over, self.response = threading.Event(), None  # type: threading.Event, Response | None
