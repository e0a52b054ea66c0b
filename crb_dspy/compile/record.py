"""What MLflow gets of a compile: metrics, tables, a run below it for each part, and its files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from crb_dspy.compile.artifacts import columns, write_outputs
from crb_dspy.compile.plan import Plan
from crb_dspy.compile.price import per_report, seconds_per_report
from crb_dspy.compile.result import Result, headline, metrics, shortly, told
from crb_dspy.evaluation import figures
from crb_dspy.files import as_json
from crb_dspy.program import ExtractionProgram
from crb_dspy.retrieval.embeddings import vectors
from crb_dspy.scoring.table import score
from crb_dspy.tracking import store
from crb_dspy.tracking.run import Run, newest_prompt
from crb_dspy.tuning.gate import Verdict
from crb_dspy.tuning.ledger import Record, series

# What MLflow keeps of a gate's paired difference.
JUDGED = ("difference", "low", "high", "p")


def tried(planned: Plan) -> None:
    """UserError, before any model is asked, if store, registry or embeddings cannot be used."""
    if planned.experiment.embeddings:
        vectors(planned.experiment.embeddings, ["tried"])
    client = store.connect()
    if planned.experiment.register_prompts:
        for name in _templates(planned, planned.tuning.program):
            newest_prompt(client, name)


def record(planned: Plan, run: Run, tuned: ExtractionProgram, result: Result) -> None:
    """Write and log what a compile leaves behind."""
    for path in write_outputs(planned, tuned, result):
        run.keep(path)
    run.table("cells.json", columns(result))
    run.table("candidates.json", _candidates(result.candidates))
    if (told := _kinds(result))["category"]:
        run.table("kinds.json", told)
    run.batch(run.id, {"few_shot": tuned.few_shot}, {})
    run.dataset(
        planned.schema.name,
        planned.loaded.fingerprint,
        columns=planned.schema.keys,
        profile={"cases": len(planned.loaded.cases)},
    )
    for verdict in result.verdicts:
        rows = [row for row in result.candidates if row["part"] == verdict.part]
        gain = verdict.difference
        gated = {f"gate/{name}": getattr(gain, name) for name in JUDGED} if gain else {}
        run.child(
            verdict.part,
            {"part": verdict.part, "outcome": verdict.outcome, "candidates": len(rows)},
            {
                "validation/score": series(rows),
                **{name: [value] for name, value in gated.items() if not math.isnan(value)},
                **{f"expected/{name}": [value] for name, value in _expected(verdict).items()},
            },
        )
    cases, model = planned.loaded.cases, planned.experiment.model
    use = per_report(tuned, cases, result.tuned, model)
    use |= seconds_per_report(tuned, cases, result.tuned, result.usages["task"])
    run.log(metrics(result) | _field(planned, result) | use)
    if result.stopped:
        run.tag("stopped", result.stopped)
    run.tag("verdict", headline(result))
    run.tag("result", shortly(result))
    run.describe(_description(result))
    if planned.experiment.register_prompts:
        run.register_prompts(_templates(planned, tuned))
    if count := planned.experiment.traces:
        judged = {row.case for row in result.tuned}
        reports = {c.id: c.text for c in planned.loaded.cases if c.id in judged}
        run.traces(dict(list(reports.items())[:count]), result.tuned)


def _field(planned: Plan, result: Result) -> dict[str, float]:
    """Return precision, recall and F1 over the test cells as papers report them."""
    found: dict[str, dict[str, Sequence[str]]] = {}
    for row in result.tuned:
        found.setdefault(row.case, {})[row.category] = row.predicted
    cases = [case for case in planned.loaded.cases if case.id in found]
    schema = planned.schema.where({k: v.verbatim for k, v in planned.schema.kinds.items()})
    metrics = score(cases, schema.keys, found, ["field"]).summary if schema else {}
    averages = {n: value for n, value in metrics.items() if "_micro" in n or "_macro" in n}
    return {f"field/{n}": value for n, value in averages.items() if not math.isnan(value)}


def _kinds(result: Result) -> dict[str, list[Any]]:
    """Return what the kinds of categories measure, of the seed and of the tuned program."""
    seed, tuned = (figures.of_kinds(rows) for rows in (result.baseline, result.tuned))
    columns: dict[str, list[Any]] = {n: [] for n in ("category", "metric", "seed", "tuned")}
    for key, own in tuned.items():
        for name, value in own.items():
            before = seed.get(key, {}).get(name, math.nan)
            pair = (None if math.isnan(v) else v for v in (before, value))
            for column, cell in zip(columns.values(), (key, name, *pair), strict=True):
                column.append(cell)
    return columns


def _expected(verdict: Verdict) -> dict[str, float]:
    """Return what an adopted part is expected to gain, and how surely; nothing of others."""
    known = {"gain": verdict.gain, "chance": verdict.chance}
    return {name: value for name, value in known.items() if not math.isnan(value)}


def _candidates(rows: Sequence[Record]) -> dict[str, list[Any]]:
    """Return the record of the search as columns, each prompt as one text."""
    names = [name for name in (rows[0] if rows else {}) if name not in ("by_case", "prompt")]
    texts = [as_json(row["prompt"], indent=1) for row in rows]
    return {**{name: [row[name] for row in rows] for name in names}, "prompt": texts}


def _templates(planned: Plan, tuned: ExtractionProgram) -> dict[str, str | list[dict[str, str]]]:
    # MLflow takes no other characters.
    name = re.sub(r"[^\w.-]", "-", f"{planned.schema.name}.{planned.experiment.name}")
    return {f"{name}.{n}": part.messages("{{report}}") for n, part in tuned.parts.items()}


def _description(result: Result) -> str:
    parts = "\n".join(f"- {name}: {verdict}" for name, verdict in result.parts)
    stopped = f"\n\nStopped by its budget: {result.stopped}." if result.stopped else ""
    return f"{headline(result)}. {told(result)}{stopped}\n\n{parts}"
