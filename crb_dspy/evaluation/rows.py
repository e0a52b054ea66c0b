"""Rows: what was sought and found for one category of one case, and what it scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Judged, Kind, usual
from crb_dspy.program import Reading
from crb_dspy.scoring.halves import Halves, total
from crb_dspy.scoring.objectives import OBJECTIVES, SCORE, Objective

DEFAULT = OBJECTIVES[SCORE]
# How the error of a cell begins that a budget left unasked.
UNASKED = "not asked: "


@dataclass(frozen=True)
class Row:
    """One cell of a result: what was sought and found for a category of a case, and its score.

    `score` is that of the objective, NaN where the cell does not count for it. A failed cell has an
    `error` and scores 0. A cell whose answer had to be mended has an `error` too and is
    `salvaged`: it scores what its items are worth.
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
    cell: Judged
    halves: Halves
    kind: Kind = field(default_factory=usual, compare=False, repr=False)

    @property
    def failed(self) -> bool:
        """Whether there is no answer: an error, and not one that was mended."""
        return bool(self.error) and not self.salvaged


def row_of(
    case: Case,
    key: str,
    reading: Reading,
    objective: Objective = DEFAULT,
    kind: Kind | None = None,
) -> Row:
    """Score one category of a reading by what the category holds, the usual unless it is given."""
    kind = kind or usual()
    gold = tuple((case.gold or {}).get(key, ()))
    predicted = tuple(reading.quotes.get(key, ()))
    cell = kind.score(case.text, gold, predicted)
    if failed := reading.error:
        worth = cell.score if math.isnan(cell.score) else 0.0
        cell = replace(cell, score=worth, reason=f"no answer: {failed}")
    elif why := reading.silent.get(key):
        cell = replace(cell, reason=f"{cell.reason}; {why}")
    score = objective.value(cell, gold, predicted)
    score = 0.0 if failed and not math.isnan(score) else score
    return Row(
        case=case.id,
        group=case.group,
        category=key,
        gold=gold,
        predicted=predicted,
        score=score,
        reason=cell.reason,
        error=failed or reading.irregular.get(key, ""),
        salvaged=not failed and key in reading.irregular,
        cell=cell,
        halves=objective.halves(score, kind.sought(gold)),
        kind=kind,
    )


def unasked(errors: Iterable[str]) -> str:
    """Return which cap of a budget left a cell unasked, "" if none did."""
    return next((e.removeprefix(UNASKED) for e in errors if e.startswith(UNASKED)), "")


def fully_asked(rows: Sequence[Row]) -> set[str]:
    """Return the ids of the cases of which every cell was asked."""
    left = {row.case for row in rows if row.error.startswith(UNASKED)}
    return {row.case for row in rows} - left


def by_case(rows: Sequence[Row]) -> dict[str, Halves]:
    """Return the halves of each case, in the order of the rows."""
    found: dict[str, Halves] = {}
    for row in rows:
        found[row.case] = found.get(row.case, Halves()) + row.halves
    return found


def score_of(rows: Iterable[Row]) -> float:
    """Return the score of a set of rows by their objective."""
    return total(row.halves for row in rows).score


def table(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return rows as columns of plain values, for a data frame or a file."""
    names = ("case", "group", "category", "gold", "predicted", "score", "reason", "error")
    columns: Mapping[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in (*names, "salvaged")
    }
    items = {name: [list(cell) for cell in columns[name]] for name in ("gold", "predicted")}
    # JSON has no NaN, which stands for a cell that does not count.
    scores = [None if math.isnan(score) else score for score in columns["score"]]
    found = {**columns, **items, "score": scores}
    # Where gold itself does not say whether there was something to be found.
    if any(bool(row.gold) != bool(row.kind.sought(row.gold)) for row in rows):
        found["silent"] = [not row.kind.sought(row.gold) for row in rows]
    return found


def records(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return columns as one mapping a row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
