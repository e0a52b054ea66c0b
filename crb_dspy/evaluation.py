"""Running programs over cases: each part of each case once, within one cap, scored as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crb_dspy.asking import in_order
from crb_dspy.cases import Case
from crb_dspy.models.budget import BudgetSpent
from crb_dspy.program import ExtractionProgram, Part, Reading, attempt
from crb_dspy.scoring.objective import CellScore, score_cell

Progress = Callable[[], None]
Ask = Callable[[Part, Case], Reading]
# How the error of a cell begins that a budget left unasked.
UNASKED = "not asked: "


@dataclass(frozen=True)
class Row:
    """One cell of a result: what was sought and found for a category of a case, and its score.

    A failed cell has an `error` and scores 0. A cell whose answer had to be mended has an
    `error` too and is `salvaged`: it scores what its quotes are worth.
    """

    case: str
    group: str
    category: str
    gold: tuple[str, ...]
    predicted: tuple[str, ...]
    score: float
    reason: str
    error: str
    salvaged: bool
    cell: CellScore


def evaluate(
    program: ExtractionProgram,
    cases: Sequence[Case],
    *,
    threads: int = 1,
    progress: Progress = lambda: None,
) -> list[Row]:
    """Return a row for every category of every case, in their order.

    Makes one attempt a part and case, with at most `threads` under way. When the budget is
    spent, the cells that are left have an error that begins with `UNASKED`.
    """
    parts = list(program.parts.values())
    readings = read(parts, cases, threads=threads, progress=progress, ask=_within_budget)
    rows = []
    for case, answers in zip(cases, readings, strict=True):
        pairs = zip(parts, answers, strict=True)
        found = {key: reading for part, reading in pairs for key in part.keys}
        rows += [row_of(case, key, found[key]) for key in program.keys]
    return rows


def read(
    parts: Sequence[Part],
    cases: Sequence[Case],
    *,
    threads: int = 1,
    progress: Progress = lambda: None,
    ask: Ask = attempt,
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


def row_of(case: Case, key: str, reading: Reading) -> Row:
    """Score one category of a reading."""
    gold = tuple((case.gold or {}).get(key, ()))
    predicted = tuple(reading.quotes.get(key, ()))
    cell = score_cell(case.text, gold, predicted)
    if failed := reading.error:
        cell = replace(cell, score=0.0, reason=f"no answer: {failed}")
    return Row(
        case=case.id,
        group=case.group,
        category=key,
        gold=gold,
        predicted=predicted,
        score=cell.score,
        reason=cell.reason,
        error=failed or reading.irregular.get(key, ""),
        salvaged=not failed and key in reading.irregular,
        cell=cell,
    )


def asked(rows: Sequence[Row]) -> set[str]:
    """Return the ids of the cases of which every cell was asked."""
    left = {row.case for row in rows if row.error.startswith(UNASKED)}
    return {row.case for row in rows} - left


def case_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Return the score of each case: the mean over its categories."""
    by_case: dict[str, list[float]] = {}
    for row in rows:
        by_case.setdefault(row.case, []).append(row.score)
    return {case: sum(scores) / len(scores) for case, scores in by_case.items()}


def table(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return rows as columns of plain values, for a data frame or a file."""
    names = ("case", "group", "category", "gold", "predicted", "score", "reason", "error")
    columns: Mapping[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in (*names, "salvaged")
    }
    quotes = {name: [list(cell) for cell in columns[name]] for name in ("gold", "predicted")}
    return {**columns, **quotes}


def records(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return columns as one mapping a row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
