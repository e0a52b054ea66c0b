"""A folder of brat standoff files: NAME.txt with the report, NAME.ann with its entities.

    T1<TAB>Age 2 12<TAB>5-year-old
    T2<TAB>Sign_symptom 40 45;61 66<TAB>liver edema

The type is the category. A discontinuous entity becomes one quote, from its first piece to its
last, so that it stands in the report as it is. A .txt without .ann is a case without gold; its
other lines (relations, events, attributes, notes) are left aside. Tools in Java or JavaScript count
characters beyond the first plane twice: where the offsets fit the words only so, they are read so.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from crb_dspy.data.benchmarks.source import Benchmark, Raw, decoded
from crb_dspy.data.cases import Case
from crb_dspy.data.reserved import safe
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

BENCHMARKS = (
    Benchmark(
        "MACCROBAT2020",
        "maccrobat",
        "200 case reports with entities, as brat files (figshare 9764942)",
        "the real data",
    ),
    Benchmark(
        "ToxHabits",
        "toxhabits",
        "Spanish case reports with substance use, as brat files (zenodo, BioCreative IX)",
        "a stand-in only",
    ),
)
HEADING = "Case report"
# Under which entities are counted that were repaired; no type has a space.
UTF16 = "counted in UTF-16"
Spans = list[tuple[int, int]]
_SPAN = r"\d{1,9} \d{1,9}"
_ENTITY = re.compile(rf"T\S*\t(?P<type>\S+) (?P<spans>{_SPAN}(?:;{_SPAN})*)\t(?P<text>.*)")


def claims(source: str) -> bool:
    """Take every folder."""
    return Path(source).is_dir()


def read(source: str, schema: Schema) -> Raw:
    """Read all pairs of a folder, in the order of their names; UserError names file and line."""
    folder, ignored = Path(source), Counter[str]()
    texts, notes = ({p.stem: p for p in sorted(folder.glob(f"*.{e}"))} for e in ("txt", "ann"))
    if not texts:
        raise UserError(f"{source}: no .txt file in this folder; brat keeps a report in NAME.txt")
    if stray := next((name for name in notes if name not in texts), None):
        raise UserError(f"{notes[stray]}: there is no {stray}.txt beside it")
    cases = tuple(_case(texts[name], notes.get(name), schema, ignored) for name in texts)
    if ignored and not any(quotes for case in cases for quotes in (case.gold or {}).values()):
        types, known = ", ".join(sorted(ignored)), ", ".join(schema.keys)
        raise UserError(f"{source}: no type of entity is a category: found {types}; known: {known}")
    repaired = ignored.pop(UTF16, 0)
    said = f"offsets of {repaired} entities counted in UTF-16 units, and repaired"
    return Raw(cases, ignored=dict(sorted(ignored.items())), notes=(said,) if repaired else ())


def _case(text: Path, notes: Path | None, schema: Schema, ignored: Counter[str]) -> Case:
    report = decoded(text)
    if not report.strip():
        raise UserError(f"{text}: case '{text.stem}': the report is empty")
    if notes is None:
        return Case(text.stem, {HEADING: report})
    gold: dict[str, list[str]] = {key: [] for key in schema.keys}
    for number, line in enumerate(decoded(notes).removeprefix("\ufeff").split("\n"), 1):
        if not line.startswith("T"):
            continue
        where = f"{notes}, line {number}: case '{text.stem}'"
        category, quote, repaired = _entity(where, line, report)
        ignored[UTF16] += repaired
        category = category if category in gold else safe(category)
        if category in gold:
            gold[category].append(quote)
        else:
            ignored[category] += 1
    return Case(text.stem, {HEADING: report}, {k: tuple(quotes) for k, quotes in gold.items()})


def _entity(where: str, line: str, report: str) -> tuple[str, str, bool]:
    """Return type and quote of a T line, whose own copy of the words must agree.

    Also whether its offsets count UTF-16 units.
    """
    match = _ENTITY.fullmatch(line.rstrip("\r"))
    if not match:
        raise UserError(f"{where}: not an entity: T1<TAB>Type start end<TAB>text is expected")
    pairs = (span.split() for span in match["spans"].split(";"))
    spans = sorted((int(start), int(end)) for start, end in pairs)
    named = " ".join(match["text"].split())
    found = _words(report, spans)
    other = _characters(report, spans) if found != named else []
    if other and _words(report, other) == named:
        return match["type"], report[other[0][0] : other[-1][1]], True
    if not found or found != named:
        at = match["spans"]
        raise UserError(f"{where}: the report has '{found[:60]}' at {at}, not '{named[:60]}'")
    return match["type"], report[spans[0][0] : spans[-1][1]], False


def _words(report: str, spans: Spans) -> str:
    return " ".join(" ".join(report[start:end] for start, end in spans).split())


def _characters(report: str, spans: Spans) -> Spans:
    """Return spans in UTF-16 units as spans in characters; none where both are the same."""
    units = report.encode("utf-16-le", "surrogatepass")
    if len(units) == 2 * len(report):
        return []

    def character(at: int) -> int:
        return len(units[: 2 * at].decode("utf-16-le", "ignore"))

    return [(character(start), character(end)) for start, end in spans]
