"""Show what trivial systems, and a classifier of sentences, get from every metric.

python -m crb_dspy.audit --data CASES
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.data.schema import Schema
    from crb_dspy.scoring.table import Predictions


def main(argv: list[str]) -> int:
    """Read the arguments, audit, print."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.schema import load_schema
    from crb_dspy.scoring.audit import audit
    from crb_dspy.scoring.layout import families, metrics_table
    from crb_dspy.scoring.table import plain

    schema = load_schema(arguments.schema)
    cases = [case for case in load(arguments.data, schema).cases if case.gold is not None]
    if not cases:
        raise UserError(f"{arguments.data}: no case has gold")
    schema = schema.fitted(cases)
    results = audit(cases, schema.keys, _learnt(cases, schema), schema.kinds)
    if arguments.json:
        print(json.dumps({name: plain(metrics) for name, metrics in results.items()}))
        return 0
    print(f"{len(cases)} cases, {len(schema.keys)} categories")
    width = shutil.get_terminal_size().columns
    for family, names in families(list(results["gold"])).items():
        # The rest of the field's names are what its F1 is made of.
        shown = [name for name in names if family != "field" or "_f1_" in name]
        print(f"\n{family}", *metrics_table(shown, results, width), sep="\n")
    return 0


def _learnt(cases: Sequence[Case], schema: Schema) -> dict[str, Predictions]:
    """Return what systems find that ask no model and learnt from other groups of the cases."""
    from crb_dspy.evaluation.systems import crossfitted

    return {name.replace(" ", "_"): found for name, found in crossfitted(cases, schema).items()}


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.audit",
        description="Show what systems that understand nothing get from every metric.",
    )
    parser.add_argument("--data", default="sample", help="annotated cases (default: sample)")
    parser.add_argument("--schema", default="casereportbench", help="name or TOML file")
    parser.add_argument("--json", action="store_true", help="{system: {metric: value}}")
    return parser


if __name__ == "__main__":
    run(main)
