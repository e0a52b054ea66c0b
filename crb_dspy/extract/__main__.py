"""Run a saved program on one's own reports.

python -m crb_dspy.extract PROGRAM --input FILES|FOLDER|- --out findings.jsonl
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import (
    Parser,
    asked_flags,
    check_batch,
    columns_flag,
    engine_flags,
    run,
    too_many,
    trust_flag,
)

if TYPE_CHECKING:
    from crb_dspy.extract.extraction import Summary


def main(argv: list[str]) -> int:
    """Read the arguments, extract, print a summary."""
    arguments = _parser().parse_args(argv)
    check_batch(arguments)
    from crb_dspy.data.readers import reports
    from crb_dspy.data.readers.tables import parsed
    from crb_dspy.extract.extraction import Job, extract
    from crb_dspy.models.budget import Caps
    from crb_dspy.saved import open_program

    saved = open_program(arguments.program, trust=arguments.trust)
    settings = saved.origin.asked(arguments)
    too_many(0, 0, arguments.max_failed)
    out = Path(arguments.out)
    found = reports(arguments.input, out, parsed(arguments.columns))
    caps = Caps(arguments.max_calls, arguments.max_tokens)
    job = Job(saved, settings, found, out, arguments.retry_failed, caps, arguments.batch)
    if arguments.engine == "ray":
        from crb_dspy.cluster.pool import Cluster
        from crb_dspy.extract.spread import Spread, spread

        summary = spread(Spread(job, Cluster(arguments.workers, arguments.address), arguments.out))
    else:
        summary = extract(job)
    _report(summary, found.ignored, arguments.out)
    counts = summary.counts
    return int(too_many(counts.failed, counts.cells, arguments.max_failed))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.extract",
        description="Run a saved program on reports: text, case JSONL, tables, JATS XML.",
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
    columns_flag(parser)
    parser.add_argument(
        "--out",
        required=True,
        help="JSONL to write, a line a report, in their order; with --engine ray a folder",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="ask again all that failed, also where a reason is not one that passes",
    )
    asked_flags(parser)
    engine_flags(parser)
    trust_flag(parser)
    return parser


def _report(summary: Summary, ignored: int, out: str) -> None:
    counts, usage = summary.counts, summary.usage
    print(
        f"reports    {counts.reports}, {summary.kept} of them from an earlier run, "
        f"{summary.unreadable} not readable; {ignored} files of other kinds passed over"
    )
    print(f"findings   {counts.findings}, {counts.ungrounded} of them not in their report")
    again = f"; {summary.again} calls that had failed were made again" if summary.again else ""
    print(f"errors     {counts.failed} of {counts.cells} cells, {counts.mended} more mended{again}")
    for reason in summary.reasons:
        print(f"           {reason}")
    if summary.passing:
        print(f"           {summary.passing} of them may pass: the same command asks them again")
    print(f"calls      {usage.calls}, {usage.cached} more from the cache, {usage.lost} lost")
    print(f"tokens     {usage.prompt_tokens} sent, {usage.completion_tokens} generated")
    for line in summary.learnt:
        print(f"server     {line}")
    print(f"written    {out}")


if __name__ == "__main__":
    run(main)
