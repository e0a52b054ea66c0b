"""MedCaseReasoning: cases with their diagnosis and the clinicians' reasons for it.

Rows (CSV, parquet, JSON lines, or the hub by the name "medcasereasoning") have `case_prompt`,
`final_diagnosis` and `diagnostic_reasoning`, a numbered list; `pmcid` is the id. The first category
that holds an answer gets diagnosis and points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from crb_dspy.data.benchmarks.source import Benchmark, Raw, hub_rows, table_columns, table_rows
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

NAME = "medcasereasoning"
HUB = "zou-lab/MedCaseReasoning"
BENCHMARKS = (
    Benchmark(
        "MedCaseReasoning",
        NAME,
        f"13,000 diagnostic cases with reasoning (hub {HUB}; --data {NAME})",
        "a stand-in only",
    ),
)
_COLUMNS = {"case_prompt", "final_diagnosis"}
_POINT = re.compile(r"(?:^|\n|\s)\d{1,2}[.)]\s+")


def claims(source: str) -> bool:
    """Take the name, and tables with its columns."""
    return source == NAME or table_columns(source) >= _COLUMNS


def read(source: str, schema: Schema) -> Raw:
    """Read the rows; UserError names a faulty one."""
    rows: Iterable[Mapping[str, Any]]
    rows = hub_rows(HUB, "test", source) if source == NAME else table_rows(source)
    key = next((c.key for c in schema.categories if c.kind == "answer"), None)
    if key is None:
        raise UserError(f"{source}: holds diagnoses; take schema {NAME}, or one of kind answer")
    cases: dict[str, Case] = {}
    for number, row in enumerate(rows, 1):
        where = f"{source}, row {number}"
        text, diagnosis = (str(row.get(name) or "").strip() for name in sorted(_COLUMNS))
        if not text or not diagnosis:
            raise UserError(f"{where}: case_prompt or final_diagnosis is empty")
        gold = {k: kind.gold(None) for k, kind in schema.kinds.items()}
        told = {
            "answers": [diagnosis],
            "points": points(str(row.get("diagnostic_reasoning") or "")),
        }
        gold[key] = schema.kinds[key].gold(told)
        name = str(row.get("pmcid") or number)
        # Two cases of one paper stay together.
        own = name if name not in cases else f"{name}-{number}"
        cases[own] = Case(own, {"Case report": text}, gold, name)
    return Raw(tuple(cases.values()))


def points(reasoning: str) -> list[str]:
    """Return the points of a numbered list; of a text without numbers, the text."""
    return [point for part in _POINT.split(reasoning) if (point := " ".join(part.split()))]
