"""Write a tuned program for another tool, with a proof that its prompts are the tuned ones.

python -m crb_dspy.export PROGRAM --to FORMAT --out PATH
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import Parser, columns_flag, hung, run, trust_flag
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.export._make import Trial
    from crb_dspy.export._seam import Export, Exporter
    from crb_dspy.saved import Saved

_CASES = 3
_INDENT = 15


def main(argv: list[str]) -> int:
    """Read the arguments, export, say what was written."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        _list()
        return 0
    for name in ("program", "to", "out"):
        if getattr(arguments, name) is None:
            option = "PROGRAM" if name == "program" else f"--{name}"
            raise UserError(f"{option} is missing; --list shows the formats")
    from crb_dspy.export._find import find

    exporter = find(arguments.to)
    _refuse(exporter, arguments)
    from crb_dspy.export._make import Request, earlier_files, make, narrowed
    from crb_dspy.saved import open_program

    earlier_files(arguments.out)  # a place that is refused costs no call
    saved = narrowed(open_program(arguments.program, trust=arguments.trust), arguments.category)
    request = Request(
        report_text=not arguments.no_report_text,
        check=not arguments.no_check,
        trial=_trial(saved, arguments),
        reports=_reports(arguments),
    )
    proof, export = make(exporter, saved, arguments.out, request)
    _report(exporter, export, proof, arguments.out)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.export",
        description="Write a tuned program for another tool, with a proof that its prompts are "
        "the tuned ones.",
    )
    parser.add_argument(
        "program", nargs="?", help="a program.json, the folder it is in, or the id of a run"
    )
    parser.add_argument("--to", metavar="FORMAT", help="see --list")
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--list", action="store_true", help="show the formats and what they lack")
    parser.add_argument(
        "--category", action="append", default=[], metavar="KEY", help="only this one (repeatable)"
    )
    parser.add_argument("--no-check", action="store_true", help="write without a proof")
    parser.add_argument("--no-report-text", action="store_true", help="leave demonstrations out")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="reports, for openai-batch")
    columns_flag(parser)
    parser.add_argument("--data", help="real cases to ask program and export about")
    parser.add_argument("--check-cases", type=int, default=_CASES, metavar="K", help="of --data")
    parser.add_argument("--model", help="to ask about --data (default: the one tuned for)")
    parser.add_argument("--api-base", help="its address")
    parser.add_argument("--threads", type=int, default=1, help="calls under way at once")
    trust_flag(parser)
    return parser


def _list() -> None:
    from crb_dspy.export._find import find, names
    from crb_dspy.export._seam import NEEDS

    for name in names():
        exporter = find(name)
        lacks = [text for need, text in NEEDS.items() if need not in exporter.carries]
        _say(hung(name, exporter.about, _INDENT))
        _say(hung("", f"lacks: {'; '.join(lacks) or 'nothing'}", _INDENT))


def _refuse(exporter: Exporter, arguments: argparse.Namespace) -> None:
    if exporter.wants_reports and not arguments.input:
        raise UserError(f"--to {exporter.name} holds requests about reports: give --input FOLDER")
    if arguments.input and not exporter.wants_reports:
        raise UserError(f"--to {exporter.name} holds no reports: leave --input out")
    if arguments.check_cases < 1:
        raise UserError(f"--check-cases {arguments.check_cases}: at least 1")


def _trial(saved: Saved, arguments: argparse.Namespace) -> Trial | None:
    if not arguments.data:
        return None
    from crb_dspy.export._cases import cases_of
    from crb_dspy.export._make import Trial

    settings = saved.origin.settings(
        arguments.model, arguments.api_base, arguments.threads, trust=arguments.trust
    )
    return Trial(cases_of(saved, arguments.data, arguments.check_cases), settings)


def _reports(arguments: argparse.Namespace) -> tuple[Any, ...]:
    if not arguments.input:
        return ()
    from crb_dspy.data.readers import reports
    from crb_dspy.data.readers.tables import parsed

    read = list(reports(arguments.input, arguments.out, parsed(arguments.columns)))
    if faulty := next((report for report in read if report.error), None):
        raise UserError(f"{faulty.source}: {faulty.error}")
    return tuple(report.case for report in read)


def _report(exporter: Exporter, export: Export, proof: dict[str, Any], out: Path) -> None:
    from crb_dspy.export._notes import checked, text_lines

    _say(f"written    {out}: {exporter.name}, prompts: {len(proof['prompts'])}")
    for line in checked(proof):
        _say(f"checked    {line}")
    for text in proof["lacks"].values():
        _say(f"lacks      {text}")
    for line in text_lines(export, proof["report_text"]):
        _say(f"text       {line}")
    for line in proof["published"]:
        _say(f"published  {line}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    run(main)
