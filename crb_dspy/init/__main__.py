"""Begin with one's own data: write a schema, an experiment and example cases.

python -m crb_dspy.init [FOLDER] [--data CASES] [--categories KEY,KEY] [--describe TEXT]
    [--category "KEY: KIND OPTIONS"]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError


def main(argv: list[str]) -> int:
    """Read the arguments, ask for what is missing on a terminal, draft, write, say what is next."""
    arguments = _asked(_parser().parse_args(argv))
    from crb_dspy.init.draft import Wish, draft, holding, plain
    from crb_dspy.init.written import FILES, annotated, write

    folder: Path = arguments.folder
    if there := next((folder / name for name in FILES if (folder / name).exists()), None):
        raise UserError(f"{there}: is there already; name another folder, or move it away")
    held = dict(map(holding, arguments.category))
    documents = annotated(arguments.data, {key: own.kind for key, own in held.items()})
    keys = [key.strip() for key in (arguments.categories or "").split(",") if key.strip()]
    wish = Wish.of(arguments.describe or "", keys, documents, held)
    if not wish.keys and not (wish.description and arguments.model):
        raise UserError(
            "no categories: give --categories KEY,KEY, annotated --data, or --describe with a "
            "--model that can draft them"
        )
    categories = (
        draft(wish, arguments.model, arguments.api_base) if arguments.model else plain(wish)
    )
    write(folder, categories, documents, arguments)
    _report(folder, len(categories), drafted=bool(arguments.model))
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.init",
        description="Write a schema, an experiment and example cases to begin with.",
        epilog="On a terminal, what is not given is asked for.",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="where to write (default: here)"
    )
    parser.add_argument("--data", type=Path, help="annotated cases: case JSONL, as of convert")
    parser.add_argument("--categories", metavar="KEY,KEY", help="default: those of the data")
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        metavar="KEY: KIND OPTIONS",
        help="a category, what it holds and its options in a few words; list kinds --verbose has "
        "them, docs/kinds.md shows some (repeatable)",
    )
    parser.add_argument("--describe", metavar="TEXT", help="what is to be found, in plain words")
    parser.add_argument("--model", help="drafts the schema, and is the experiment's")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    return parser


def _asked(arguments: argparse.Namespace) -> argparse.Namespace:
    given = (arguments.data, arguments.categories, arguments.category, arguments.describe)
    if any(given) or not sys.stdin.isatty():
        return arguments
    data = input("Annotated cases (a .jsonl file; empty for none): ").strip()
    arguments.data = Path(data) if data else None
    arguments.categories = input("Categories (KEY,KEY; empty for those of the cases): ").strip()
    arguments.describe = input("What is to be found, in plain words: ").strip()
    arguments.model = arguments.model or input("Model to draft with (empty for none): ").strip()
    return arguments


def _report(folder: Path, count: int, *, drafted: bool) -> None:
    drafts = "drafted by the model" if drafted else "with plain words"
    print(f"written    {folder / 'schema.toml'}: {count} categories {drafts}; read and edit it")
    print(f"           {folder / 'experiment.toml'}")
    print(f"           {folder / 'examples.jsonl'}: three cases, to show how they are written")
    print("next")
    experiment = folder / "experiment.toml"
    print(f"  python -m crb_dspy.compile {experiment} --dry-run")
    print(f"  python -m crb_dspy.compile {experiment}")
    print("  python -m crb_dspy.extract RUN --input FOLDER --out findings.jsonl")


if __name__ == "__main__":
    run(main)
