"""The rows of two runs, from memory or from a file, cell beside cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from crb_dspy.data.kind import Kind
from crb_dspy.errors import UserError
from crb_dspy.scoring.halves import Halves

if TYPE_CHECKING:  # Files are compared without loading DSPy.
    from crb_dspy.evaluation.rows import Row

AnyRow: TypeAlias = "Row | Mapping[str, object] | Cell"


@dataclass(frozen=True)
class Cell:
    """What was sought and found for a category of a case: a row without its counts."""

    case: str
    group: str
    category: str
    gold: tuple[str, ...]
    predicted: tuple[str, ...]
    score: float
    reason: str = ""
    error: str = ""
    salvaged: bool = False
    # Whether cells with and without gold are two halves of the score.
    halved: bool = True
    # Whether nothing was to be found, where gold itself does not say it.
    silent: bool | None = None

    @property
    def halves(self) -> Halves:
        """What it adds to a score."""
        if math.isnan(self.score):
            return Halves()
        silent = not self.gold if self.silent is None else self.silent
        if not (silent and self.halved):
            return Halves(self.score, 1)
        return Halves(empty=self.score, n_empty=1)

    @property
    def failed(self) -> bool:
        """There was no answer at all."""
        return bool(self.error) and not self.salvaged


@dataclass(frozen=True)
class Pair:
    """The same cell in two runs."""

    a: Cell
    b: Cell

    @property
    def difference(self) -> float:
        """The score of the second minus that of the first."""
        return self.b.score - self.a.score

    @property
    def idle(self) -> bool:
        """Nothing was sought, nothing was quoted, nothing went wrong."""
        return not any((self.a.gold, *((c.predicted or c.error) for c in (self.a, self.b))))


def cells_of(rows: Iterable[AnyRow], halved: bool = True) -> list[Cell]:
    """Return rows, or the lines of a cells.jsonl, as cells; `halved` as of their objective."""
    return [row if isinstance(row, Cell) else _cell(row, halved) for row in rows]


def baseline_of(rows: Iterable[Mapping[str, object]], halved: bool = True) -> list[Cell]:
    """Return what the seed did, from the lines of a cells.jsonl; its reasons are not in there."""
    renamed = ("predicted", "score")
    return [
        _cell({**row, **_NO_WORDS, **{n: row[f"{n}_baseline"] for n in renamed}}, halved)
        for row in rows
    ]


_NO_WORDS = {"reason": "", "error": "", "salvaged": False}


def _cell(row: Row | Mapping[str, object], halved: bool) -> Cell:
    value = row if isinstance(row, Mapping) else vars(row)
    return Cell(
        case=str(value["case"]),
        group=str(value.get("group") or value["case"]),
        category=str(value["category"]),
        gold=_quotes(value["gold"]),
        predicted=_quotes(value["predicted"]),
        score=math.nan if value["score"] is None else float(str(value["score"])),
        reason=str(value.get("reason") or ""),
        error=str(value.get("error") or ""),
        salvaged=bool(value.get("salvaged")),
        halved=halved,
        silent=_silent(value),
    )


def _silent(value: Mapping[str, object]) -> bool | None:
    kind = value.get("kind")
    if isinstance(kind, Kind) and not kind.verbatim:
        return not kind.sought(_quotes(value["gold"]))
    told = value.get("silent")
    return told if isinstance(told, bool) else None


def _quotes(value: object) -> tuple[str, ...]:
    """Return the distinct quotes of a cell as they are scored: stripped, blank ones left out."""
    quotes = value if isinstance(value, Iterable) else ()
    return tuple(dict.fromkeys(text for quote in quotes if (text := str(quote).strip())))


def paired(a: Sequence[Cell], b: Sequence[Cell]) -> list[Pair]:
    """Return the cells that both runs have, in the order of the first; UserError if none."""
    other = {(cell.case, cell.category): cell for cell in b}
    pairs = [
        Pair(cell, other[cell.case, cell.category])
        for cell in a
        if (cell.case, cell.category) in other
    ]
    if not pairs:
        raise UserError("the two runs have no cell in common: compare runs on the same test cases")
    return pairs
