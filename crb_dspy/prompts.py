"""Print exactly what a program would send.

python -m crb_dspy.prompts PROGRAM [--category GI] [--case ID] [--format text|json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import Parser, run, trust_flag
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.data.schema import Schema
    from crb_dspy.program import ExtractionProgram, Part

Count = Callable[[str], int]


def main(argv: list[str]) -> int:
    """Read the arguments, render, print."""
    arguments = _parser().parse_args(argv)
    program, schema = _program(arguments)
    from crb_dspy.errors import unknown

    if arguments.category and arguments.category not in program.keys:
        raise UserError(unknown("category", arguments.category, program.keys))
    case = _case(arguments, schema)
    parts = {
        name: part
        for name, part in program.parts.items()
        if not arguments.category or arguments.category in part.keys
    }
    shown = _counted(
        arguments.model, lambda count: [_shown(n, p, case, count) for n, p in parts.items()]
    )
    if arguments.format == "json":
        print(json.dumps(shown, ensure_ascii=False, indent=1))
        return 0
    for prompt in shown:
        tokens = ", ".join(f"{name} {count}" for name, count in prompt["tokens"].items())
        print(f"=== {prompt['part']}: tokens {'' if arguments.model else '(estimated) '}{tokens}")
        for message in prompt["messages"]:
            print(f"--- {message['role']}\n{message['content']}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.prompts",
        description="Print exactly the messages that a program would send about a case.",
    )
    parser.add_argument("program", help="a catalog name, FILE.py:Class, or a compiled program.json")
    parser.add_argument("--category", help="only the prompt that asks for this category")
    parser.add_argument("--case", help="id of the case to show (default: the first)")
    parser.add_argument("--data", default="sample", help="where the case is (default: sample)")
    parser.add_argument("--schema", default="casereportbench", help="of a catalog program")
    parser.add_argument("--cot", action="store_true", help="with chain of thought")
    parser.add_argument("--model", help="local/NAME: count with its tokenizer")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    trust_flag(parser)
    return parser


def _program(arguments: argparse.Namespace) -> tuple[ExtractionProgram, Schema]:
    from crb_dspy.catalog import build_program
    from crb_dspy.data.schema import load_schema
    from crb_dspy.saved import load_program

    if arguments.program.endswith(".json"):
        saved = load_program(Path(arguments.program), trust=arguments.trust)
        return saved.program, saved.whole_schema
    schema = load_schema(arguments.schema)
    options = {"cot": True} if arguments.cot else {}
    return build_program(arguments.program, schema, options), schema


def _case(arguments: argparse.Namespace, schema: Schema) -> Case:
    from crb_dspy.data.benchmarks import load, sample
    from crb_dspy.errors import unknown

    # Its gold, which is not shown, is of categories of its own.
    own = sample.schema() if arguments.data == sample.NAME else schema
    cases = {case.id: case for case in load(arguments.data, own).cases}
    if arguments.case and arguments.case not in cases:
        raise UserError(f"{arguments.data}: {unknown('case', arguments.case, list(cases)[:50])}")
    return cases[arguments.case] if arguments.case else next(iter(cases.values()))


def _counted(
    model: str | None, render: Callable[[Count], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Render with the counter of a model's tokenizer, or of an estimate without one."""
    from crb_dspy.models.engine import estimated_tokens

    if not model:
        return render(estimated_tokens)
    from crb_dspy.files import FOLDER
    from crb_dspy.models.lm import Model
    from crb_dspy.models.settings import Settings

    opened = Model(Settings(model=model), FOLDER / "cache")
    try:
        return render(opened.engine.count)
    finally:
        opened.close()


def _shown(name: str, part: Part, case: Case, count: Count) -> dict[str, Any]:
    from crb_dspy.program.prompt import demonstrations, question

    report = part.shown(case)
    nearest = part.nearest(case)
    messages = part.messages(report, nearest)
    signature, demos = part.predict.signature, [*part.predict.demos, *nearest]
    examples, asked = demonstrations(signature, demos), question(signature)
    shared = messages[1]["content"][: -len(examples + asked)]
    texts = {
        "system": messages[0]["content"],
        "report": shared,
        "demonstrations": examples,
        "question": asked,
    }
    tokens = {label: count(text) if text else 0 for label, text in texts.items()}
    return {
        "part": name,
        "categories": list(part.keys),
        "case": case.id,
        "messages": messages,
        "tokens": {**tokens, "total": sum(tokens.values())},
    }


if __name__ == "__main__":
    run(main)
