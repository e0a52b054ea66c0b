"""Show what there is to choose from.

python -m crb_dspy.list programs|optimizers|schemas|headings|kinds|benchmarks [--verbose]
    [--data CASES] [--experiment EXPERIMENT.toml]
"""

from __future__ import annotations

import argparse
import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crb_dspy.command import Parser, hung, run
from crb_dspy.files import QUICKSTART

KINDS = ("programs", "optimizers", "schemas", "headings", "kinds", "benchmarks")


def main(argv: list[str]) -> int:
    """Read the arguments, look up, print."""
    arguments = _parser().parse_args(argv)
    printers: dict[str, Callable[[argparse.Namespace], None]] = {
        "programs": _programs,
        "optimizers": _optimizers,
        "schemas": _schemas,
        "headings": _headings,
        "kinds": _kinds,
        "benchmarks": _benchmarks,
    }
    printers[arguments.kind](arguments)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.list",
        description="List programs, optimizers, schemas, kinds of categories, benchmarks, or where "
        "the headings of cases lead.",
    )
    parser.add_argument("kind", choices=KINDS)
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
            print(_hung("", f"  {_asks(name, arguments.experiment or QUICKSTART)}", 20), end="\n\n")


def _asks(name: str, path: Path) -> str:
    """Say what an optimizer with its default options would ask in an experiment."""
    from crb_dspy.compile.config import read_experiment
    from crb_dspy.compile.plan import plan

    known = plan(read_experiment(path, {"optimizer": name})).estimate
    return f"asks in {path.name}: at most {known.calls} calls, about {known.tokens:,} prompt tokens"


def _entry(name: str, described: object, function: Callable[..., Any], *, verbose: bool) -> None:
    first, _, rest = (inspect.getdoc(described) or "").partition("\n")
    print(_hung(name, first, 20))
    if not verbose:
        return
    parameters = inspect.signature(function).parameters.values()
    options = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for paragraph in filter(None, rest.strip().split("\n\n")):
        print(_hung("", " ".join(paragraph.split()), 20))
    for option in options:
        print(_hung("", f"  {option.name} = {option.default!r}", 20))


def _hung(name: str, text: str, indent: int) -> str:
    return hung(name, text, indent, 100)


def _schemas(arguments: argparse.Namespace) -> None:
    from crb_dspy.data.schema import FOLDER, load_schema

    for path in sorted(FOLDER.glob("*.toml")):
        schema = load_schema(path.stem)
        print(_hung(schema.name, ", ".join(schema.keys), 20))
        for category in schema.categories if arguments.verbose else ():
            print(_hung("", f"  {category.key}: {category.guidance}", 20))


def _kinds(arguments: argparse.Namespace) -> None:
    from crb_dspy.data.kind import find_kind, kinds

    for name in kinds():
        kind = find_kind(name)
        print(_hung(name, kind.about, 20))
        for option, field in kind.Options.model_fields.items() if arguments.verbose else ():
            default = "" if field.is_required() else f" = {field.default!r}"
            print(_hung("", f"  {option}{default}", 20))


def _benchmarks(arguments: argparse.Namespace) -> None:
    from crb_dspy.data.benchmarks import benchmarks

    for own in benchmarks():
        print(_hung(own.name, own.about, 24))
        print(_hung("", f"schema {own.schema}; tried on {own.tried}", 24))


def _headings(arguments: argparse.Namespace) -> None:
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.schema import load_schema

    schema = load_schema(arguments.schema)
    cases = load(arguments.data, schema).cases
    times = Counter(heading for case in cases for heading in case.sections)
    for heading, count in times.most_common():
        print(f"{count:5}  {schema.owner(heading) or 'all':14}{heading}")


if __name__ == "__main__":
    run(main)
