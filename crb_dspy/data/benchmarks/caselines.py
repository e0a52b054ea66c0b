"""Case JSONL, one case a line.

    {"id": "C1", "sections": {"Case": "A boy ..."}, "gold": {"GI": ["vomiting"]}, "group": "MMA"}

`text` stands in for `sections` of one heading, and a file may also be one JSON array of such
objects. What gold of a category is, its kind says: a list of quotes unless the schema has another
one. `gold` is absent where nothing is annotated, and a category absent from it is empty; `group`
defaults to the id; further fields are ignored. In what `extract` writes, `findings` stand in for
`gold`: their quotes, those that are not in the report left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crb_dspy.data.benchmarks.source import Raw, kind, lines
from crb_dspy.data.cases import Case, Findings
from crb_dspy.data.kind import Kind
from crb_dspy.data.reserved import safe
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, unknown

HEADING = "Case report"
EXAMPLE = '{"id": "c1", "text": "A boy ...", "gold": {"KEY": ["his words"]}}'


def claims(source: str) -> bool:
    """Take every .jsonl and .json file."""
    return Path(source).suffix.lower() in (".jsonl", ".json")


def read(source: str, schema: Schema) -> Raw:
    """Read a file of case lines; see `parse`."""
    return parse(Path(source).read_bytes(), source, schema)


def parse(data: bytes, name: str, schema: Schema) -> Raw:
    """Check and return the cases of a JSON-lines file; UserError names file, line and case."""
    cases: dict[str, Case] = {}
    seen: dict[str, str] = {}
    for where, case in _cases(data, name, schema):
        if case.id in cases:
            raise UserError(f"{where}: case '{case.id}' was given before, on {seen[case.id]}")
        cases[case.id], seen[case.id] = case, where.rpartition(", ")[2]
    if not cases:
        raise UserError(f"{name}: the file is empty; give one case a line, as JSON")
    return Raw(tuple(cases.values()))


def _cases(data: bytes, name: str, schema: Schema) -> Iterator[tuple[str, Case]]:
    """Yield where each case stands, and the case; what is refused shows a line of what is right."""
    try:
        for where, entry in lines(data, name):
            yield where, _case(where, entry, schema)
    except UserError as error:
        if "UTF-8" in str(error):  # of which no line is at fault
            raise
        raise UserError(f"{error}; right is {EXAMPLE.replace('KEY', schema.keys[0])}") from error


def _case(where: str, entry: dict[str, object], schema: Schema) -> Case:
    case = _name(entry.get("id"))
    if not case:
        raise UserError(f"{where}: field 'id' must be a text, not {_missing(entry, 'id')}")
    where = f"{where}: case '{case}'"
    group = entry.get("group")
    if group is not None and not _name(group):
        raise UserError(f"{where}: field 'group' must be a text, not {_missing(entry, 'group')}")
    gold = entry.get("gold")
    if gold is None and "findings" in entry:
        gold = _found(where, entry, schema)
    findings = None if gold is None else _gold(where, gold, schema)
    return Case(case, _sections(where, entry), findings, _name(group))


def _name(value: object) -> str:
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    name = str(value).strip() if plain else ""
    return name if name.isprintable() else ""


def _sections(where: str, entry: dict[str, object]) -> dict[str, str]:
    sections = entry.get("sections")
    if sections is None and isinstance(entry.get("text"), str):
        sections = {HEADING: entry["text"]}
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


def _found(where: str, entry: dict[str, object], schema: Schema) -> object:
    """Return what a program found as gold; UserError where it has no answer for a category."""
    if errors := entry.get("errors"):
        keys = ", ".join(errors) if isinstance(errors, dict) else str(errors)
        raise UserError(f"{where}: no answer about {keys}; leave it out, or extract it again")
    findings = entry["findings"]
    if not isinstance(findings, dict):
        return findings
    own = {key for key, holds in schema.kinds.items() if not holds.verbatim}
    return {key: found if key in own else _quotes(found) for key, found in findings.items()}


def _quotes(found: object) -> object:
    """Return the quotes of findings that have a place, anything else as it is."""
    if not isinstance(found, list):
        return found
    placed = (f for f in found if not isinstance(f, dict) or f.get("start") is not None)
    return [f.get("quote") if isinstance(f, dict) else f for f in placed]


def _gold(where: str, gold: object, schema: Schema) -> Findings:
    if not isinstance(gold, dict):
        raise UserError(f"{where}: field 'gold' must be an object of lists, not {kind(gold)}")
    kinds, found = schema.kinds, dict[str, tuple[str, ...]]()
    gold = {key if key in kinds else safe(key): quotes for key, quotes in gold.items()}
    for key, quotes in gold.items():
        if key not in kinds:
            raise UserError(f"{where}: {unknown('gold category', key, schema.keys)}")
        holds = kinds[key]
        if not holds.verbatim:
            found[key] = _items(f"{where}: gold of {key}", holds, quotes)
            continue
        if not isinstance(quotes, list):
            said = kind(quotes)
            raise UserError(f"{where}: gold of {key} must be a list of texts, not {said}")
        for quote in quotes:
            if not isinstance(quote, str):
                raise UserError(f"{where}: a gold quote of {key} is {kind(quote)}, not a text")
        found[key] = tuple(quotes)
    return {k: found[k] if k in found else tuple(holds.gold(None)) for k, holds in kinds.items()}


def _items(where: str, holds: Kind, value: object) -> tuple[str, ...]:
    try:
        return holds.gold(value)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _missing(entry: dict[str, object], field: str) -> str:
    value = entry.get(field)
    if isinstance(value, str):
        return "blank or unprintable"
    return kind(value) if field in entry else "missing"
