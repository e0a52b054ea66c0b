"""One model behind LiteLLM: counted, within its budget, retried, and left when it is gone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from dspy.lm15 import Request, Response

from crb_dspy.models.budget import Budget, Phase
from crb_dspy.models.line import GLANCE, TRANSIENT, Line, ModelGone, is_refusal
from crb_dspy.models.meter import Meter
from crb_dspy.models.wire import (
    UNLIMITED,
    arguments,
    dollars_of,
    error_of,
    estimated_tokens,
    price,
    prompt_text,
    response_of,
)

__all__ = ["Engine", "ModelGone", "estimated_tokens"]

# Further attempts at a request after failures that may pass; refusals for the rate don't count.
RETRIES = 3
# Tokens of a chat template, for each message and around them.
TEMPLATE = 16


class Engine:
    """Answers DSPy's requests: `complete(Request) -> Response`, in as many attempts as it takes.

    DSPy must not retry beside it (`num_retries=0`): here every attempt is reserved and counted,
    and every wait ends when the model is gone or the budget spent. Of equal requests at
    temperature 0 that are under way at once, one is sent. Errors are those of `dspy.lm15`.
    `context` is the most tokens that prompt and answer may have together, None if unknown;
    `count(text)` says how many a text has.
    """

    supports_response_schema = True
    context: int | None = None

    def __init__(
        self,
        line: Line,
        meter: Meter,
        budget: Budget | None = None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self.line, self.budget = line, budget or Budget()
        self.count = count or estimated_tokens
        self._meter = meter

    def complete(self, request: Request, retries: int = RETRIES) -> Response:
        """Answer a request; ModelGone, BudgetSpent, or the error of the last attempt."""
        phase = self.budget.phase
        if request.config.temperature:
            return self._answered(request, phase, retries)
        # A digest, since reports are not to be kept.
        key = sha256(json.dumps(arguments(request), sort_keys=True).encode()).hexdigest()
        with self.line.flying:
            flight: _Flight | None = self.line.flights.get(key)
            if first := flight is None:
                flight = self.line.flights[key] = _Flight()
        if not first:
            return self._joined(flight, phase) or self._answered(request, phase, retries)
        try:
            flight.response = self._answered(request, phase, retries)
            return flight.response
        finally:
            flight.over.set()
            with self.line.flying:
                self.line.landed(key, flight)

    def _joined(self, flight: _Flight, phase: Phase) -> Response | None:
        """Wait for the answer to an equal request, None if it failed."""
        while not flight.over.wait(GLANCE):
            self.line.check()
            self.budget.check(phase)
        return flight.response

    def _answered(self, request: Request, phase: Phase, retries: int) -> Response:
        failed = 0
        while True:
            try:
                return self._attempt(request, phase)
            except TRANSIENT as error:
                if is_refusal(error):  # the line lets nobody ask before its time
                    continue
                if failed >= retries:
                    raise
            self.line.pause(failed, partial(self.budget.check, phase))
            failed += 1

    def _attempt(self, request: Request, phase: Phase) -> Response:
        with self.line.slot(partial(self.budget.check, phase)):
            connected = self.line.connected()
            reservation = self.budget.reserve(*self._most(request, connected), phase)
            tokens, dollars, started = 0, 0.0, time.perf_counter()
            try:
                self.line.check()
                # Other APIs and local servers keep prefixes by themselves.
                marked = "claude" in connected["model"]
                reply = self.line.send(arguments(request, marked=marked))
                response = response_of(reply, request.model)
                dollars = dollars_of(reply)
                tokens = self._count(response, dollars, time.perf_counter() - started)
            except Exception as error:
                seconds = time.perf_counter() - started
                self._meter.add(failures=1)
                known = error_of(error, request.model, connected.get("api_key"))
                self.line.failed(known, seconds)
                if known is error:
                    raise
                raise known from error
            finally:
                self.budget.settle(reservation, tokens, dollars)
            self.line.answered()
            return response

    def _most(self, request: Request, connected: Mapping[str, Any]) -> tuple[int, float]:
        """Return the most tokens and dollars that a call can take, 0 where nothing caps them."""
        caps = self.budget.caps
        if caps.tokens is None and caps.usd is None:
            return 0, 0.0
        prompt = self._counted(prompt_text(request)) + TEMPLATE * (len(request.messages) + 2)
        free = max(1, self.context - prompt) if self.context else UNLIMITED
        answer = request.config.max_tokens or free
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


class _Flight:
    """A request that is under way, for those who ask the same meanwhile."""

    def __init__(self) -> None:
        self.over, self.response = threading.Event(), None  # type: threading.Event, Response | None
