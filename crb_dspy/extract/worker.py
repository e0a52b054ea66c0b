"""What a worker of a cluster does: reads a few reports, asks, writes a file of Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from crb_dspy.cluster.seat import Order, Seat, gone, within_budget
from crb_dspy.data.cases import Case
from crb_dspy.data.readers import Place, Report, Reports
from crb_dspy.evaluation.asking import in_order
from crb_dspy.evaluation.rows import unasked
from crb_dspy.extract.extraction import (
    KEPT,
    Line,
    failures,
    forget,
    read_report,
    renewed,
    row_of,
)
from crb_dspy.extract.partitions import Partitions
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.meter import Usage
from crb_dspy.program import Part, Reading, attempt

# What a file of Parquet counts: its rows, and the calls that they took.
COUNTED = (
    "reports",
    "unreadable",
    "findings",
    "ungrounded",
    "cells",
    "failed",
    "mended",
    "passing",
)


@dataclass(frozen=True)
class Piece:
    """Some reports in a row: the number of their file, where they stand, and other names for some.

    `again`: the file is there, and what failed in it is to be asked again: "passing" or "all".
    """

    number: int
    places: tuple[tuple[int, int, int], ...]
    takes: tuple[int, ...]
    renamed: Mapping[str, str]
    again: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the piece as JSON has it."""
        return vars(self) | {"renamed": dict(self.renamed)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Piece:
        """Return a piece out of what was plain."""
        places = tuple((file, offset, index) for file, offset, index in plain["places"])
        return cls(**{**plain, "places": places, "takes": tuple(plain["takes"])})

    def reports(self, source: Reports) -> Iterator[Report]:
        """Read the reports."""
        number = 0
        for place, take in zip(self.places, self.takes, strict=True):
            for report in islice(source.again(Place(*place)), take):
                name = self.renamed.get(str(number))
                number += 1
                yield report if name is None else replace(report, case=_named(report.case, name))


def _named(case: Case, name: str) -> Case:
    return Case(name, case.sections)


@dataclass(frozen=True)
class Task:
    """All that workers of one extraction share; called in each, it makes the worker."""

    order: Order
    reports: Reports
    out: Partitions

    def __call__(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """Return what makes a file out of a piece."""
        return _Extractor(self)


class _Extractor:
    def __init__(self, task: Task) -> None:
        self._task, self._seat = task, Seat(task.order)
        # The cap that was reached: no piece is begun after it.
        self._spent = ""

    def __call__(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Write a piece's file and return its counts, what it took, and what ended it, if so.

        A file that is there already, since a worker was killed after it had written, is kept; none
        is written of a piece that comes after a cap was reached.
        """
        piece = Piece.of(plain)
        made = self._made(piece)
        return {"number": piece.number, **made, "learnt": self._seat.model.learnt.handed()}

    def _made(self, piece: Piece) -> dict[str, Any]:
        out, meter = self._task.out, self._seat.model.meter
        there = out.counts(piece.number)
        if there is not None and not piece.again:
            return {"counts": there, "usage": vars(Usage())}
        if self._spent:
            return {"spent": self._spent}
        before = meter.usage
        try:
            rows, unreadable = self._rows(piece)
        except ModelGone as error:
            return {"gone": gone(error)}
        counts = counted(self._seat.parts, rows, unreadable)
        out.write(piece.number, rows, counts)
        forget()
        self._spent = unasked(error for row in rows for error in row["errors"].values())
        return {"counts": counts, "usage": vars(meter.usage - before), "spent": self._spent}

    def _rows(self, piece: Piece) -> tuple[list[dict[str, Any]], set[str]]:
        seat, threads = self._seat, self._seat.settings.threads
        reports = list(piece.reports(self._task.reports))
        unreadable = {report.case.id for report in reports if report.error}
        with seat.asking():
            if not piece.again:
                ask = within_budget(read_report)
                answered = in_order(seat.parts, reports, ask=ask, threads=threads)
                rows = [row_of(report, seat.parts, readings) for report, readings in answered]
                return rows, unreadable
            lasting = piece.again == "all"
            lines = [
                Line(r, row, () if r.error else failures(seat.parts, row, lasting=lasting))
                for r, row in zip(reports, self._task.out.rows(piece.number), strict=True)
            ]
            again = in_order(seat.parts, lines, ask=within_budget(_ask_again), threads=threads)
            return [renewed(line, seat.parts, found) for line, found in again], unreadable


def _ask_again(part: Part, line: Line) -> Reading:
    return attempt(part, line.report.case) if part in line.failed else KEPT


def counted(
    parts: Sequence[Part], rows: Sequence[Mapping[str, Any]], unreadable: set[str]
) -> dict[str, int]:
    """Return the counts of some rows by the names of `COUNTED`."""
    quotes = [quote for row in rows for found in row["findings"].values() for quote in found]
    passing = [
        key
        for row in rows
        if row["id"] not in unreadable
        for part in failures(parts, row, lasting=False)
        for key in part.keys
    ]
    numbers = (
        len(rows),
        len(unreadable),
        len(quotes),
        sum(quote["start"] is None for quote in quotes),
        sum(len(row["findings"]) for row in rows),
        sum(len(row["errors"]) for row in rows),
        sum(len(row["mended"]) for row in rows),
        len(passing),
    )
    return dict(zip(COUNTED, numbers, strict=True))
