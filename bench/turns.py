"""What turns by report save on a server that keeps the last prompt of each slot: tokens computed.

    python bench/turns.py [--parts 10] [--reports 13] [--rounds 3] [--slots 4 8 24]

Parts are searched side by side, each asking about all reports in `rounds` prompts of its own, with
as many calls under way as there are slots. The server is llama.cpp's as far as prompts go: a call
takes the free slot whose last prompt begins with the same report, else the one that was free
longest, and computes what is not there. Prompts are REPORT tokens of report and OWN of the part;
"in order of coming" is how slots were given away before there were turns.
"""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

from dspy.lm15 import Config, Message, Request

from crb_dspy.evaluation.asking import in_order
from crb_dspy.models import engine
from crb_dspy.models.direct import Fields
from crb_dspy.models.meter import Meter
from crb_dspy.models.server import Server

REPORT, OWN, WRITTEN = 640, 160, 50
# Seconds that the server takes for a token, computed or written.
EACH = 3e-5


class Slots:
    """A server's free slots: the report that each computed last, those free longest first."""

    def __init__(self, count: int) -> None:
        self.free: list[str] = [""] * count
        self.computed, self.lock = 0, threading.Lock()

    def __call__(self, **given: Any) -> Any:
        report = given["messages"][-1]["content"].partition("|")[0]
        with self.lock:
            known = report in self.free
            self.free.remove(report if known else self.free[0])
            computed = OWN + REPORT * (not known)
            self.computed += computed
        time.sleep(EACH * (computed + WRITTEN))
        with self.lock:
            self.free.append(report)
        message = Fields(content="[]", role="assistant")
        choice = Fields(message=message, finish_reason="stop", index=0)
        usage = Fields(prompt_tokens=REPORT + OWN, completion_tokens=WRITTEN)
        return Fields(choices=[choice], usage=usage, model="slots", id="1")


def searched(slots: Slots, count: int, parts: int, reports: int, rounds: int) -> float:
    """Return the seconds that the parts' rounds take side by side."""
    server = Server(lambda: {"model": "openai/slots"}, count, completion=slots)
    asked = engine.Engine(server, Meter())

    def rounds_of(part: int) -> None:
        for number in range(rounds):
            own: list[Any] = [f"|{part}.{number}"]
            for _ in in_order(own, range(reports), ask=ask, threads=count):
                pass

    def ask(own: str, report: int) -> Any:
        text = Message.user([f"report {report}", own])
        return asked.complete(Request(model="slots", messages=(text,), config=Config()))

    started = time.perf_counter()
    with ThreadPoolExecutor(min(parts, count)) as pool:  # as the search does
        list(pool.map(rounds_of, range(parts)))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--reports", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 8, 24])
    given = parser.parse_args()
    calls = given.parts * given.reports * given.rounds
    print(f"{calls} calls, {given.reports} reports\n{'slots':>5}  tokens computed a call, seconds")
    for count in given.slots:
        row = []
        for name, about in (("in order of coming", lambda _: ""), ("by report", engine._about)):
            slots = Slots(count)
            with patch.object(engine, "_about", about):
                seconds = searched(slots, count, given.parts, given.reports, given.rounds)
            row.append(f"{name} {slots.computed / calls:.0f}, {seconds:.1f} s")
        print(f"{count:>5}  {'; '.join(row)}")


if __name__ == "__main__":
    main()
