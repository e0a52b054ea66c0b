"""Choose which reports to annotate next, and write them with a program's findings to correct.

python -m crb_dspy.suggest PROGRAM --input FOLDER --n 10 --out tasks.json --to labelstudio
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import Parser, columns_flag, run, trust_flag
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.convert.documents import Document
    from crb_dspy.data.cases import Case
    from crb_dspy.saved import Saved
    from crb_dspy.suggest.choice import Candidate, Choice


def main(argv: list[str]) -> int:
    """Read the arguments, extract, choose, write, say why each."""
    arguments = _parser().parse_args(argv)
    if arguments.n < 1:
        raise UserError(f"--n {arguments.n}: choose at least one report")
    from crb_dspy.convert import formats
    from crb_dspy.convert.documents import answered
    from crb_dspy.convert.formats import cases
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.readers import reports
    from crb_dspy.data.readers.tables import parsed
    from crb_dspy.extract.extraction import Job, extract
    from crb_dspy.saved import open_program

    target, saved = (
        formats.find(arguments.to),
        open_program(arguments.program, trust=arguments.trust),
    )
    known = load(arguments.data, saved.whole_schema).cases if arguments.data else ()
    settings = saved.origin.settings(
        arguments.model, arguments.api_base, arguments.threads, trust=arguments.trust
    )
    # Kept, so that the same command again asks nothing anew.
    findings = arguments.out.with_name(f"{arguments.out.name}.findings.jsonl")
    found = reports(arguments.input, findings, parsed(arguments.columns))
    extract(Job(saved, settings, found, findings))
    own = {key: kind for key, kind in saved.schema.kinds.items() if not kind.verbatim}
    documents = {d.id: answered(d, own) for d in cases.read(findings) if d.text.strip()}
    chosen = _chosen(saved, known, list(documents.values()), findings, arguments.n)
    if not chosen:
        raise UserError(f"{arguments.data}: every report of --input is annotated already")
    target.write(arguments.out, [documents[choice.id] for choice in chosen])
    _report(chosen, len(documents), arguments.out)
    for line in formats.kept([documents[choice.id] for choice in chosen], arguments.to):
        print(line)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.suggest",
        description="Choose which reports to annotate next: unlike those there are, with findings "
        "of categories that lack examples, with doubtful answers.",
    )
    parser.add_argument("program", help="a program.json, the folder it is in, or the id of a run")
    parser.add_argument("--input", nargs="+", required=True, metavar="PATH", help="as of extract")
    columns_flag(parser)
    parser.add_argument("--n", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--to", default="labelstudio", metavar="FORMAT", help="as of convert")
    parser.add_argument("--data", help="what is annotated already")
    parser.add_argument("--model", help="another model than the program was tuned for")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--threads", type=int, default=1, help="calls under way at once")
    trust_flag(parser)
    return parser


def _chosen(
    saved: Saved, known: Sequence[Case], documents: Sequence[Document], findings: Path, n: int
) -> list[Choice]:
    from crb_dspy.suggest.choice import choose, words

    have = Counter(dict.fromkeys(saved.schema.keys, 0))
    kinds = saved.schema.kinds
    golds = [(case.gold or {}, key) for case in known for key in kinds]
    have.update(key for gold, key in golds if kinds[key].sought(gold.get(key, ())))
    done = {case.id for case in known} | {case.text for case in known}
    rows = (json.loads(line) for line in findings.read_text("utf-8").split("\n") if line)
    doubts = {row["id"]: _doubt(row) for row in rows}
    left = [d for d in documents if d.id not in done and d.text not in done]
    candidates = [_candidate(document, doubts[document.id]) for document in left]
    sought = {key: have[key] for key in saved.schema.keys}
    return choose(candidates, n, [words(case.text) for case in known], sought)


def _candidate(document: Document, doubt: float) -> Candidate:
    from crb_dspy.suggest.choice import Candidate, words

    found = frozenset(mark.category for mark in document.marks or ())
    told = {k for k, own in document.answers.items() if own.kind.sought(own.items)}
    return Candidate(document.id, words(document.text), found | told, doubt)


def _doubt(row: dict[str, Any]) -> float:
    """Return the share of categories whose answer failed, was mended, or is not in the report."""
    # What quotes nothing has no place.
    known = row["findings"].items()
    loose = {key for key, found in known if any(f.get("start", 0) is None for f in found)}
    doubtful = loose | set(row["errors"]) | set(row["mended"])
    return len(doubtful) / max(1, len(row["findings"]))


def _report(chosen: Sequence[Choice], of: int, out: Path) -> None:
    print(f"reports    {len(chosen)} of {of}, the most useful first")
    print(f"{'':11}{'lacking':>8}{'unlike':>8}{'doubt':>8}  report")
    for one in chosen:
        shares = "".join(f"{share:>8.2f}" for share in (one.need, one.novelty, one.doubt))
        print(f"{'':11}{shares}  {one.id}")
    print(f"written    {out}, with the program's findings to correct")


if __name__ == "__main__":
    run(main)
