"""Parts over any number of reports: one pool, a bounded window, results in order."""

from __future__ import annotations

import contextvars
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from crb_dspy.program import Part, Reading, attempt
from crb_dspy.readers import Report

# Reports, for each call that may be under way, that may be held while an earlier one is waited for.
AHEAD = 4
Answered = tuple[Report, list[Reading]]


def stream(
    parts: Sequence[Part],
    reports: Iterable[Report],
    *,
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[Answered]:
    """Yield each report with what each part made of it, in the order of the reports.

    Reports are taken as calls come free, so that their number is of no account for memory. The
    first part is asked alone, the others when it is back, as `evaluation.read` does. A report
    that could not be read is not asked about.
    """
    window = _Window(parts, iter(reports), threads, progress)
    # One pool to the end: every thread that DSPy's cache has seen holds files open.
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            window.start(pool)
            if window.running:
                window.collect()
            yield from window.finished()
            if window.over:
                return
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Window:
    parts: Sequence[Part]
    source: Iterator[Report]
    threads: int
    progress: Callable[[], None]
    # The reports from the one that is waited for on, and their readings by part.
    held: dict[int, tuple[Report, dict[int, Reading]]] = field(default_factory=dict)
    ready: list[tuple[int, int]] = field(default_factory=list)
    running: dict[Future[Reading], tuple[int, int]] = field(default_factory=dict)
    taken: int = 0
    turn: int = 0
    exhausted: bool = False

    @property
    def over(self) -> bool:
        """Whether every report was taken and yielded."""
        return self.exhausted and not self.held

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Ask, earlier reports first, until no call is free or the window is full."""
        while len(self.running) < self.threads and (self.ready or self._take()):
            if not self.ready:
                continue
            number, part = heapq.heappop(self.ready)
            case = self.held[number][0].case
            # DSPy keeps its settings in context variables: a bare thread has the wrong model.
            context = contextvars.copy_context()
            self.running[pool.submit(context.run, attempt, self.parts[part], case)] = number, part

    def collect(self) -> None:
        """Wait for an answer, and make ready what waited for it."""
        for future in wait(self.running, return_when=FIRST_COMPLETED).done:
            number, part = self.running.pop(future)
            self._keep(number, part, future.result())
            if part == 0:
                for other in range(1, len(self.parts)):
                    heapq.heappush(self.ready, (number, other))

    def finished(self) -> Iterator[Answered]:
        """Yield the reports whose turn it is and let go of them."""
        while self.turn in self.held and len(self.held[self.turn][1]) == len(self.parts):
            report, readings = self.held.pop(self.turn)
            self.turn += 1
            yield report, [readings[part] for part in range(len(self.parts))]

    def _take(self) -> bool:
        """Take the next report, unless there is none or too many are held."""
        if len(self.held) >= AHEAD * self.threads:
            return False
        report = next(self.source, None)
        if report is None:
            self.exhausted = True
            return False
        number, self.taken = self.taken, self.taken + 1
        self.held[number] = report, {}
        if report.error:
            for part in range(len(self.parts)):
                self._keep(number, part, Reading({}, error=report.error))
        else:
            heapq.heappush(self.ready, (number, 0))
        return True

    def _keep(self, number: int, part: int, reading: Reading) -> None:
        self.held[number][1][part] = reading
        self.progress()
