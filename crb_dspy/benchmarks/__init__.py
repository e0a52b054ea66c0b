"""Case data of every kind, checked, with its gold placed in the reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from crb_dspy.benchmarks import brat, caselines, hub, hubtable, sample
from crb_dspy.benchmarks.source import Raw, Source
from crb_dspy.cases import Case, data_fingerprint, fingerprint
from crb_dspy.errors import UserError
from crb_dspy.grounding import Status, ground
from crb_dspy.schema import Schema, unknown

# The first that claims a source reads it. A new kind of data is a module and its name here.
SOURCES: tuple[Source, ...] = (sample, hub, brat, hubtable, caselines)


@dataclass(frozen=True)
class Loaded:
    """Cases, how many of their gold quotes were placed at each level, and which nowhere.

    `ungrounded` holds (case id, category, quote); `ignored` counts annotations by names that the
    schema does not have.
    """

    cases: tuple[Case, ...]
    levels: Mapping[Status, int]
    ungrounded: tuple[tuple[str, str, str], ...]
    ignored: Mapping[str, int]

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with ids, texts, gold or groups."""
        return data_fingerprint(self.cases)


def load(
    source: str,
    schema: Schema,
    *,
    groups: Mapping[str, str] | None = None,
    limit: int | None = None,
    longest: int | None = None,
) -> Loaded:
    """Read cases from "sample", "casereportbench", "hub:OWNER/NAME", a file or a brat folder.

    Give the full schema, even if only some categories will be used: gold is checked against it,
    and an annotated case has all of its keys. `groups` (id to group) overrides the data's own;
    `longest` leaves out reports of more characters; `limit` keeps that many of the rest in the
    order of a hash of their group, so that a larger limit only adds cases. Gold of the hub
    table is replaced by the report's own words where it can be placed. UserError for data that
    is not there or not sound, an unknown id in `groups`, no report that is short enough, or a
    limit below 1.
    """
    raw = _read(source, schema)
    grouped = _grouped(raw.cases, groups or {}, source)
    cases = _limited(_short(grouped, longest), limit)
    levels: Counter[Status] = Counter(dict.fromkeys(Status, 0))
    ungrounded: list[tuple[str, str, str]] = []
    anchored = tuple(_anchored(case, raw.repair, levels, ungrounded) for case in cases)
    return Loaded(anchored, dict(levels), tuple(ungrounded), raw.ignored)


def _read(source: str, schema: Schema) -> Raw:
    reader = next((module for module in SOURCES if module.claims(source)), None)
    if reader is None:
        names = unknown("case data", source, ("sample", "casereportbench", "hub:OWNER/NAME"))
        raise UserError(f"{names}, a .jsonl, .parquet or .csv file, or a brat folder")
    try:
        return reader.read(source, schema)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error


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
    case: Case, repair: bool, levels: Counter[Status], ungrounded: list[tuple[str, str, str]]
) -> Case:
    """Place a case's gold, count how, and give it in the report's words if it needs repair."""
    if case.gold is None:
        return case
    gold: dict[str, list[str]] = {}
    for key, quotes in case.gold.items():
        gold[key] = []
        for quote in quotes:
            place = ground(case.text, quote)
            levels[place.status] += 1
            if place.status is Status.UNGROUNDED:
                ungrounded.append((case.id, key, quote))
            mend = repair and place.status in (Status.NORMALISED, Status.FUZZY)
            gold[key].append(case.text[slice(*place.spans[0])] if mend else quote)
    return replace(case, gold={key: tuple(quotes) for key, quotes in gold.items()})
