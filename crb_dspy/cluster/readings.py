"""What programs make of cases, asked by the workers of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crb_dspy.cluster import pool
from crb_dspy.cluster.pool import Cluster
from crb_dspy.cluster.seat import Order, Seat, gone, within_budget
from crb_dspy.data.cases import Case
from crb_dspy.errors import RunError
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.evaluation.rows import unasked
from crb_dspy.files import as_json
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.learnt import Learnt
from crb_dspy.models.meter import Usage
from crb_dspy.program import Reading, attempt

# Cases that a worker is given at once.
AT_ONCE = 4


@dataclass(frozen=True)
class Asked:
    """Cases for the workers of a cluster; what `path` holds of them from an earlier run is kept.

    `progress` is called once a case.
    """

    order: Order
    cases: Sequence[Case]
    path: Path
    progress: Callable[[], None] = lambda: None


def readings(asked: Asked, cluster: Cluster, learnt: Learnt) -> tuple[list[list[Reading]], Usage]:
    """Return what each part made of each case, in their order, and what it took.

    Gold stays here. What is learnt of the server is added to `learnt`. RunError if the model is
    gone or a cap reached: the cases that were answered up to then are kept.
    """
    cases, found = asked.cases, _kept(asked.path)
    usage, spent = Usage(asked=sum(map(len, found.values()))), ""
    left = [[n, case.id, dict(case.sections)] for n, case in enumerate(cases) if n not in found]
    items = [left[n : n + AT_ONCE] for n in range(0, len(left), AT_ONCE)]
    for _ in found:
        asked.progress()
    if not items:
        return [found[n] for n in range(len(cases))], usage
    asked.path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, asked.path.open("a", encoding="utf-8") as file:
        stack.enter_context(pool.connected(cluster))
        order = replace(asked.order, allowance=pool.allowance(asked.order.caps))
        mapped = stack.enter_context(closing(pool.mapped(items, _Task(order), cluster)))
        for made in mapped:
            learnt.add(made["learnt"])
            if "gone" in made:
                raise RunError(f"{made['gone']}; the same command goes on")
            usage += Usage(**made["usage"])
            for number, row in made["readings"]:
                found[number] = [Reading(**its) for its in row]
                file.write(as_json([number, row]) + "\n")
                asked.progress()
            file.flush()
            # Other workers may still hold calls, and answers: the rest is soon through, unasked.
            spent = spent or unasked(its["error"] for _, row in made["readings"] for its in row)
    if spent:
        raise RunError(f"{spent}; what was answered is kept, the same command goes on")
    return [found[n] for n in range(len(cases))], usage


def _kept(path: Path) -> dict[int, list[Reading]]:
    """Return the cases of an earlier run that were answered; what was cut off is left out."""
    found: dict[int, list[Reading]] = {}
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else ():
        try:
            number, row = json.loads(line)
        except ValueError:
            continue
        if not any(its["error"] for its in row):
            found[number] = [Reading(**its) for its in row]
    return found


@dataclass(frozen=True)
class _Task:
    order: Order

    def __call__(self) -> Callable[[Sequence[Any]], dict[str, Any]]:
        return _Asker(Seat(self.order))


@dataclass(frozen=True)
class _Asker:
    seat: Seat

    def __call__(self, item: Sequence[tuple[int, str, Mapping[str, str]]]) -> dict[str, Any]:
        return {**self._made(item), "learnt": self.seat.model.learnt.handed()}

    def _made(self, item: Sequence[tuple[int, str, Mapping[str, str]]]) -> dict[str, Any]:
        seat, before = self.seat, self.seat.model.meter.usage
        cases = [Case(name, sections) for _, name, sections in item]
        try:
            with seat.asking():
                ask, threads = within_budget(attempt), seat.settings.threads
                rows = readings_of(seat.parts, cases, threads=threads, ask=ask)
        except ModelGone as error:
            return {"gone": gone(error)}
        numbers = (number for number, *_ in item)
        plain = [[n, [vars(its) for its in row]] for n, row in zip(numbers, rows, strict=True)]
        return {"readings": plain, "usage": vars(seat.model.meter.usage - before)}
