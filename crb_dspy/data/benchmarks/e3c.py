"""The European Clinical Case Corpus (E3C): its own XMI files, or the same as JSON lines.

    {"id": "EN1", "sections": {"Case report": "..."}, "annotations": {"EVENT": [{"start": 12,
     "end": 20, "text": "referred", "polarity": "POS"}], "CLINENTITY": [...], "RML": [...]}}

A category whose key is a type of annotation (CLINENTITY, BODYPART, ...) gets its spans, as quotes.
Any other category is a slot of a case report form, filled by these rules:

1. A mention of a slot is an EVENT or CLINENTITY in whose text a word begins with one of the
   category's `terms`.
2. An EVENT has a polarity; a CLINENTITY has that of an EVENT which it overlaps, else POS.
3. A finding with any mention of POS is present, else with any of NEG absent, else unknown: the
   first, second and last of the category's options.
4. A test has as value the first RML (result) before which, in its sentence and at most 100
   characters away, one of the `terms` stands, and no other RML between them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crb_dspy.data.benchmarks.source import Benchmark, Raw, lines
from crb_dspy.data.benchmarks.t2s2 import first_keys
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Category, Schema
from crb_dspy.errors import UserError
from crb_dspy.files import plain_file

BENCHMARKS = (
    Benchmark(
        "E3C entities",
        "e3c",
        "44 English cases of layer 1 (github hltfbk/E3C-Corpus, CC BY-NC)",
        "the real annotations as JSON lines; the XMI reader on a stand-in",
    ),
    Benchmark(
        "E3C-to-CRF",
        "e3c_crf",
        "the same, as slots of a case report form by the rules in benchmarks/e3c.py",
        "the real annotations; the slots and rules are this project's, not the paper's",
    ),
)
HEADING = "Case report"
TYPES = ("CLINENTITY", "EVENT", "BODYPART", "ACTOR", "RML", "TIMEX3")
# Characters from the name of a test to its result.
_NEAR = 100
_ID = "{http://www.omg.org/XMI}id"


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    text: str
    polarity: str | None = None


Annotations = Mapping[str, Sequence[_Span]]


def claims(source: str) -> bool:
    """Take .xmi files, folders with some, and .jsonl files whose first line has annotations."""
    path = Path(source)
    folder = path.is_dir() and any(path.glob("*.xmi"))
    return folder or path.suffix.lower() == ".xmi" or "annotations" in first_keys(source)


def read(source: str, schema: Schema) -> Raw:
    """Read all cases; UserError names file or line."""
    ignored: Counter[str] = Counter()
    cases = []
    for name, sections, spans in _entries(source):
        gold = {c.key: _gold(c, sections[HEADING], spans) for c in schema.categories}
        ignored.update({t: len(own) for t, own in spans.items() if t not in schema.keys})
        cases.append(Case(name, sections, gold))
    if not cases:
        raise UserError(f"{source}: no case in it")
    return Raw(tuple(cases), ignored=dict(sorted(ignored.items())))


def _gold(category: Category, text: str, annotations: Annotations) -> tuple[str, ...]:
    kind = category.holds
    if category.key in TYPES:
        return tuple(span.text for span in annotations.get(category.key, ()))
    if category.kind == "choice":
        options = list(kind.options.options)
        return kind.gold({"POS": options[0], "NEG": options[1]}.get(
            polarity(category.terms, annotations), options[-1]
        ))  # fmt: skip
    if category.kind == "value":
        return kind.gold(result(category.terms, text, annotations.get("RML", ())))
    raise UserError(f"category '{category.key}': E3C has {', '.join(TYPES)}; slots hold one answer")


def polarity(terms: Sequence[str], annotations: Annotations) -> str:
    """Return "POS", "NEG" or "" of a finding, by rules 1 to 3."""
    events = annotations.get("EVENT", ())
    found = {event.polarity or "POS" for event in events if _named(terms, event.text)}
    for entity in annotations.get("CLINENTITY", ()):
        if _named(terms, entity.text):
            over = [e for e in events if e.start < entity.end and entity.start < e.end]
            found |= {event.polarity or "POS" for event in over} or {"POS"}
    return "POS" if "POS" in found else "NEG" if found else ""


def result(terms: Sequence[str], text: str, results: Sequence[_Span]) -> str | None:
    """Return the value of a test, None for none, by rule 4."""
    ordered = sorted(results, key=lambda span: span.start)
    for number, span in enumerate(ordered):
        after = ordered[number - 1].end if number else 0
        before = text[max(after, span.start - _NEAR) : span.start]
        if _named(terms, re.split(r"(?<=[.!?])\s+(?=[A-Z])|\n", before)[-1]):
            return span.text
    return None


def _named(terms: Sequence[str], text: str) -> bool:
    return any(re.search(rf"\b{re.escape(term)}", text, re.IGNORECASE) for term in terms)


def _entries(source: str) -> Iterator[tuple[str, dict[str, str], Annotations]]:
    path = Path(source)
    if path.suffix.lower() == ".jsonl":
        for where, entry in lines(path.read_bytes(), source):
            yield _line(where, entry)
        return
    for file in sorted(path.glob("*.xmi")) if path.is_dir() else [path]:
        if wrong := plain_file(file):
            raise UserError(f"{file}: {wrong}")
        yield _xmi(file)


def _line(where: str, entry: dict[str, Any]) -> tuple[str, dict[str, str], Annotations]:
    try:
        # Anything else that can be cut would be taken for a text.
        text = entry["sections"][HEADING] + ""
        spans = {
            type_: [_span(text, a["start"], a["end"], a.get("polarity")) for a in own]
            for type_, own in entry["annotations"].items()
        }
        return str(entry["id"]), {HEADING: text}, spans
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not a case of E3C: {error!r}") from error


def _span(text: str, start: int, end: int, said: str | None) -> _Span:
    return _Span(start, end, text[start:end], said)


def _xmi(file: Path) -> tuple[str, dict[str, str], Annotations]:
    """Read one case of the corpus' own format: UIMA CAS, offsets in UTF-16 units."""
    from lxml import etree

    try:
        # Entities of a document from elsewhere are not followed.
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
        root = etree.fromstring(file.read_bytes(), parser)
    except etree.XMLSyntaxError as error:
        raise UserError(f"{file}: not XML: {error.msg}") from error
    named = [(etree.QName(one).localname, one) for one in root if isinstance(one.tag, str)]
    sofa = next((one for name, one in named if name == "Sofa"), None)
    if sofa is None or not (text := sofa.get("sofaString", "")).strip():
        raise UserError(f"{file}: no text in it (a Sofa with sofaString)")
    at = _characters(text)
    spans: dict[str, list[_Span]] = {type_: [] for type_ in TYPES}
    for name, one in named:
        if name not in spans:
            continue
        try:
            start, end = (at[int(one.get(side))] for side in ("begin", "end"))
        except (TypeError, ValueError, KeyError) as error:
            said = f"{file}: {name} {one.get(_ID)}: begin or end is no offset of the text"
            raise UserError(said) from error
        spans[name].append(_span(text, start, end, one.get("polarity")))
    return file.stem, {HEADING: text}, spans


def _characters(text: str) -> dict[int, int]:
    """Return the character at each offset that counts UTF-16 units."""
    found, units = {}, 0
    for number, character in enumerate(text):
        found[units] = number
        units += 1 + (ord(character) > 0xFFFF)
    return found | {units: len(text)}
