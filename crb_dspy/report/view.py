"""Everything that a page shows, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError
from crb_dspy.report.candidates import PartSearch
from crb_dspy.report.cells import Cell, Pair
from crb_dspy.report.correcting import data
from crb_dspy.report.diff import PromptDiff
from crb_dspy.report.items import Figure, figures, place_items
from crb_dspy.report.markup import body
from crb_dspy.report.placing import Placed, place
from crb_dspy.report.tallies import CategoryRow, Placing, Tally, category_row, tally
from crb_dspy.scoring.halves import total

# Cells that a page lists by their difference; all others stand below their reports.
SHOWN = 60
# Reports that a page sends its reader to first.
FIRST = 5


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
    # Whether it holds quotes, which stand in the report.
    verbatim: bool

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
    # What corrections start from, as JSON.
    data: str
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
    # What was tried for each part, and what follows where nothing was gained.
    search: tuple[PartSearch, ...] = ()
    stays: tuple[str, ...] = ()
    # Categories that hold no quotes.
    figures: tuple[Figure, ...] = ()

    @property
    def changed(self) -> list[CellView]:
        """The cells in which the runs differ, the largest difference first."""
        cells = (cell for case in self.cases for cell in case.cells if cell.weight > 1e-9)
        return sorted(cells, key=lambda cell: -cell.weight)

    @property
    def first(self) -> list[tuple[CaseView, str]]:
        """The reports that teach most: where the runs differ most, then the lowest scores."""
        if len(self.cases) <= FIRST:
            return []
        ranked = sorted(self.cases, key=lambda case: (-_moved(case), case.runs[1].score))
        return [(case, _outcome(case)) for case in ranked[:FIRST]]

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
        scores=(_score(views, 0), _score(views, 1)),
        categories=tuple(_categories(cells, schema)),
        cases=tuple(views),
        figures=figures(pairs, schema),
    )


def most_different_first(view: View) -> View:
    """Order the reports by the cell in which the runs differ most."""
    weight = {case.name: max((c.weight for c in case.cells), default=0.0) for case in view.cases}
    return replace(view, cases=tuple(sorted(view.cases, key=lambda case: -weight[case.name])))


def _moved(case: CaseView) -> float:
    return round(sum(cell.weight for cell in case.cells), 6)


def _outcome(case: CaseView) -> str:
    """Say which categories of a report got better and worse, and what is missed and wrong."""
    better = [cell.key for cell in case.cells if cell.pair.difference > 1e-9]
    worse = [cell.key for cell in case.cells if cell.pair.difference < -1e-9]
    told = [f"better: {', '.join(better)}"] * bool(better)
    told += [f"worse: {', '.join(worse)}"] * bool(worse)
    run = case.runs[1]
    return "; ".join([*told, f"{run.missed} missed, {run.wrong} wrong"]).replace("_", " ")


def _check(cell: Cell, reports: Mapping[str, Case], schema: Schema) -> None:
    if cell.case not in reports:
        raise UserError(f"case '{cell.case}' of the run is not in the data: give the data it read")
    if cell.category not in schema.keys:
        raise UserError(f"category '{cell.category}' of the run is not in schema '{schema.name}'")


def _cell(case: Case, number: int, pair: Pair, schema: Schema) -> CellView:
    category = schema.keys.index(pair.a.category)
    kind = schema.categories[category].holds
    pair = Pair(_explained(case.text, pair.a, kind), _explained(case.text, pair.b, kind))
    placed = place(case.text, pair) if kind.verbatim else place_items(case.text, pair, kind)
    return CellView(number, category, pair.a.category, pair, placed, kind.verbatim)


def _explained(text: str, cell: Cell, kind: Kind) -> Cell:
    if cell.reason:
        return cell
    return replace(cell, reason=kind.score(text, cell.gold, cell.predicted).reason)


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
        data=data(case, ((c.key, c.pair, c.placed) for c in cells), schema.kinds),
        runs=(tally(placings, 0), tally(placings, 1)),
    )


def _categories(cells: Sequence[CellView], schema: Schema) -> Iterator[CategoryRow]:
    for number, category in enumerate(schema.categories):
        if own := [cell.placing for cell in cells if cell.category == number]:
            yield category_row(number, category.key, category.title, own)


def _score(cases: Sequence[CaseView], run: int) -> float:
    return total(case.runs[run].halves for case in cases).score
