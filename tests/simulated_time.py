"""Threads in simulated time: one runs at a time, and the clock moves when all of them sleep."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable


class Clock:
    """Seconds that pass only while every thread of `run` sleeps, so that each run is the same."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock, self._order = threading.Lock(), itertools.count()
        self._asleep: list[tuple[float, int, threading.Event]] = []
        self._awake = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the others run until so many seconds have passed."""
        event = threading.Event()
        with self._lock:
            heapq.heappush(self._asleep, (self.now + seconds, next(self._order), event))
            self._rested()
        event.wait()

    def run(self, work: Callable[[], None], threads: int) -> None:
        """Let so many threads do this work, until all are done."""

        def one(number: int) -> None:
            self.sleep(number * 1e-6)
            work()
            with self._lock:
                self._rested()

        self._awake = threads
        started = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(60)
            assert not thread.is_alive()

    def _rested(self) -> None:
        self._awake -= 1
        if not self._awake and self._asleep:
            self.now, _, event = heapq.heappop(self._asleep)
            self._awake += 1
            event.set()
