"""Case data of every kind, checked, with its gold placed in the reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from crb_dspy.data.benchmarks import (
    brat,
    caselines,
    clicr,
    columns,
    e3c,
    hub,
    hubtable,
    labeltable,
    medcase,
    sample,
    t2s2,
)
from crb_dspy.data.benchmarks.source import Benchmark, Raw, Source
from crb_dspy.data.cases import Case, data_fingerprint
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, unknown
from crb_dspy.files import fingerprint, plain_file, whole_characters
from crb_dspy.quotes.grounding import Status, ground

# The first that claims a source reads it. A new kind of data is a module and its name here.
SOURCES: tuple[Source, ...] = (
    *(sample, hub, medcase, e3c, brat),
    *(t2s2, clicr, labeltable, hubtable, caselines),
)


@dataclass(frozen=True)
class Loaded:
    """Cases, how many of their gold quotes were placed at each level, and which nowhere.

    `ungrounded` holds (case id, category, quote); `ignored` counts annotations by names that the
    schema does not have. `notes` say what was repaired in reading.
    """

    cases: tuple[Case, ...]
    levels: Mapping[Status, int]
    ungrounded: tuple[tuple[str, str, str], ...]
    ignored: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with ids, texts, gold or groups."""
        return data_fingerprint(self.cases)

    def __add__(self, other: Loaded) -> Loaded:
        """Return the cases of both, and what is known of their gold."""
        return Loaded(
            self.cases + other.cases,
            {level: self.levels[level] + other.levels[level] for level in Status},
            self.ungrounded + other.ungrounded,
            Counter(self.ignored) + Counter(other.ignored),
            self.notes + other.notes,
        )


def load(
    source: str,
    schema: Schema,
    *,
    groups: Mapping[str, str] | None = None,
    limit: int | None = None,
    longest: int | None = None,
    named: Mapping[str, str] | None = None,
) -> Loaded:
    """Read cases from "sample", "casereportbench", "hub:OWNER/NAME", a file or a brat folder.

    Give the full schema, even if only some categories will be used: gold is checked against it, and
    an annotated case has all of its keys. `groups` (id to group) overrides the data's own;
    `longest` leaves out reports of more characters; `limit` keeps that many of the rest in the
    order of a hash of their group, so that a larger limit only adds cases. `named` says which
    column of a table is what (see `columns`). Gold of the hub table is replaced by the report's own
    words where it can be placed. UserError for data that is not there or not sound, an unknown id
    in `groups`, no report that is short enough, or a limit below 1.
    """
    raw = _read(source, schema, named or {})
    grouped = _grouped(raw.cases, groups or {}, source)
    cases = _limited(_short(grouped, longest), limit)
    levels: Counter[Status] = Counter(dict.fromkeys(Status, 0))
    ungrounded: list[tuple[str, str, str]] = []
    quoted = {key for key, kind in schema.kinds.items() if kind.verbatim}
    anchored = tuple(_anchored(case, quoted, raw.repair, levels, ungrounded) for case in cases)
    return Loaded(anchored, dict(levels), tuple(ungrounded), raw.ignored, raw.notes)


def benchmarks() -> list[Benchmark]:
    """Return the published tasks that sources read."""
    return [own for source in SOURCES for own in getattr(source, "BENCHMARKS", ())]


def _read(source: str, schema: Schema, named: Mapping[str, str]) -> Raw:
    reader = next((module for module in SOURCES if module.claims(source)), None)
    if reader is None and not named:
        names = unknown("case data", source, ("sample", "casereportbench", "hub:OWNER/NAME"))
        raise UserError(f"{names}, a .jsonl, .json, .parquet or .csv file, or a brat folder")
    if wrong := plain_file(Path(source)):
        raise UserError(f"{source}: {wrong}")
    try:
        if named or reader is None:
            raw = columns.read(source, schema, named)
        else:
            raw = reader.read(source, schema)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error
    for case in raw.cases:
        if not whole_characters((case.id, case.sections, case.gold, case.group)):
            said = f"{source}: case {case.id!r}: half a character (as \\ud83d alone)"
            raise UserError(f"{said}; put the whole one, or nothing, in its place")
    return raw


def _grouped(cases: Iterable[Case], groups: Mapping[str, str], source: str) -> list[Case]:
    known = {case.id: case for case in cases}
    for name in groups:
        if name not in known:
            raise UserError(f"{source}: groups: {unknown('case', name, sorted(known)[:200])}")
    return [replace(case, group=groups.get(case.id, case.group)) for case in known.values()]


def _short(cases: list[Case], longest: int | None) -> list[Case]:
    kept = [case for case in cases if longest is None or len(case.text) <= longest]
    if cases and not kept:
        raise UserError(f"longest = {longest}: every report has more characters")
    return kept


def _limited(cases: list[Case], limit: int | None) -> list[Case]:
    if limit is None:
        return cases
    if limit < 1:
        raise UserError(f"limit {limit}: keep at least one case")
    ranked = sorted(cases, key=lambda case: (fingerprint(case.group), case.id))
    kept = {case.id for case in ranked[:limit]}
    return [case for case in cases if case.id in kept]


def _anchored(
    case: Case,
    quoted: Set[str],
    repair: bool,
    levels: Counter[Status],
    ungrounded: list[tuple[str, str, str]],
) -> Case:
    """Place a case's quotes, count how, and give them in the report's words if they need repair."""
    if case.gold is None:
        return case
    gold: dict[str, list[str]] = {}
    for key, quotes in case.gold.items():
        gold[key] = [] if key in quoted else list(quotes)
        for quote in quotes if key in quoted else ():
            place = ground(case.text, quote)
            levels[place.status] += 1
            if place.status is Status.UNGROUNDED:
                ungrounded.append((case.id, key, quote))
            mend = repair and place.status in (Status.NORMALISED, Status.FUZZY)
            gold[key].append(case.text[slice(*place.spans[0])] if mend else quote)
    return replace(case, gold={key: tuple(quotes) for key, quotes in gold.items()})
