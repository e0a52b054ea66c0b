"""Case JSONL, one case a line.

    {"id": "C1", "sections": {"Case": "A boy ..."}, "gold": {"GI": ["vomiting"]}, "group": "MMA"}

`gold` is absent where nothing is annotated, and a category absent from it is empty; `group`
defaults to the id; further fields are ignored.
"""

from __future__ import annotations

from pathlib import Path

from crb_dspy.benchmarks.source import Raw, kind, lines
from crb_dspy.cases import Case, Findings
from crb_dspy.errors import UserError
from crb_dspy.schema import Schema, unknown


def claims(source: str) -> bool:
    """Take every .jsonl file."""
    return Path(source).suffix.lower() == ".jsonl"


def read(source: str, schema: Schema) -> Raw:
    """Read a file of case lines; see `parse`."""
    return parse(Path(source).read_bytes(), source, schema)


def parse(data: bytes, name: str, schema: Schema) -> Raw:
    """Check and return the cases of a JSON-lines file; UserError names file, line and case."""
    cases: dict[str, Case] = {}
    seen: dict[str, str] = {}
    for where, entry in lines(data, name):
        case = _case(where, entry, schema)
        if case.id in cases:
            raise UserError(f"{where}: case '{case.id}' was given before, on {seen[case.id]}")
        cases[case.id], seen[case.id] = case, where.rpartition(", ")[2]
    if not cases:
        raise UserError(f"{name}: the file is empty; give one case a line, as JSON")
    return Raw(tuple(cases.values()))


def _case(where: str, entry: dict[str, object], schema: Schema) -> Case:
    case = _name(entry.get("id"))
    if not case:
        raise UserError(f"{where}: field 'id' must be a text, not {_missing(entry, 'id')}")
    where = f"{where}: case '{case}'"
    group = entry.get("group")
    if group is not None and not _name(group):
        raise UserError(f"{where}: field 'group' must be a text, not {_missing(entry, 'group')}")
    gold = entry.get("gold")
    findings = None if gold is None else _gold(where, gold, schema)
    return Case(case, _sections(where, entry), findings, _name(group))


def _name(value: object) -> str:
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    name = str(value).strip() if plain else ""
    return name if name.isprintable() else ""


def _sections(where: str, entry: dict[str, object]) -> dict[str, str]:
    sections = entry.get("sections")
    if not isinstance(sections, dict):
        found = _missing(entry, "sections")
        raise UserError(f"{where}: field 'sections' must be an object of texts, not {found}")
    for heading, text in sections.items():
        if not heading.isprintable():
            raise UserError(f"{where}: heading {heading!r} must be one plain line")
        if not isinstance(text, str):
            raise UserError(f"{where}: section '{heading}' must be a text, not {kind(text)}")
    if not any(text.strip() for text in sections.values()):
        raise UserError(f"{where}: the report is empty")
    return sections


def _gold(where: str, gold: object, schema: Schema) -> Findings:
    if not isinstance(gold, dict):
        raise UserError(f"{where}: field 'gold' must be an object of lists, not {kind(gold)}")
    for key, quotes in gold.items():
        if key not in schema.keys:
            raise UserError(f"{where}: {unknown('gold category', key, schema.keys)}")
        if not isinstance(quotes, list):
            found = kind(quotes)
            raise UserError(f"{where}: gold of {key} must be a list of texts, not {found}")
        for quote in quotes:
            if not isinstance(quote, str):
                raise UserError(f"{where}: a gold quote of {key} is {kind(quote)}, not a text")
    return {key: tuple(gold.get(key, ())) for key in schema.keys}


def _missing(entry: dict[str, object], field: str) -> str:
    value = entry.get(field)
    if isinstance(value, str):
        return "blank or unprintable"
    return kind(value) if field in entry else "missing"
