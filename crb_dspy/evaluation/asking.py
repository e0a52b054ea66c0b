"""Programs over any number of cases: one pool, a bounded window, readings in order."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Generic, TypeVar

from crb_dspy.data.cases import Case
from crb_dspy.evaluation.rows import DEFAULT, UNASKED, Row, row_of
from crb_dspy.models.budget import BudgetSpent
from crb_dspy.program import ExtractionProgram, Part, Reading, attempt
from crb_dspy.scoring.objectives import Objective

# What parts are asked about: a case, or a report that may not have become one.
Item = TypeVar("Item")
# Items, for each call that may be under way, that may be held while an earlier one is waited for.
AHEAD = 4
# One for the whole process, whose threads come as they are needed: each opens the files of
# DSPy's cache anew and never closes them. Nothing waits in it: only what may run is submitted.
_POOL = ThreadPoolExecutor(512, thread_name_prefix="ask")


def evaluate(
    program: ExtractionProgram,
    cases: Sequence[Case],
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
    objective: Objective = DEFAULT,
) -> list[Row]:
    """Return a row for every category of every case, in their order.

    Makes one attempt a part and case, with at most `threads` under way. When the budget is
    spent, the cells that are left have an error that begins with `UNASKED`.
    """
    parts = list(program.parts.values())
    readings = readings_of(parts, cases, threads=threads, progress=progress, ask=_within_budget)
    return rows_of(program, cases, readings, objective)


def rows_of(
    program: ExtractionProgram,
    cases: Sequence[Case],
    readings: Sequence[Sequence[Reading]],
    objective: Objective = DEFAULT,
) -> list[Row]:
    """Return a row for every category of every case out of what each part made of it."""
    parts, rows = list(program.parts.values()), []
    for case, answers in zip(cases, readings, strict=True):
        pairs = zip(parts, answers, strict=True)
        found = {key: reading for part, reading in pairs for key in part.keys}
        kinds = program.kinds
        rows += [row_of(case, key, found[key], objective, kinds[key]) for key in program.keys]
    return rows


def readings_of(
    parts: Sequence[Part],
    cases: Sequence[Case],
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
    ask: Callable[[Part, Case], Reading] = attempt,
) -> list[list[Reading]]:
    """Return what each part made of each case: a list of readings a case.

    Gold is taken off a case before a part sees it.
    """
    bare = [replace(case, gold=None) for case in cases]
    answered = in_order(parts, bare, ask=ask, threads=threads, progress=progress)
    return [readings for _, readings in answered]


def _within_budget(part: Part, case: Case) -> Reading:
    try:
        return attempt(part, case)
    except BudgetSpent as error:
        nothing: dict[str, list[str]] = {key: [] for key in part.keys}
        return Reading(nothing, error=f"{UNASKED}{error}")


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
    try:
        while not window.over:
            window.start()
            yield from window.finished()
    finally:
        window.stop()


@dataclass
class _Window(Generic[Item]):
    """Calls take what is next by themselves: waking another thread for each would take longer.

    What they share is changed under `lock` alone.
    """

    parts: Sequence[Part]
    source: Iterator[Item]
    ask: Callable[[Part, Item], Reading]
    threads: int
    progress: Callable[[], None]
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Something for whoever waits to look at: an item is complete, or no call is under way.
    news: SimpleQueue[None] = field(default_factory=SimpleQueue)
    # The items from the one that is waited for on, and their readings by part.
    held: dict[int, tuple[Item, dict[int, Reading]]] = field(default_factory=dict)
    # The parts that may be asked, by item.
    ready: dict[int, list[int]] = field(default_factory=dict)
    running: int = 0
    taken: int = 0
    turn: int = 0
    exhausted: bool = False
    failure: BaseException | None = None
    stopped: bool = False
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    @property
    def over(self) -> bool:
        """Whether every item was taken and yielded."""
        return self.exhausted and not self.held

    def stop(self) -> None:
        """Start no further call."""
        self.stopped = True

    def start(self) -> None:
        """Ask until no call is free, nothing is left, or the window is full."""
        # DSPy keeps its settings in context variables: a bare thread has the wrong model.
        self.context = contextvars.copy_context()
        with self.lock:
            self._start()

    def finished(self) -> Iterator[tuple[Item, list[Reading]]]:
        """Wait for news and yield the items whose turn it is; raise what a call raised."""
        if self.running or self.failure:
            self.news.get()
        if self.failure:
            raise self.failure
        while complete := self._complete():
            yield complete

    def _complete(self) -> tuple[Item, list[Reading]] | None:
        with self.lock:
            if self.turn not in self.held or len(self.held[self.turn][1]) < len(self.parts):
                return None
            item, readings = self.held.pop(self.turn)
            self.turn += 1
            return item, [readings[part] for part in range(len(self.parts))]

    def _start(self) -> None:
        while self.running < self.threads and (task := self._next(None)):
            self.running += 1
            _POOL.submit(self._work, task)

    def _work(self, task: tuple[int, int] | None) -> None:
        """Ask, and go on with what is next, until there is nothing."""
        try:
            while task:
                number, part = task
                item = self.held[number][0]
                reading = self.context.copy().run(self.ask, self.parts[part], item)
                task = self._answered(number, part, reading)
        except BaseException as error:  # noqa: BLE001  raised by whoever waits
            with self.lock:
                self.failure, self.stopped = self.failure or error, True
                self.running -= 1
            self.news.put(None)

    def _answered(self, number: int, part: int, reading: Reading) -> tuple[int, int] | None:
        """Note an answer; return what its call asks next."""
        with self.lock:
            readings = self.held[number][1]
            readings[part] = reading
            self.progress()
            if part == 0 and len(self.parts) > 1:
                self.ready[number] = list(range(1, len(self.parts)))
            task = self._next(number)
            if task:
                self._start()
            else:
                self.running -= 1
            if len(readings) == len(self.parts) or not self.running:
                self.news.put(None)
            return task

    def _next(self, last: int | None) -> tuple[int, int] | None:
        """Return item and part to ask: of the item that just came back, a new one, the earliest."""
        if self.stopped:
            return None
        number = last if last in self.ready else self._take()
        if number is None and (number := min(self.ready, default=None)) is None:
            return None
        part = self.ready[number].pop(0)
        if not self.ready[number]:
            del self.ready[number]
        return number, part

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
