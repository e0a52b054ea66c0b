"""CliCR: gaps to fill in statements about a case report, with all accepted answers.

    {"data": [{"source": "...", "document": {"title": "...", "context": "... BEG__fever__END ...",
     "qas": [{"id": "q1", "query": "He had @placeholder .", "answers": [{"text": "fever"}]}]}}]}

A query is a case, with the report and the query as sections; queries about one report stay
together. Marks of entities are taken out. The first category that holds an answer gets the answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crb_dspy.data.benchmarks.source import Benchmark, Raw
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

BENCHMARKS = (
    Benchmark(
        "CliCR",
        "clicr",
        "gap-filling queries on BMJ case reports (on request from its authors)",
        "a stand-in only",
    ),
)


def claims(source: str) -> bool:
    """Take .json files that hold one object: an array is of cases."""
    path = Path(source)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def read(source: str, schema: Schema) -> Raw:
    """Read all queries; UserError says what is not as published."""
    key = next((c.key for c in schema.categories if c.kind == "answer"), None)
    if key is None:
        raise UserError(f"{source}: holds gaps to fill; take schema clicr, or one of kind answer")
    try:
        documents = json.loads(Path(source).read_bytes())["data"]
        cases = [
            c for number, one in enumerate(documents) for c in _cases(number, one, key, schema)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{source}: not as CliCR is published: {error!r}") from error
    if len({case.id for case in cases}) < len(cases) or not cases:
        raise UserError(f"{source}: no query in it, or an id stands for two")
    return Raw(tuple(cases))


def _cases(number: int, entry: dict[str, Any], key: str, schema: Schema) -> list[Case]:
    document = entry["document"]
    context = _plain(document["context"])
    found = []
    for query in document["qas"]:
        gold = {k: kind.gold(None) for k, kind in schema.kinds.items()}
        gold[key] = schema.kinds[key].gold([answer["text"] for answer in query["answers"]])
        sections = {"Case report": context, "Query": _plain(query["query"])}
        group = str(entry.get("source") or f"document {number}")
        found.append(Case(str(query["id"]), sections, gold, group))
    return found


def _plain(text: str) -> str:
    return text.replace("BEG__", "").replace("__END", "")
