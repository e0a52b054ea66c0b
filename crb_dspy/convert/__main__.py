"""Read annotation tools' files as cases, and write cases or predictions for them.

python -m crb_dspy.convert FILE --from FORMAT --to FORMAT --out PATH
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError, unknown

if TYPE_CHECKING:
    from crb_dspy.convert.documents import Document

# Quotes that stand nowhere, listed by name.
SHOWN = 20


def main(argv: list[str]) -> int:
    """Read the arguments, convert, say what was written."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.convert import formats

    if arguments.list:
        for name in formats.NAMES:
            print(f"{name:13}{formats.find(name).ABOUT}")
        return 0
    path, to, out = _places(arguments.file, arguments.to, arguments.out)
    target = formats.find(to)
    documents = _unique(formats.documents(getattr(arguments, "from"), path))
    documents = [_renamed(document, _pairs(arguments.rename)) for document in documents]
    documents = _answered(documents, arguments.schema, getattr(arguments, "from"))
    # What nobody corrected is no gold, though a program's own findings may be cases as they are.
    mine = to != "cases" or getattr(arguments, "from") == "cases" or arguments.all
    kept = [document for document in documents if mine or document.annotated]
    if not kept:
        raise UserError(
            f"{path}: none of {len(documents)} documents is annotated; --all keeps them"
        )
    target.write(out, kept)
    _report(documents, kept, out, to)
    for line in formats.kept(kept, to):
        print(line)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.convert",
        description="Convert annotated reports between this project and annotation tools.",
        epilog="Predictions of extract become pre-annotations where the tool knows them.",
    )
    parser.add_argument("file", nargs="?", type=Path, help="file or folder to read")
    parser.add_argument("--from", default="cases", metavar="FORMAT", help="see --list")
    parser.add_argument(
        "--to", default="cases", metavar="FORMAT", help="see --list, or a .jsonl file of cases"
    )
    parser.add_argument("--out", type=Path, help="file to write (a folder for xmi and casjson)")
    parser.add_argument("--list", action="store_true", help="show the formats")
    parser.add_argument("--schema", help="what categories hold; labels of others are refused")
    parser.add_argument(
        "--rename", action="append", default=[], metavar="LABEL=KEY", help="(repeatable)"
    )
    parser.add_argument("--all", action="store_true", help="keep what nobody has annotated")
    return parser


def _places(path: Path | None, to: str, out: Path | None) -> tuple[Path, str, Path]:
    if path is None:
        raise UserError("FILE is missing: name what to read; --list shows the formats")
    if out is None and to.endswith(".jsonl"):
        to, out = "cases", Path(to)
    if out is None:
        raise UserError("--out is missing: name the file to write")
    if out.resolve() == path.resolve():
        raise UserError(f"{out}: would be written over what is read; name another --out")
    return path, to, out


def _unique(found: Iterable[Document]) -> list[Document]:
    documents: dict[str, Document] = {}
    for document in found:
        if document.id in documents:
            raise UserError(f"document '{document.id}' comes twice; give each its own id")
        documents[document.id] = document
    return list(documents.values())


def _pairs(renames: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in renames]
    if wrong := [text for text, pair in zip(renames, pairs, strict=True) if not all(pair)]:
        raise UserError(f"--rename {wrong[0]}: write --rename LABEL=KEY")
    return {old: new for old, _, new in pairs}


def _renamed(document: Document, names: Mapping[str, str]) -> Document:
    marks = document.marks and tuple(
        replace(m, category=names.get(m.category, m.category)) for m in document.marks
    )
    given = {names.get(key, key): value for key, value in document.given.items()}
    return replace(document, marks=marks, given=given)


def _answered(documents: Sequence[Document], schema: str | None, form: str) -> list[Document]:
    """Read what categories hold as the schema says; UserError where it needs to say it."""
    from crb_dspy.convert import formats
    from crb_dspy.convert.documents import answered
    from crb_dspy.convert.formats.cases import unread
    from crb_dspy.data.schema import load_schema

    known = load_schema(schema).kinds if schema else {}
    kinds = {key: kind for key, kind in known.items() if not kind.verbatim}
    found = [answered(document, kinds) for document in documents]
    for label in _labels(found) if schema else ():
        if label not in known:
            said = unknown("category", label, [*known])
            raise UserError(f"{said}; --rename LABEL=KEY renames it")
    for document in found if form == "cases" else ():
        if left := unread(document):
            raise UserError(
                f"document '{document.id}': what stands under '{left[0]}' is no list of quotes; "
                "--schema says what categories hold"
            )
    if left := sorted({key for one in found for key in one.given if form in formats.QUESTIONS}):
        print(f"left out   what stands under {', '.join(left)}; --schema says what categories hold")
    return found


def _labels(documents: Sequence[Document]) -> Counter[str]:
    return Counter(m.category for document in documents for m in document.marks or ())


def _report(read: Sequence[Document], kept: Sequence[Document], out: Path, to: str) -> None:
    labels = _labels(kept)
    predicted = sum(document.predicted for document in kept)
    print(f"documents  {len(kept)}, {predicted} of them with marks of a program")
    if left := len(read) - len(kept):
        print(f"left out   {left} that nobody has annotated; --all keeps them")
    counts = ", ".join(f"{label} {count}" for label, count in labels.most_common())
    print(f"marks      {labels.total()}{': ' if counts else ''}{counts}")
    loose = [(d.id, *quote) for d in kept for quote in d.loose]
    for name, category, quote in loose[:SHOWN]:
        print(f"           not in its report: {name} {category}: {quote[:60]!r}")
    if len(loose) > SHOWN:
        print(f"           and {len(loose) - SHOWN} more that are not in their reports")
    print(f"written    {out}")
    if to == "labelstudio":
        from crb_dspy.convert.formats.labelstudio import interface

        kinds = {key: own.kind for document in kept for key, own in document.answers.items()}
        print(f"interface  {interface(list(labels), kinds)}")


if __name__ == "__main__":
    run(main)
