"""Servers of different speed share the work by it, also where one dies and is back."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from dspy.lm15 import TransportError

from crb_dspy.models.fleet import Fleet
from tests.simulated_time import Clock

REPORTS, QUESTIONS = 500, 14
DIES, BACK = 40.0, 50.0


@dataclass
class Host:
    """A server that takes `seconds` for a call, with so many places; dead for a while, perhaps."""

    clock: Clock
    seconds: float
    places: int
    dies: float = float("inf")
    back: float = float("inf")
    free: list[float] = field(default_factory=list)
    # When it answered what: the number of a report.
    answered: list[tuple[float, int]] = field(default_factory=list)

    def ask(self, report: int) -> str:
        if self.dies <= self.clock.now < self.back:
            raise TransportError("refused")
        busy = sorted(until for until in self.free if until > self.clock.now)[-self.places :]
        begins = busy[0] if len(busy) == self.places else self.clock.now
        self.free = [*busy, begins + self.seconds]
        self.clock.sleep(begins + self.seconds - self.clock.now)
        if self.dies <= self.clock.now < self.back:
            raise TransportError("cut off")
        self.answered.append((self.clock.now, report))
        return "[]"

    def rate(self, since: float, until: float) -> float:
        """Calls a second that it answered meanwhile."""
        return sum(since <= at < until for at, _ in self.answered) / (until - since)


def shared(fast: Host, slow: Host, clock: Clock, threads: int) -> set[tuple[int, int]]:
    """Ask about all reports, one after the other in each thread; return what was answered."""
    hosts = {"http://fast": fast, "http://slow": slow}

    def asking(connected: Mapping[str, Any]) -> Callable[..., str]:
        host = hosts[connected["api_base"]]
        return lambda messages: host.ask(int(messages[-1]["content"].split()[1]))

    fleet = Fleet({}, list(hosts), clock, asking)
    reports, done = itertools.count(), set[tuple[int, int]]()

    def work() -> None:
        while (report := next(reports)) < REPORTS:
            for question in range(QUESTIONS):
                text = f"<report> {report} </report>\nTask: {question}"
                fleet(messages=[{"role": "user", "content": text}])
                done.add((report, question))

    clock.run(work, threads)
    return done


@pytest.mark.parametrize(("places", "threads"), [(4, 16), (1000, 8)])
def test_calls_are_shared_by_speed_and_a_server_that_dies_loses_none(
    places: int, threads: int
) -> None:
    clock = Clock()
    fast = Host(clock, 0.1, places)
    slow = Host(clock, 0.25, places, DIES, BACK)
    done = shared(fast, slow, clock, threads)
    assert done == {(r, q) for r in range(REPORTS) for q in range(QUESTIONS)}
    again = min(at for at, _ in slow.answered if at > BACK)
    end = min(fast.answered[-1][0], slow.answered[-1][0])
    assert end - again > 20
    for since, until in ((0.0, DIES), (again, end)):
        ratio = fast.rate(since, until) / slow.rate(since, until)
        assert ratio == pytest.approx(fast.seconds**-1 / slow.seconds**-1, rel=0.1)
    homes = defaultdict[int, set[str]](set)
    for name, host in (("fast", fast), ("slow", slow)):
        for _, report in host.answered:
            homes[report].add(name)
    moved = [report for report, home in homes.items() if len(home) > 1]
    # Those that were under way at the server that died, and the one that tried it again.
    assert 0 < len(moved) <= threads // 2 + 1
