"""Whose call it was: what is asked inside a `with` is counted for it, in all threads it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Tally:
    """Requests and their tokens, sent and generated, whether a model or its cache answered."""

    def __init__(self) -> None:
        self.calls = self.tokens = 0
        self._lock = threading.Lock()

    def add(self, tokens: int) -> None:
        """Count one request."""
        with self._lock:
            self.calls += 1
            self.tokens += tokens


_CURRENT: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def tallied() -> Iterator[Tally]:
    """Count the requests made inside; threads must be given a copy of the context."""
    tally = Tally()
    token = _CURRENT.set(tally)
    try:
        yield tally
    finally:
        _CURRENT.reset(token)


def count(tokens: int) -> None:
    """Count one request for whoever asked, if anyone counts."""
    if tally := _CURRENT.get():
        tally.add(tokens)
