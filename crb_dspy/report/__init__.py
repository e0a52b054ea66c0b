"""One self-contained page that shows what two runs found in every test report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.report.candidates import Searched, searches
from crb_dspy.report.cells import AnyRow, baseline_of, cells_of, paired
from crb_dspy.report.diff import compare
from crb_dspy.report.render import page
from crb_dspy.report.view import Heading, View, build, most_different_first

__all__ = ["Heading", "Searched", "View", "baseline_of", "build", "page", "report", "side_by_side"]

Rows = Sequence[AnyRow]
# A part of the program, its seed prompt, its tuned prompt.
Prompt = tuple[str, str, str]


def report(
    title: str,
    headline: str,
    cells_baseline: Rows,
    cells_tuned: Rows,
    cases: Iterable[Case],
    schema: Schema,
    prompts: Iterable[Prompt],
    searched: Searched | None = None,
) -> str:
    """Return the page of a compile: seed against tuned program on the test cases.

    `headline` is the result in one sentence, further lines of it stand below; rows are those of an
    evaluation or lines of a cells.jsonl (`baseline_of` gives the seed's). `cases` may hold more
    than the rows name;
    UserError where one is missing. `searched` tells what was tried for each part, and of its end.
    """
    pairs = paired(cells_of(cells_baseline), cells_of(cells_tuned))
    first, _, note = headline.partition("\n")
    view = build(Heading(title, first, ("seed", "tuned"), note), pairs, cases, schema)
    diffs = tuple(compare(*prompt) for prompt in prompts)
    told = searched or Searched()
    shown = replace(view, prompts=diffs, verdicts=tuple(told.verdicts), stays=tuple(told.stays))
    return page(replace(shown, search=searches(told)))


def side_by_side(
    title: str,
    headline: str,
    rows_a: Rows,
    rows_b: Rows,
    cases: Iterable[Case],
    schema: Schema,
    names: tuple[str, str],
) -> str:
    """Return the page of two runs on the same cases, reports that differ most first.

    Only cells that both runs have are shown, and the page says how many are left out; UserError
    where there is none, or a report is missing.
    """
    a, b = cells_of(rows_a), cells_of(rows_b)
    pairs = paired(a, b)
    left_out = len(a) + len(b) - 2 * len(pairs)
    note = f"{left_out} cells that only one of the runs has are left out." if left_out else ""
    view = build(Heading(title, headline, names, note, both=True), pairs, cases, schema)
    return page(most_different_first(view))
