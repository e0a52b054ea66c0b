"""Show what trivial systems get from every metric.

python -m crb_dspy.audit --data CASES
"""

from __future__ import annotations

import argparse
import json

from crb_dspy.command import run
from crb_dspy.errors import UserError


def main(argv: list[str]) -> int:
    """Read the arguments, audit, print."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.benchmarks import load
    from crb_dspy.schema import load_schema
    from crb_dspy.scoring.audit import audit
    from crb_dspy.scoring.table import plain

    schema = load_schema(arguments.schema)
    cases = [case for case in load(arguments.data, schema).cases if case.gold is not None]
    if not cases:
        raise UserError(f"{arguments.data}: no case has gold")
    results = audit(cases, schema.keys)
    if arguments.json:
        print(json.dumps({name: plain(metrics) for name, metrics in results.items()}))
        return 0
    print(f"{len(cases)} cases, {len(schema.keys)} categories")
    systems = list(results)
    print(f"{'':18}" + "".join(f"{system[:14]:>15}" for system in systems))
    for metric in results["gold"]:
        values = (results[system][metric] for system in systems)
        print(f"{metric:18}" + "".join(f"{value:>15.3f}" for value in values))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crb_dspy.audit",
        description="Show what systems that understand nothing get from every metric.",
    )
    parser.add_argument("--data", default="sample", help="annotated cases (default: sample)")
    parser.add_argument("--schema", default="casereportbench", help="name or TOML file")
    parser.add_argument("--json", action="store_true", help="{system: {metric: value}}")
    return parser


if __name__ == "__main__":
    run(main)
