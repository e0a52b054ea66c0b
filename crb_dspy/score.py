"""Score anybody's predictions against gold, without this project's programs.

python -m crb_dspy.score --gold GOLD.jsonl --pred PRED.jsonl
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.scoring.table import Scores

FAMILIES = ("objective", "paper", "field")


def main(argv: list[str]) -> int:
    """Read the arguments, score, print."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.benchmarks.predictions import read_predictions
    from crb_dspy.data.schema import load_schema
    from crb_dspy.scoring.table import score

    families = _families(arguments.metrics)
    schema = load_schema(arguments.schema)
    cases = [case for case in load(arguments.gold, schema).cases if case.gold is not None]
    if not cases:
        raise UserError(f"{arguments.gold}: no case has gold")
    ids = [case.id for case in cases]
    predictions = read_predictions(
        Path(arguments.pred), schema.kinds, ids, allow_missing=arguments.allow_missing
    )
    kinds = schema.fitted(cases).kinds
    scores = score(cases, schema.keys, predictions, families, kinds)
    printers = {"table": _table, "json": _json, "csv": _csv}
    printers[arguments.format](scores, cells=arguments.cells)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.score",
        description="Score predictions against gold: the objective, the paper's metrics, and "
        "precision, recall and F1 as the field reports them.",
        epilog='A prediction is a line {"id": ..., "findings": {category: [quote, ...]}}.',
    )
    parser.add_argument("--gold", required=True, help="case JSONL, hub table or brat folder")
    parser.add_argument("--pred", required=True, help="predictions, one JSON object a line")
    parser.add_argument("--schema", default="casereportbench", help="name or TOML file")
    parser.add_argument(
        "--metrics",
        default=",".join(FAMILIES),
        help="objective, paper, field, or some (default: all)",
    )
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--cells", action="store_true", help="also every case and category")
    parser.add_argument("--allow-missing", action="store_true", help="missing ids found nothing")
    return parser


def _families(text: str) -> list[str]:
    from crb_dspy.errors import unknown

    families = [name.strip() for name in text.split(",") if name.strip()]
    for name in families or [text]:
        if name not in FAMILIES:
            raise UserError(f"--metrics: {unknown('metrics', name, FAMILIES)}")
    return families


def _json(scores: Scores, *, cells: bool) -> None:
    from crb_dspy.scoring.table import plain

    print(
        json.dumps(
            {
                "summary": plain(scores.summary),
                "categories": {key: plain(metrics) for key, metrics in scores.categories.items()},
                "cells": [
                    {"id": case, "category": key, **plain(metrics), "reason": reason}
                    for case, key, metrics, reason in scores.cells
                ],
            },
            ensure_ascii=False,
        )
    )


def _csv(scores: Scores, *, cells: bool) -> None:
    out = csv.writer(sys.stdout)
    for row in _rows(scores, cells=cells):
        out.writerow(row)


def _table(scores: Scores, *, cells: bool) -> None:
    """Print a table for each family, no wider than the terminal."""
    from crb_dspy.scoring.layout import families, field_table, metrics_table

    width = shutil.get_terminal_size().columns
    for family, names in families(list(scores.summary)).items():
        print(family)
        if family == "field":
            lines = field_table(scores.summary, scores.categories, width)
        else:
            columns = {"all": scores.summary, **scores.categories}
            lines = metrics_table(names, columns, width)
        print("\n".join(lines), end="\n\n")
    for case, key, metrics, reason in scores.cells if cells else ():
        line = f"{case} {key} {metrics.get('score', float('nan')):.3f} {reason}"
        print(textwrap.fill(line, width, subsequent_indent="  "))


def _rows(scores: Scores, *, cells: bool) -> list[list[str]]:
    from crb_dspy.scoring.layout import number

    if cells:
        names = list(dict.fromkeys(name for cell in scores.cells for name in cell[2]))
        head = ["id", "category", *names, "reason"]
        return [head] + [
            [case, key, *(number(metrics.get(name, math.nan), 6) for name in names), reason]
            for case, key, metrics, reason in scores.cells
        ]
    names = list(scores.summary)
    sets = {"all": scores.summary, **scores.categories}
    # An average over categories is nothing that one of them has.
    body = [[key, *(number(m.get(name, math.nan), 6) for name in names)] for key, m in sets.items()]
    return [["category", *names], *body]


if __name__ == "__main__":
    run(main)
