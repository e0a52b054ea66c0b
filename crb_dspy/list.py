"""Show what there is to choose from.

python -m crb_dspy.list programs|optimizers|schemas|headings [--verbose] [--data CASES]
    [--experiment EXPERIMENT.toml]
"""

from __future__ import annotations

import argparse
import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crb_dspy.command import run

QUICKSTART = Path(__file__).parents[1] / "experiments" / "quickstart.toml"


def main(argv: list[str]) -> int:
    """Read the arguments, look up, print."""
    arguments = _parser().parse_args(argv)
    printers: dict[str, Callable[[argparse.Namespace], None]] = {
        "programs": _programs,
        "optimizers": _optimizers,
        "schemas": _schemas,
        "headings": _headings,
    }
    printers[arguments.kind](arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crb_dspy.list",
        description="List programs, optimizers, schemas, or where the headings of cases lead.",
    )
    parser.add_argument("kind", choices=("programs", "optimizers", "schemas", "headings"))
    parser.add_argument("--verbose", action="store_true", help="with description and options")
    parser.add_argument("--data", default="sample", help="cases for headings (default: sample)")
    parser.add_argument(
        "--experiment", type=Path, help="what optimizers would ask in it (default: the quickstart)"
    )
    parser.add_argument("--schema", default="casereportbench", help="rules for headings")
    return parser


def _programs(arguments: argparse.Namespace) -> None:
    from crb_dspy.catalog import find_program, names

    for name in names("programs"):
        program = find_program(name)
        _entry(name, program, program.build, verbose=arguments.verbose)


def _optimizers(arguments: argparse.Namespace) -> None:
    from crb_dspy.catalog import find_recipe, names

    for name in names("optimizers"):
        recipe = find_recipe(name, {})
        _entry(name, recipe, recipe, verbose=arguments.verbose)
        if arguments.verbose:
            print(f"{'':20}  {_asks(name, arguments.experiment or QUICKSTART)}\n")


def _asks(name: str, path: Path) -> str:
    """Say what an optimizer with its default options would ask in an experiment."""
    from crb_dspy.config import read_experiment
    from crb_dspy.running.estimate import estimate, total
    from crb_dspy.running.plan import plan

    calls, tokens = total(estimate(plan(read_experiment(path, {"optimizer": name}))))
    return f"asks in {path.name}: at most {calls} calls, about {tokens:,} prompt tokens"


def _entry(name: str, described: object, function: Callable[..., Any], *, verbose: bool) -> None:
    first, _, rest = (inspect.getdoc(described) or "").partition("\n")
    print(f"{name:20}{first}")
    if not verbose:
        return
    parameters = inspect.signature(function).parameters.values()
    options = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for line in rest.strip().splitlines():
        print(f"{'':20}{line}")
    for option in options:
        print(f"{'':20}  {option.name} = {option.default!r}")


def _schemas(arguments: argparse.Namespace) -> None:
    from crb_dspy.schema import FOLDER, load_schema

    for path in sorted(FOLDER.glob("*.toml")):
        schema = load_schema(path.stem)
        print(f"{schema.name:20}{', '.join(schema.keys)}")
        for category in schema.categories if arguments.verbose else ():
            print(f"{'':20}  {category.key}: {category.guidance}")


def _headings(arguments: argparse.Namespace) -> None:
    from crb_dspy.benchmarks import load
    from crb_dspy.schema import load_schema

    schema = load_schema(arguments.schema)
    cases = load(arguments.data, schema).cases
    times = Counter(heading for case in cases for heading in case.sections)
    for heading, count in times.most_common():
        print(f"{count:5}  {schema.owner(heading) or 'all':14}{heading}")


if __name__ == "__main__":
    run(main)
