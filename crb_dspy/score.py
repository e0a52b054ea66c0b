"""Score anybody's predictions against gold, without this project's programs.

python -m crb_dspy.score --gold GOLD.jsonl --pred PRED.jsonl
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import run
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.scoring.table import Scores

FAMILIES = ("objective", "paper")


def main(argv: list[str]) -> int:
    """Read the arguments, score, print."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.benchmarks import load
    from crb_dspy.benchmarks.predictions import read_predictions
    from crb_dspy.schema import load_schema
    from crb_dspy.scoring.table import score

    families = _families(arguments.metrics)
    schema = load_schema(arguments.schema)
    cases = [case for case in load(arguments.gold, schema).cases if case.gold is not None]
    if not cases:
        raise UserError(f"{arguments.gold}: no case has gold")
    ids = [case.id for case in cases]
    predictions = read_predictions(
        Path(arguments.pred), schema.keys, ids, allow_missing=arguments.allow_missing
    )
    scores = score(cases, schema.keys, predictions, families)
    printers = {"table": _table, "json": _json, "csv": _csv}
    printers[arguments.format](scores, cells=arguments.cells)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crb_dspy.score",
        description="Score predictions against gold: the objective, and the paper's metrics.",
        epilog='A prediction is a line {"id": ..., "findings": {category: [quote, ...]}}.',
    )
    parser.add_argument("--gold", required=True, help="case JSONL, hub table or brat folder")
    parser.add_argument("--pred", required=True, help="predictions, one JSON object a line")
    parser.add_argument("--schema", default="casereportbench", help="name or TOML file")
    parser.add_argument("--metrics", default="objective,paper", help="objective, paper, or both")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--cells", action="store_true", help="also every case and category")
    parser.add_argument("--allow-missing", action="store_true", help="missing ids found nothing")
    return parser


def _families(text: str) -> list[str]:
    from crb_dspy.schema import unknown

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
    for row in _rows(scores, cells=cells, places=6):
        out.writerow(row)


def _table(scores: Scores, *, cells: bool) -> None:
    """Print metrics as rows and categories as columns, since there are more metrics than fit."""
    rows = _rows(scores, cells=False, places=3)
    for column in zip(*rows, strict=True):
        print(f"{column[0]:20}" + "".join(f"{text:>12}" for text in column[1:]))
    for case, key, metrics, reason in scores.cells if cells else ():
        print(f"{case} {key} {metrics.get('score', float('nan')):.3f} {reason}")


def _rows(scores: Scores, *, cells: bool, places: int) -> list[Sequence[Any]]:
    if cells:
        names = list(scores.cells[0][2])
        head: list[Sequence[Any]] = [["id", "category", *names, "reason"]]
        return head + [
            [case, key, *(_number(metrics[name], places) for name in names), reason]
            for case, key, metrics, reason in scores.cells
        ]
    names = list(scores.summary)
    sets = {"all": scores.summary, **scores.categories}
    body = [[key, *(_number(m[name], places) for name in names)] for key, m in sets.items()]
    return [["category", *names], *body]


def _number(value: float, places: int) -> str:
    return "" if value != value else f"{value:.{places}f}"


if __name__ == "__main__":
    run(main)
