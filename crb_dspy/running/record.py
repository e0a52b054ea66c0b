"""What MLflow gets of a compile: metrics, tables, a run below it for each part, and its files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from crb_dspy.mlflow_run import Run
from crb_dspy.program import ExtractionProgram
from crb_dspy.running.artifacts import columns, write_outputs
from crb_dspy.running.plan import Plan
from crb_dspy.running.result import Result, headline, metrics
from crb_dspy.tuning.ledger import Row as CandidateRow
from crb_dspy.tuning.ledger import series

# What MLflow keeps of a gate's paired difference.
JUDGED = ("difference", "low", "high", "p")


def record(planned: Plan, run: Run, tuned: ExtractionProgram, result: Result) -> None:
    """Write and log what a compile leaves behind."""
    for path in write_outputs(planned, tuned, result):
        run.keep(path)
    run.table("cells.json", columns(result))
    run.table("candidates.json", _candidates(result.candidates))
    few_shot = any(unit.predict.demos for unit in tuned.parts.values())
    run.batch(run.id, {"few_shot": few_shot}, {})
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
            },
        )
    run.log(metrics(result))
    if result.stopped:
        run.tag("stopped", result.stopped)
    run.tag("verdict", headline(result))
    run.describe(_description(result))
    if planned.experiment.register_prompts:
        run.register_prompts(_templates(planned, tuned))
    if count := planned.experiment.traces:
        judged = {row.case for row in result.tuned}
        reports = {c.id: c.text for c in planned.loaded.cases if c.id in judged}
        run.traces(dict(list(reports.items())[:count]), result.tuned)


def _candidates(rows: Sequence[CandidateRow]) -> dict[str, list[Any]]:
    """Return the record of the search as columns, each prompt as one text."""
    names = [name for name in (rows[0] if rows else {}) if name != "prompt"]
    texts = [json.dumps(row["prompt"], ensure_ascii=False, indent=1) for row in rows]
    return {**{name: [row[name] for row in rows] for name in names}, "prompt": texts}


def _templates(planned: Plan, tuned: ExtractionProgram) -> dict[str, str | list[dict[str, str]]]:
    # MLflow takes no other characters.
    name = re.sub(r"[^\w.-]", "-", f"{planned.schema.name}.{planned.experiment.name}")
    return {f"{name}.{n}": part.messages("{{report}}") for n, part in tuned.parts.items()}


def _description(result: Result) -> str:
    parts = "\n".join(f"- {name}: {verdict}" for name, verdict in result.parts)
    stopped = f"\n\nStopped by its budget: {result.stopped}." if result.stopped else ""
    return f"{headline(result)}{stopped}\n\n{parts}"
