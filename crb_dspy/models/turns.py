"""The slots of a server and who has the next: questions about one report follow each other."""

from __future__ import annotations

import threading
from collections import Counter, deque


class Turn(threading.Event):
    """A place in the queue, set once a slot is held; `about` tells the report it is wanted for."""

    def __init__(self, about: str) -> None:
        super().__init__()
        self.about = about


class Turns:
    """Gives `free` slots away, one a turn.

    A slot that comes free goes to who asks about the same report, else about the first that nobody
    asks about now, else about the one that was waited for first: a server that keeps the last
    prompt of each of its slots then computes a report once, also where the parts of a program are
    searched side by side and each goes through the reports on its own.
    """

    def __init__(self, free: int) -> None:
        self._free, self._lock = free, threading.Lock()
        # Reports in the order in which they were first waited for.
        self._waiting: dict[str, deque[Turn]] = {}
        self._under_way: Counter[str] = Counter()

    def take(self, about: str) -> Turn:
        """Hold a slot, or queue for one."""
        turn = Turn(about)
        with self._lock:
            if self._free:
                self._free -= 1
                self._begin(turn)
            else:
                self._waiting.setdefault(about, deque()).append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Pass the slot on, or leave the queue."""
        with self._lock:
            if not turn.is_set():
                self._waiting[turn.about].remove(turn)
                self._tidy(turn.about)
                return
            self._under_way[turn.about] -= 1
            if not self._under_way[turn.about]:
                del self._under_way[turn.about]
            if not self._waiting:
                self._free += 1
                return
            about = self._next(turn.about)
            self._begin(self._waiting[about].popleft())
            self._tidy(about)

    def _begin(self, turn: Turn) -> None:
        self._under_way[turn.about] += 1
        turn.set()

    def _next(self, last: str) -> str:
        if last in self._waiting:
            return last
        first = next(iter(self._waiting))
        return next((about for about in self._waiting if about not in self._under_way), first)

    def _tidy(self, about: str) -> None:
        if not self._waiting[about]:
            del self._waiting[about]
