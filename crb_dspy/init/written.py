"""The files of a first experiment."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from crb_dspy.convert import formats
from crb_dspy.convert.documents import Document, answered
from crb_dspy.convert.formats import cases
from crb_dspy.data.benchmarks import sample
from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind
from crb_dspy.data.schema import Category, load_schema
from crb_dspy.errors import UserError
from crb_dspy.files import as_json, write_whole

FILES = ("schema.toml", "experiment.toml", "examples.jsonl")
EXAMPLES = 3


def annotated(path: Path | None, kinds: Mapping[str, Kind]) -> list[Document]:
    """Return the documents of a case JSONL, none without a file; UserError if none is annotated.

    `kinds` are those of categories that hold no quotes; UserError where one is not said.
    """
    if path is None:
        return []
    documents = [answered(document, kinds) for document in formats.documents("cases", path)]
    for document in documents:
        if left := cases.unread(document):
            raise UserError(
                f"{path}: document '{document.id}': what stands under '{left[0]}' is no list of "
                f"quotes; say what it holds: --category '{left[0]}: KIND OPTIONS'"
            )
    if not any(document.marks is not None for document in documents):
        raise UserError(f"{path}: no case has gold; mark some first, or leave --data out")
    return documents


def write(
    folder: Path,
    categories: Sequence[Category],
    documents: Sequence[Document],
    arguments: argparse.Namespace,
) -> None:
    """Write schema, experiment and examples; UserError if the folder cannot be written."""
    examples = folder / "examples.jsonl"
    settings: dict[str, Any] = {
        "name": folder.resolve().name or "mine",
        "data": str(arguments.data or examples),
        "schema": str(folder / "schema.toml"),
    }
    if arguments.model:
        settings["model"] = arguments.model
    if arguments.api_base:
        settings["api_base"] = arguments.api_base
    try:
        write_whole(folder / "schema.toml", _schema(categories))
        write_whole(folder / "experiment.toml", _table(settings))
        if documents:
            cases.write(examples, documents[:EXAMPLES])
        else:
            write_whole(examples, "".join(f"{as_json(e)}\n" for e in _invented(categories)))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _schema(categories: Sequence[Category]) -> str:
    shown = ("key", "title", "guidance", "instruction")
    tables = (
        {name: getattr(category, name) for name in shown}
        | ({"terms": list(category.terms)} if category.terms else {})
        | ({"kind": category.kind, **(category.model_extra or {})} if category.kind else {})
        for category in categories
    )
    return "\n".join(f"[[category]]\n{_table(table)}" for table in tables)


def _table(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {_text(value)}\n" for name, value in values.items())


def _text(value: Any) -> str:
    # JSON is TOML but for the one control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _invented(categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return reports of the sample with the gold that they have for these categories."""
    known = sample.read("sample", load_schema("casereportbench")).cases
    return [_entry(case, categories) for case in islice(known, EXAMPLES)]


def _entry(case: Case, categories: Sequence[Category]) -> dict[str, Any]:
    kinds = {category.key: category.holds for category in categories}
    known = {k: (case.gold or {}).get(k, ()) if kind.verbatim else () for k, kind in kinds.items()}
    # Of what is offered any shows how it is written.
    golds = {key: known[key] or kind.offered[:1] for key, kind in kinds.items()}
    gold = {key: kind.plain(golds[key]) for key, kind in kinds.items()}
    return {"id": case.id, "sections": dict(case.sections), "gold": gold}
