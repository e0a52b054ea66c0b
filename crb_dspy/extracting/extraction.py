"""A saved program on one's own reports: a line each, in their order, and none of them twice."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import dspy

from crb_dspy import grounding, tracking
from crb_dspy.asking import AHEAD, in_order
from crb_dspy.cases import Case
from crb_dspy.errors import RunError, UserError
from crb_dspy.extracting.findings import Counts, Findings, held
from crb_dspy.grounding import Placement
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.meter import Usage
from crb_dspy.models.reach import Model, Settings, hush
from crb_dspy.program import Part, Reading, attempt, placed
from crb_dspy.progress import phase
from crb_dspy.prompt import ReportFirst
from crb_dspy.readers import Report, Reports
from crb_dspy.saved import NAME, Origin, Saved, as_json, load_program

# Reports between two clearings of memory.
FORGET_EVERY = 32
# Errors of an answer that came or of a report that is too long: the same whenever it is asked.
_LASTING = ("AdapterParseError:", "ContextLengthError:", "ValueError:")
_RUN_ID = re.compile("[0-9a-f]{32}")
MOST_THREADS = 256


@dataclass(frozen=True)
class Job:
    """What is to be done: a program, a model, reports, and the file of their findings."""

    saved: Saved
    settings: Settings
    reports: Reports
    out: Path


@dataclass(frozen=True)
class Summary:
    """What a job has come to: `kept` reports are from an earlier run, `usage` is of this one."""

    counts: Counts
    kept: int
    unreadable: int
    usage: Usage


def saved_program(name: str) -> Saved:
    """Load a program by file, by folder, or by the id of the MLflow run that tuned it."""
    if _RUN_ID.fullmatch(name) and not Path(name).exists():
        return load_program(tracking.fetch(name, NAME))
    return load_program(name)


def settings_for(origin: Origin, model: str | None, api_base: str | None, threads: int) -> Settings:
    """Return how a saved program's own model is reached, or another one by the same settings."""
    if not 1 <= threads <= MOST_THREADS:
        raise UserError(f"--threads {threads}: from 1 to {MOST_THREADS} calls may be under way")
    own = model in (None, origin.model)
    return Settings(
        model=model or origin.model,
        api_base=api_base or (origin.api_base if own else None),
        temperature=origin.temperature,
        seed=origin.seed,
        context=origin.context if own else None,
        api_key_env=origin.api_key_env if own else None,
        threads=threads,
    )


@contextmanager
def opened(settings: Settings) -> Iterator[Model]:
    """Make DSPy ask a model in this project's layout; RunError if it stops answering."""
    hush()
    model = Model(settings, tracking.FOLDER / "cache")
    try:
        model.open()
        with dspy.context(lm=model.lm, adapter=ReportFirst(), disable_history=True, trace=None):
            yield model
    except ModelGone as error:
        raise RunError(f"model '{settings.model}' stopped answering: {error}") from error
    finally:
        model.close()


def extract(job: Job) -> Summary:
    """Write a line a report, in order, going on after what an earlier run of the job wrote.

    Each line reaches the disk before the next, and each answer the cache, so that a run that is
    killed repeats at most the calls under way. UserError, before any call, if the file cannot
    be written, is another run's, or belongs to another program, model or set of reports.
    """
    with held(job.out) as findings:
        digest, count, unreadable = _scanned(job.reports)
        if unreadable == count:
            first = next(iter(job.reports))
            raise UserError(f"no report can be read; the first: {first.error}")
        findings.begin(_identity(job, digest))
        in_vain = partial(unanswered, list(job.saved.program.parts.values()))
        kept = findings.resume(job.reports, count, in_vain, AHEAD * job.settings.threads)
        usage = _asked(job, findings, kept, count) if kept < count else Usage()
        return Summary(findings.counts(), kept, unreadable, usage)


def _identity(job: Job, digest: str) -> dict[str, object]:
    """Return what has to be the same for a run to go on where another stopped."""
    names = ("model", "api_base", "temperature", "seed", "context")
    settings = {name: getattr(job.settings, name) for name in names}
    return {"program": job.saved.fingerprint, **settings, "inputs": digest}


def _scanned(reports: Reports) -> tuple[str, int, int]:
    """Return what tells these reports, in this order, from others; their number; the unreadable."""
    digest, count, unreadable = hashlib.sha256(), 0, 0
    for report in reports:
        content = [report.case.id, list(report.case.sections.items()), bool(report.error)]
        digest.update(as_json(content).encode("utf-8"))
        count += 1
        unreadable += bool(report.error)
    return digest.hexdigest(), count, unreadable


def _asked(job: Job, findings: Findings, kept: int, count: int) -> Usage:
    parts = list(job.saved.program.parts.values())
    rest = islice(job.reports, kept, None)
    with opened(job.settings) as model, phase("extract", (count - kept) * len(parts)) as tick:
        threads = job.settings.threads
        answered = in_order(parts, rest, ask=read, threads=threads, progress=tick)
        for number, (report, readings) in enumerate(answered):
            findings.append(row_of(report, parts, readings))
            if number % FORGET_EVERY == 0:
                _forget()
        return model.meter.usage


def read(part: Part, report: Report) -> Reading:
    """Ask a part about a report, unless that could not be read."""
    return Reading({}, error=report.error) if report.error else attempt(part, report.case)


def row_of(report: Report, parts: Sequence[Part], readings: Sequence[Reading]) -> dict[str, Any]:
    """Return a report's line: findings with their places, errors and mended answers by category.

    `errors` says why a category has no answer, `mended` what was wrong with one that was used.
    """
    pairs = zip(parts, readings, strict=True)
    found = {key: reading for part, reading in pairs for key in part.keys}
    findings = {
        key: [finding(report.case, p) for p in placed(report.case, reading.quotes.get(key, ()))]
        for key, reading in found.items()
    }
    return {
        "id": report.case.id,
        "source": report.source,
        "findings": findings,
        "errors": {key: reading.error for key, reading in found.items() if reading.error},
        "mended": {k: found[k].irregular[k] for k in found if k in found[k].irregular},
    }


def unanswered(parts: Sequence[Part], row: Mapping[str, Any]) -> int:
    """Count the calls of a row that got no answer, which another time they may."""
    errors = row["errors"]
    return sum(
        any(key in errors and not errors[key].startswith(_LASTING) for key in part.keys)
        for part in parts
    )


def finding(case: Case, place: Placement) -> dict[str, Any]:
    """Return a quote with its first place, and the others it can mean in `also`.

    `start` and `end` point into the case's text, `section_start` into that of its section; null
    where the quote is not in the report.
    """
    (start, end), *others = place.spans or ((None, None),)
    section, at = (None, None) if start is None else case.place(start)
    return {
        "quote": place.quote,
        "status": place.status.value,
        "start": start,
        "end": end,
        "section": section,
        "section_start": at,
        "also": others,
    }


def _forget() -> None:
    """Drop what was remembered about reports that are done: memory must not grow with them."""
    dspy.cache.reset_memory_cache()
    grounding.forget()
