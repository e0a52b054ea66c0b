"""Score a saved program on annotated cases.

python -m crb_dspy.evaluate PROGRAM --data CASES
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from crb_dspy.command import (
    Parser,
    asked_flags,
    check_batch,
    columns_flag,
    engine_flags,
    run,
    screen,
    too_many,
    trust_flag,
)
from crb_dspy.errors import RunError, UserError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from crb_dspy.cluster.pool import Cluster
    from crb_dspy.data.cases import Case
    from crb_dspy.evaluation.rows import Row
    from crb_dspy.models.budget import Caps
    from crb_dspy.models.learnt import Learnt
    from crb_dspy.models.lm import Model
    from crb_dspy.models.meter import Usage
    from crb_dspy.models.settings import Settings
    from crb_dspy.saved import Saved
    from crb_dspy.stats import Estimate

    Ask = Callable[[Saved, Settings, Sequence[Case]], tuple[list[Row], Usage, Learnt]]

# Tokens that a judge may think at most.
THOUGHT = 1000


def main(argv: list[str]) -> int:
    """Read the arguments, evaluate, print."""
    arguments = _parser().parse_args(argv)
    check_batch(arguments)
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.readers.tables import parsed
    from crb_dspy.models.budget import Caps
    from crb_dspy.saved import open_program

    saved = open_program(arguments.program, trust=arguments.trust)
    settings = saved.origin.asked(arguments)
    too_many(0, 0, arguments.max_failed)
    named = parsed(arguments.columns)
    loaded = load(arguments.data, saved.whole_schema, limit=arguments.limit, named=named)
    cases = [case for case in loaded.cases if case.gold is not None]
    if not cases:
        raise UserError(f"{arguments.data}: no case has gold")
    caps = Caps(arguments.max_calls, arguments.max_tokens)
    ask: Ask = partial(_here, batch=arguments.batch, caps=caps)
    if arguments.engine == "ray":
        from crb_dspy.cluster.pool import Cluster

        cluster = Cluster(arguments.workers, arguments.address)
        ask = partial(_spread, cluster=cluster, caps=caps)
    with _judging(arguments, settings) as judge:
        found = replace(_judged(saved, settings, cases, ask), judge=judge)
    if arguments.json:
        print(json.dumps(_plain(saved, settings, found), ensure_ascii=False))
    else:
        print(f"program    {arguments.program}: {saved.origin.program}, {settings.model}")
        print(
            f"data       {arguments.data}: {len(cases)} cases, {len(saved.schema.keys)} categories"
        )
        _table(saved, found)
    failed = sum(row.failed for row in found.rows)
    return int(too_many(failed, len(found.rows), arguments.max_failed))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.evaluate",
        description="Score a saved program on annotated cases, by the model it was tuned for.",
    )
    parser.add_argument("program", help="a program.json, the folder it is in, or the id of a run")
    parser.add_argument("--data", required=True, help="as of compile: sample, a case JSONL, ...")
    columns_flag(parser)
    parser.add_argument("--limit", type=int, help="use this many cases")
    asked_flags(parser)
    engine_flags(parser)
    parser.add_argument(
        "--judge-model", help="says what means the same, where the schema has judge = true"
    )
    parser.add_argument("--judge-api-base", metavar="URL", help="address of its server, with /v1")
    parser.add_argument("--judge-api-key-env", metavar="NAME", help="variable that holds its key")
    parser.add_argument("--judge-max-calls", type=int, metavar="N", help="ask it no more than that")
    trust_flag(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


@dataclass(frozen=True)
class _Judged:
    rows: list[Row]
    estimate: Estimate
    summary: dict[str, float]
    categories: dict[str, dict[str, float]]
    usage: Usage
    seconds: float
    learnt: Learnt
    judge: Model | None = None


@contextmanager
def _judging(arguments: Namespace, settings: Settings) -> Iterator[Model | None]:
    """Have answers judged by a model of its own meanwhile, if one is named."""
    from pydantic import ValidationError

    from crb_dspy.errors import explained
    from crb_dspy.evaluation.naming import judging
    from crb_dspy.evaluation.session import CACHE, opened
    from crb_dspy.models.budget import Budget, Caps
    from crb_dspy.models.lm import Model

    name, most = arguments.judge_model, arguments.judge_max_calls
    place = (arguments.judge_api_base, arguments.judge_api_key_env)
    if not name:
        if any(place) or most is not None:
            raise UserError("--judge-model is missing: name the model that judges")
        yield None
        return
    if most is not None and most < 1:
        raise UserError(f"--judge-max-calls {most}: at least 1")
    try:
        own = settings.other(name, *place)
    except ValidationError as error:
        raise UserError(f"--judge-{explained(error).replace('_', '-')}") from error
    model = Model(own, CACHE, Budget(Caps(calls=most)), "judge", longest=THOUGHT)
    with opened(model), judging(model.lm):
        yield model


def _judged(saved: Saved, settings: Settings, cases: Sequence[Case], ask: Ask) -> _Judged:
    from crb_dspy.evaluation import figures

    started = time.monotonic()
    rows, usage, learnt = ask(saved, settings, cases)
    seconds = time.monotonic() - started
    summary, categories = figures.metrics(rows), figures.categories(rows)
    return _Judged(rows, figures.interval(rows), summary, categories, usage, seconds, learnt)


def _here(
    saved: Saved, settings: Settings, cases: Sequence[Case], *, batch: bool, caps: Caps
) -> tuple[list[Row], Usage, Learnt]:
    from crb_dspy.evaluation import batches
    from crb_dspy.evaluation.asking import evaluate
    from crb_dspy.evaluation.rows import unasked
    from crb_dspy.evaluation.session import CACHE, session
    from crb_dspy.files import fingerprint
    from crb_dspy.models.budget import Budget
    from crb_dspy.program import attempt
    from crb_dspy.progress import phase

    total = len(cases) * len(saved.program.parts)
    with session(settings, Budget(caps)) as model, phase("evaluate", total) as tick:
        if batch:
            parts, bare = list(saved.program.parts.values()), [replace(c, gold=None) for c in cases]
            folder = CACHE / "batch" / fingerprint(saved.fingerprint, settings.identity)
            batches.answer(model, parts, lambda: bare, attempt, folder, caps)
        rows = evaluate(saved.program, cases, threads=settings.threads, progress=tick)
    if spent := unasked(row.error for row in rows):
        raise RunError(f"{spent}; what was answered is kept, the same command goes on")
    return rows, model.meter.usage, model.learnt


def _spread(
    saved: Saved, settings: Settings, cases: Sequence[Case], *, cluster: Cluster, caps: Caps
) -> tuple[list[Row], Usage, Learnt]:
    """Ask by the workers of a cluster."""
    from crb_dspy.cluster.readings import Asked, readings
    from crb_dspy.cluster.seat import Order, plain
    from crb_dspy.evaluation.asking import rows_of
    from crb_dspy.evaluation.session import CACHE, session
    from crb_dspy.files import fingerprint
    from crb_dspy.progress import phase
    from crb_dspy.saved import program_text, shipped

    with session(settings) as model:  # which says in one line if it can't be asked
        known, before = model.engine.known(), model.meter.usage
    order = Order(partial(shipped, program_text(saved)), plain(settings), known, caps)
    texts = [[case.id, dict(case.sections)] for case in cases]
    name = fingerprint(saved.fingerprint, settings.identity, texts)
    with phase("evaluate", len(cases)) as tick:
        asked = Asked(order, cases, CACHE / "ray" / f"{name}.jsonl", tick)
        found, usage = readings(asked, cluster, model.learnt)
    return rows_of(saved.program, cases, found), usage + before, model.learnt


def _plain(saved: Saved, settings: Settings, found: _Judged) -> dict[str, Any]:
    from crb_dspy.evaluation.failures import reasons
    from crb_dspy.scoring.table import plain

    errors = [row for row in found.rows if row.error]
    return {
        "program": saved.origin.program,
        "model": settings.model,
        "score": plain(asdict(found.estimate)),
        "summary": plain(found.summary),
        "categories": {key: plain(metrics) for key, metrics in found.categories.items()},
        "cells": len(found.rows),
        "errors": len(errors),
        "salvaged": sum(row.salvaged for row in errors),
        "failed": sum(row.failed for row in errors),
        "reasons": reasons(row.error for row in errors if row.failed),
        "server": found.learnt.plain(),
        "usage": asdict(found.usage),
        **({"judge": asdict(found.judge.meter.usage)} if found.judge else {}),
        "seconds": found.seconds,
        "tuned": saved.origin.scores,
    }


def _table(saved: Saved, found: _Judged) -> None:
    from crb_dspy.evaluation.failures import reasons
    from crb_dspy.scoring.layout import families, metrics_table

    estimate, usage, summary = found.estimate, found.usage, found.summary
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
    print(f"errors     {len(errors)} of {len(found.rows)} cells, {salvaged} of them mended")
    for reason in reasons(row.error for row in errors if row.failed):
        print(f"           {reason}")
    for line in found.learnt.lines():
        print(f"server     {line}")
    print(f"calls      {usage.calls}, {usage.cached} more from the cache, {usage.lost} lost")
    print(
        f"tokens     {usage.prompt_tokens} sent ({usage.computed_tokens} computed), "
        f"{usage.completion_tokens} generated"
    )
    if found.judge:
        asked = found.judge.meter.usage
        told = f"{asked.calls} calls, {asked.cached} more from the cache, {asked.lost} lost"
        print(f"judge      {found.judge.settings.model}: {told}")
    print(f"seconds    {found.seconds:.0f}\n")
    sets = {"all": summary, **found.categories}
    for names in families(list(summary)).values():
        print(*metrics_table(names, sets, screen(100)), "", sep="\n")


if __name__ == "__main__":
    run(main)
