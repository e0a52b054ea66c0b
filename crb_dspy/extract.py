"""Run a saved program on one's own reports.

python -m crb_dspy.extract PROGRAM --input FILES|FOLDER|- --out findings.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import run

if TYPE_CHECKING:
    from crb_dspy.extracting.extraction import Summary


def main(argv: list[str]) -> int:
    """Read the arguments, extract, print a summary."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.extracting.extraction import Job, extract, saved_program, settings_for
    from crb_dspy.readers import reports

    saved = saved_program(arguments.program)
    settings = settings_for(saved.origin, arguments.model, arguments.api_base, arguments.threads)
    found = reports(arguments.input, arguments.out)
    summary = extract(Job(saved, settings, found, arguments.out))
    _report(summary, found.ignored, arguments.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crb_dspy.extract",
        description="Run a saved program on reports: text, case JSONL, JATS XML.",
        epilog="The same command again goes on where an interrupted run stopped.",
    )
    parser.add_argument("program", help="a program.json, the folder it is in, or the id of a run")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="files, folders with all below them, or - for a text on stdin",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="JSONL to write, a line a report, in their order"
    )
    parser.add_argument("--model", help="another model than the program was tuned for")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--threads", type=int, default=1, help="calls under way at once")
    return parser


def _report(summary: Summary, ignored: int, out: Path) -> None:
    counts, usage = summary.counts, summary.usage
    print(
        f"reports    {counts.reports}, {summary.kept} of them from an earlier run, "
        f"{summary.unreadable} not readable; {ignored} files of other kinds passed over"
    )
    print(f"findings   {counts.findings}, {counts.ungrounded} of them not in their report")
    print(f"errors     {counts.failed} of {counts.cells} cells, {counts.mended} more mended")
    print(f"calls      {usage.calls}, {usage.cached} more from the cache, {usage.lost} lost")
    print(f"tokens     {usage.prompt_tokens} sent, {usage.completion_tokens} generated")
    print(f"written    {out}")


if __name__ == "__main__":
    run(main)
