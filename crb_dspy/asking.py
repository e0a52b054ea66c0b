"""Parts over any number of cases: one pool, a bounded window, readings in order."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from crb_dspy.program import Part, Reading

# What parts are asked about: a case, or a report that may not have become one.
Item = TypeVar("Item")
# Items, for each call that may be under way, that may be held while an earlier one is waited for.
AHEAD = 4
# One for the whole process, whose threads come as they are needed: each opens the files of
# DSPy's cache anew and never closes them. Nothing waits in it: only what may run is submitted.
_POOL = ThreadPoolExecutor(512, thread_name_prefix="ask")


def in_order(
    parts: Sequence[Part],
    items: Iterable[Item],
    *,
    ask: Callable[[Part, Item], Reading],
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Item, list[Reading]]]:
    """Yield each item with what each part made of it, in the order of the items.

    At most `threads` calls of `ask` are under way. The first part of an item is asked alone, the
    others when it is back, so that its report is computed once and kept. What a call leaves free
    goes to the same item before the next, and to other items' calls only when none is left: a
    server with a slot for each call has the report in that slot. Items are taken as calls come
    free, so that their number is of no account for memory. An error of `ask` is raised.
    """
    window = _Window(parts, iter(items), ask, threads, progress)
    while True:
        window.start()
        if window.running:
            window.collect()
        yield from window.finished()
        if window.over:
            return


@dataclass
class _Window(Generic[Item]):
    parts: Sequence[Part]
    source: Iterator[Item]
    ask: Callable[[Part, Item], Reading]
    threads: int
    progress: Callable[[], None]
    # The items from the one that is waited for on, and their readings by part.
    held: dict[int, tuple[Item, dict[int, Reading]]] = field(default_factory=dict)
    # The parts that may be asked, by item.
    ready: dict[int, list[int]] = field(default_factory=dict)
    running: dict[Future[Reading], tuple[int, int]] = field(default_factory=dict)
    # The items whose calls came back last, one for each call that is free since.
    idle: list[int] = field(default_factory=list)
    taken: int = 0
    turn: int = 0
    exhausted: bool = False

    @property
    def over(self) -> bool:
        """Whether every item was taken and yielded."""
        return self.exhausted and not self.held

    def start(self) -> None:
        """Ask until no call is free, nothing is left, or the window is full."""
        while len(self.running) < self.threads:
            number = self._next()
            if number is None:
                return
            part = self.ready[number].pop(0)
            if not self.ready[number]:
                del self.ready[number]
            item = self.held[number][0]
            # DSPy keeps its settings in context variables: a bare thread has the wrong model.
            context = contextvars.copy_context()
            future = _POOL.submit(context.run, self.ask, self.parts[part], item)
            self.running[future] = number, part

    def collect(self) -> None:
        """Wait for an answer, and make ready what waited for it."""
        for future in wait(self.running, return_when=FIRST_COMPLETED).done:
            number, part = self.running.pop(future)
            self.held[number][1][part] = future.result()
            self.progress()
            self.idle.append(number)
            if part == 0 and len(self.parts) > 1:
                self.ready[number] = list(range(1, len(self.parts)))

    def finished(self) -> Iterator[tuple[Item, list[Reading]]]:
        """Yield the items whose turn it is and let go of them."""
        while self.turn in self.held and len(self.held[self.turn][1]) == len(self.parts):
            item, readings = self.held.pop(self.turn)
            self.turn += 1
            yield item, [readings[part] for part in range(len(self.parts))]

    def _next(self) -> int | None:
        """Return the item to ask about: the one that just came back, a new one, the earliest."""
        while self.idle:
            if (last := self.idle.pop()) in self.ready:
                return last
        new = self._take()
        return min(self.ready, default=None) if new is None else new

    def _take(self) -> int | None:
        """Take the next item, unless there is none or too many are held."""
        while len(self.held) < AHEAD * self.threads:
            try:
                item = next(self.source)
            except StopIteration:
                self.exhausted = True
                return None
            number, self.taken = self.taken, self.taken + 1
            self.held[number] = item, {}
            if self.parts:
                self.ready[number] = [0]
                return number
        return None
