"""What the answers of published systems gain by a sentence classifier beside them, by folds.

python bench/given.py --predictions FILE [SYSTEM ...] [--data CASES] [--folds 5] [--json]

FILE has lines {"system": ..., "id": ..., "findings": {category: [quote, ...]}}; without names, all
its systems. CRB_REAL_DATA names the folder of the cases unless --data does. Each case is judged
once, by a program chosen and a classifier trained on the other folds: the real search with program
`given` and optimizer `auto` without new prompts. No call. Printed: score, F1 over cells with gold,
share of empty cells left empty and negations found, before and after, and the difference with its
95 % interval over groups.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.command import Parser, run
from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.plan import Plan, plan
from crb_dspy.compile.stages import Stages
from crb_dspy.errors import UserError, unknown
from crb_dspy.evaluation import figures
from crb_dspy.evaluation.asking import evaluate
from crb_dspy.evaluation.rows import Row
from crb_dspy.models.budget import Budget
from crb_dspy.retrieval.support import Learnt, learn
from crb_dspy.tuning.search import Search

# Two reports of one disease, which the table does not say.
GROUPS = {"PMC6453830": "H syndrome", "PMC6536078": "H syndrome"}
NAMES = ("score", "nonempty_f1", "empty_agreement", "negation_recall")
_LEARNT: dict[str, Learnt] = {}


def main(arguments: list[str]) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--predictions", required=True, type=Path)
    parser.add_argument("--data", default="$CRB_REAL_DATA/casereportbench/gold_24.jsonl")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    lines = options.predictions.read_text("utf-8").splitlines()
    known: dict[str, list[str]] = {}
    for line in lines:
        known.setdefault(json.loads(line)["system"], []).append(line)
    if missing := [system for system in options.systems if system not in known]:
        raise UserError(unknown("system", missing[0], sorted(known)))
    for system in options.systems or sorted(known):
        found = result(known[system], options)
        if options.json:
            print(json.dumps({"system": system, **found}), flush=True)
            continue
        before, after = (" ".join(f"{found[side][n]:.3f}" for n in NAMES) for side in SIDES)
        print(f"{system:36}{before}  {after}  {' '.join(found['difference'])}", flush=True)
    return 0


SIDES = ("before", "after")


def result(lines: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Judge one system's answers before and after."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.jsonl"
        rows = [{name: json.loads(line)[name] for name in ("id", "findings")} for line in lines]
        file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        before, after = judged(planned(str(file), options))
    gain = figures.difference(before, after)
    told = (gain.difference, gain.low, gain.high)
    return {
        "before": figures.metrics(before),
        "after": figures.metrics(after),
        "difference": [f"{value:+.3f}" for value in told],
    }


def planned(predictions: str, options: argparse.Namespace) -> Plan:
    settings = {
        "data": options.data,
        "categories": ["all"],
        "groups": GROUPS,
        "folds": options.folds,
        "split": [0.1, 0.8, 0.1],
        "program": "given",
        "program_options": {"predictions": predictions},
        "model": "none",
        "options": {"candidates": 0},
    }
    return plan(read_experiment(None, settings))


def judged(experiment: Plan) -> tuple[list[Row], list[Row]]:
    """Search on each fold's other cases, and judge its own."""
    before, after = list[Row](), list[Row]()
    for split, sides in zip(experiment.folds, experiment.sides, strict=False):
        if split.fingerprint not in _LEARNT:
            known = (*split.train, *split.validation)
            _LEARNT[split.fingerprint] = learn(known, experiment.schema)
        learnt = _LEARNT[split.fingerprint]
        search = Search(experiment.tuning, sides, Budget(), Stages({}, []), learnt=learnt)
        before += evaluate(experiment.tuning.program, split.test)
        after += evaluate(search.run().program, split.test)
    return before, after


if __name__ == "__main__":
    run(main)
