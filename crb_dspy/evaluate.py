"""Score a saved program on annotated cases.

python -m crb_dspy.evaluate PROGRAM --data CASES
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crb_dspy.command import run
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crb_dspy.cases import Case
    from crb_dspy.evaluation import Row
    from crb_dspy.models.meter import Usage
    from crb_dspy.models.reach import Settings
    from crb_dspy.saved import Saved
    from crb_dspy.scoring.table import Scores
    from crb_dspy.stats import Estimate


def main(argv: list[str]) -> int:
    """Read the arguments, evaluate, print."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.benchmarks import load
    from crb_dspy.extracting.extraction import saved_program, settings_for

    saved = saved_program(arguments.program)
    settings = settings_for(saved.origin, arguments.model, arguments.api_base, arguments.threads)
    loaded = load(arguments.data, saved.whole_schema, limit=arguments.limit)
    cases = [case for case in loaded.cases if case.gold is not None]
    if not cases:
        raise UserError(f"{arguments.data}: no case has gold")
    found = _judged(saved, settings, cases)
    if arguments.json:
        print(json.dumps(_plain(saved, settings, found), ensure_ascii=False))
    else:
        print(f"program    {arguments.program}: {saved.origin.program}, {settings.model}")
        print(
            f"data       {arguments.data}: {len(cases)} cases, {len(saved.schema.keys)} categories"
        )
        _table(saved, found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crb_dspy.evaluate",
        description="Score a saved program on annotated cases, by the model it was tuned for.",
    )
    parser.add_argument("program", help="a program.json, the folder it is in, or the id of a run")
    parser.add_argument("--data", required=True, help="as of compile: sample, a case JSONL, ...")
    parser.add_argument("--limit", type=int, help="use this many cases")
    parser.add_argument("--model", help="another model than the program was tuned for")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--threads", type=int, default=1, help="calls under way at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


@dataclass(frozen=True)
class _Judged:
    rows: list[Row]
    estimate: Estimate
    scores: Scores
    usage: Usage
    seconds: float


def _judged(saved: Saved, settings: Settings, cases: Sequence[Case]) -> _Judged:
    from crb_dspy.evaluation import case_scores, evaluate
    from crb_dspy.extracting.extraction import opened
    from crb_dspy.progress import phase
    from crb_dspy.stats import mean_interval

    started = time.monotonic()
    with (
        opened(settings) as model,
        phase("evaluate", len(cases) * len(saved.program.parts)) as tick,
    ):
        rows = evaluate(saved.program, cases, threads=settings.threads, progress=tick)
    by_case = case_scores(rows)
    estimate = mean_interval(list(by_case.values()), [case.group for case in cases])
    seconds = time.monotonic() - started
    return _Judged(rows, estimate, _scores(cases, rows), model.meter.usage, seconds)


def _scores(cases: Sequence[Case], rows: Sequence[Row]) -> Scores:
    """Score rows by both families of metrics; a failed cell is 0 by the objective."""
    from crb_dspy.scoring.objective import by_category, summarise
    from crb_dspy.scoring.table import Scores, score

    predicted: dict[str, dict[str, Sequence[str]]] = {}
    for row in rows:
        predicted.setdefault(row.case, {})[row.category] = row.predicted
    keys = list(dict.fromkeys(row.category for row in rows))
    papers = score(cases, keys, predicted, ["paper"])
    cells = [(row.case, row.category, row.cell) for row in rows]
    own = by_category(cells)
    categories = {key: own[key] | papers.categories[key] for key in keys}
    return Scores(summarise(cells) | papers.summary, categories, papers.cells)


def _plain(saved: Saved, settings: Settings, found: _Judged) -> dict[str, Any]:
    from crb_dspy.scoring.table import plain

    errors = [row for row in found.rows if row.error]
    return {
        "program": saved.origin.program,
        "model": settings.model,
        "score": plain(asdict(found.estimate)),
        "summary": plain(found.scores.summary),
        "categories": {key: plain(metrics) for key, metrics in found.scores.categories.items()},
        "cells": len(found.rows),
        "errors": len(errors),
        "salvaged": sum(row.salvaged for row in errors),
        "usage": asdict(found.usage),
        "seconds": found.seconds,
        "tuned": saved.origin.scores,
    }


def _table(saved: Saved, found: _Judged) -> None:
    from crb_dspy.scoring.paper import PAPER

    estimate, usage, summary = found.estimate, found.usage, found.scores.summary
    interval = (
        "no interval from a single group"
        if estimate.low != estimate.low
        else f"95 % interval {estimate.low:.3f} to {estimate.high:.3f}"
    )
    print(f"score      {estimate.mean:.3f}  {interval}")
    if "test/score" in saved.origin.scores:
        print(f"           {saved.origin.scores['test/score']:.3f} when it was tuned")
    errors = [row for row in found.rows if row.error]
    salvaged = sum(row.salvaged for row in errors)
    print(f"errors     {len(errors)} of {len(found.rows)} cells, {salvaged} of them salvaged")
    print(f"calls      {usage.calls}, {usage.cached} more from the cache, {usage.lost} lost")
    print(
        f"tokens     {usage.prompt_tokens} sent ({usage.computed_tokens} computed), "
        f"{usage.completion_tokens} generated"
    )
    print(f"seconds    {found.seconds:.0f}\n")
    own = [name for name in summary if name not in PAPER]
    for names in (own, list(PAPER)):
        print(f"{'':17}" + "".join(f"{name:>19}" for name in names))
        for key, metrics in {"all": summary, **found.scores.categories}.items():
            print(f"{key:17}" + "".join(f"{_number(metrics[name]):>19}" for name in names))
        print()


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


if __name__ == "__main__":
    run(main)
