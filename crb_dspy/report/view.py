"""Everything that a page shows, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from crb_dspy.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.report.cells import Cell, Pair
from crb_dspy.report.diff import PromptDiff
from crb_dspy.report.markup import body
from crb_dspy.report.placing import Placed, place
from crb_dspy.report.tallies import CategoryRow, Placing, Tally, category_row, tally
from crb_dspy.schema import Schema
from crb_dspy.scoring.objective import score_cell

# Cells that a page lists by their difference; all others stand below their reports.
SHOWN = 60


@dataclass(frozen=True)
class Heading:
    """What a page is about: its title, its result in one sentence, what the two runs are.

    `both` opens the reports with the two runs side by side, else with the second alone.
    """

    title: str
    headline: str
    names: tuple[str, str]
    note: str = ""
    both: bool = False


@dataclass(frozen=True)
class CellView:
    """A cell with its quotes placed; case and category are known by their numbers on the page."""

    case: int
    category: int
    key: str
    pair: Pair
    placed: Placed

    @property
    def placing(self) -> Placing:
        """What is counted."""
        return self.pair, self.placed

    @property
    def weight(self) -> float:
        """How much the two runs differ here."""
        return abs(self.pair.difference)


@dataclass(frozen=True)
class CaseView:
    """A report with its marks, and below it the cells in which anything happened."""

    number: int
    name: str
    words: int
    html: Markup
    cells: tuple[CellView, ...]
    idle: tuple[str, ...]
    runs: tuple[Tally, Tally]

    @property
    def difference(self) -> float:
        """The score of the second run minus that of the first."""
        return self.runs[1].score - self.runs[0].score


@dataclass(frozen=True)
class View:
    """A page: what two runs found, by category, by cell and in the reports; their prompts."""

    heading: Heading
    groups: int
    scores: tuple[float, float]
    categories: tuple[CategoryRow, ...]
    cases: tuple[CaseView, ...]
    prompts: tuple[PromptDiff, ...] = ()
    # What became of each part of the program.
    verdicts: tuple[tuple[str, str], ...] = ()

    @property
    def changed(self) -> list[CellView]:
        """The cells in which the runs differ, the largest difference first."""
        cells = (cell for case in self.cases for cell in case.cells if cell.weight > 1e-9)
        return sorted(cells, key=lambda cell: -cell.weight)

    @property
    def order(self) -> list[int]:
        """The numbers of the categories that have rows."""
        return [row.number for row in self.categories]


def build(heading: Heading, pairs: Sequence[Pair], cases: Iterable[Case], schema: Schema) -> View:
    """Place all quotes of two runs; UserError for a report or category that is not given."""
    reports = {case.id: case for case in cases}
    by_case: dict[str, list[Pair]] = {}
    for pair in pairs:
        _check(pair.a, reports, schema)
        by_case.setdefault(pair.a.case, []).append(pair)
    views, cells = [], []
    for number, (name, own) in enumerate(by_case.items()):
        placed = [_cell(reports[name], number, pair, schema) for pair in own]
        views.append(_case(reports[name], number, placed, schema))
        cells += placed
    return View(
        heading=heading,
        groups=len({pair.a.group for pair in pairs}),
        scores=(_mean(views, 0), _mean(views, 1)),
        categories=tuple(_categories(cells, schema)),
        cases=tuple(views),
    )


def most_different_first(view: View) -> View:
    """Order the reports by the cell in which the runs differ most."""
    weight = {case.name: max((c.weight for c in case.cells), default=0.0) for case in view.cases}
    return replace(view, cases=tuple(sorted(view.cases, key=lambda case: -weight[case.name])))


def _check(cell: Cell, reports: Mapping[str, Case], schema: Schema) -> None:
    if cell.case not in reports:
        raise UserError(f"case '{cell.case}' of the run is not in the data: give the data it read")
    if cell.category not in schema.keys:
        raise UserError(f"category '{cell.category}' of the run is not in schema '{schema.name}'")


def _cell(case: Case, number: int, pair: Pair, schema: Schema) -> CellView:
    pair = Pair(_explained(case.text, pair.a), _explained(case.text, pair.b))
    category = schema.keys.index(pair.a.category)
    return CellView(number, category, pair.a.category, pair, place(case.text, pair))


def _explained(text: str, cell: Cell) -> Cell:
    if cell.reason:
        return cell
    return replace(cell, reason=score_cell(text, cell.gold, cell.predicted).reason)


def _case(case: Case, number: int, cells: Sequence[CellView], schema: Schema) -> CaseView:
    labels = [key.replace("_", " ") for key in schema.keys]
    placings = [cell.placing for cell in cells]
    return CaseView(
        number=number,
        name=case.id,
        words=len(case.text.split()),
        html=body(case, {cell.category: cell.placed for cell in cells}, labels),
        cells=tuple(cell for cell in cells if not cell.pair.idle),
        idle=tuple(cell.key for cell in cells if cell.pair.idle),
        runs=(tally(placings, 0), tally(placings, 1)),
    )


def _categories(cells: Sequence[CellView], schema: Schema) -> Iterator[CategoryRow]:
    for number, category in enumerate(schema.categories):
        if own := [cell.placing for cell in cells if cell.category == number]:
            yield category_row(number, category.key, category.title, own)


def _mean(cases: Sequence[CaseView], run: int) -> float:
    return math.fsum(case.runs[run].score for case in cases) / len(cases)
