"""One self-contained page that shows what two runs found in every test report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from crb_dspy.cases import Case
from crb_dspy.report.cells import AnyRow, baseline_of, cells_of, paired
from crb_dspy.report.diff import compare
from crb_dspy.report.render import page
from crb_dspy.report.view import Heading, View, build, most_different_first
from crb_dspy.schema import Schema

__all__ = ["Heading", "View", "baseline_of", "build", "page", "report", "side_by_side"]

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
    verdicts: Iterable[tuple[str, str]] = (),
) -> str:
    """Return the page of a compile: seed against tuned program on the test cases.

    `headline` is the result in one sentence; rows are those of an evaluation or lines of a
    cells.jsonl (`baseline_of` gives the seed's). `cases` may hold more than the rows name;
    UserError where one is missing. `verdicts` say what became of each part.
    """
    pairs = paired(cells_of(cells_baseline), cells_of(cells_tuned))
    view = build(Heading(title, headline, ("seed", "tuned")), pairs, cases, schema)
    diffs = tuple(compare(*prompt) for prompt in prompts)
    return page(replace(view, prompts=diffs, verdicts=tuple(verdicts)))


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
