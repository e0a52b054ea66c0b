"""A saved program on one's own reports: a line each, in their order, and none of them twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import dspy

from crb_dspy.data.findings import findings_of
from crb_dspy.data.readers import Report, Reports
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluation import batches
from crb_dspy.evaluation.asking import AHEAD, in_order
from crb_dspy.evaluation.failures import reasons
from crb_dspy.evaluation.session import session
from crb_dspy.extract.findings import Counts, FindingsFile, held
from crb_dspy.files import as_json
from crb_dspy.models.budget import Budget, BudgetSpent, Caps
from crb_dspy.models.meter import Usage
from crb_dspy.models.settings import Endpoint, Settings
from crb_dspy.program import Part, Reading, attempt
from crb_dspy.progress import phase
from crb_dspy.quotes import grounding
from crb_dspy.saved import Saved

# Reports between two clearings of memory.
FORGET_EVERY = 32
# What stands for a reading that a line holds already.
KEPT = Reading({})
# Errors of an answer that came, of a request that is refused as such, of a report that is too
# long: the same whenever it is asked. Asked in a row, they would look like a dying server.
_LASTING = (
    "AdapterParseError:",
    "LMInvalidRequestError:",
    "ContextWindowExceededError:",
    "ValueError:",
)


@dataclass(frozen=True)
class Job:
    """What is to be done: a program, a model, reports, and the file of their findings.

    `retry_failed`: ask again about all that an earlier run failed at, not only what may pass.
    `caps` hold for the calls of one start. `batch`: by the provider's batch API.
    """

    saved: Saved
    settings: Settings
    reports: Reports
    out: Path
    retry_failed: bool = False
    caps: Caps = field(default_factory=Caps)
    batch: bool = False


@dataclass(frozen=True)
class Summary:
    """What a job has come to: `kept` reports are from an earlier run, `usage` is of this one.

    `again` calls of the earlier run had failed and were made again; `passing` cells have failed
    for a reason that may pass. `reasons` say why cells failed, most frequent first, `learnt` what
    the server can't take.
    """

    counts: Counts
    kept: int
    unreadable: int
    usage: Usage
    again: int = 0
    passing: int = 0
    reasons: Sequence[str] = ()
    learnt: Sequence[str] = ()


def extract(job: Job) -> Summary:
    """Write a line a report, in order, going on after what an earlier run of the job wrote.

    Each line reaches the disk before the next, and each answer the cache, so that a run that is
    killed repeats at most the calls under way. What an earlier run failed at for a reason that
    may pass is asked again. UserError, before any call, if the file cannot be written, is
    another run's, or belongs to another program, model or set of reports.
    """
    parts = list(job.saved.program.parts.values())
    with held(job.out) as findings:
        digest, count, unreadable = _scanned(job.reports)
        if unreadable == count:
            first = next(iter(job.reports), None)
            said = f"no report can be read; the first: {first.error}" if first else "no report"
            raise UserError(f"{said}; give at least one")
        findings.begin(identity(job, digest))
        in_vain = partial(unanswered, parts)
        kept = findings.resume(job.reports, count, in_vain, AHEAD * job.settings.threads)
        failed = (lambda row: len(failures(parts, row))) if job.retry_failed else in_vain
        again = findings.total(failed, job.reports, kept)
        usage, learnt = Usage(), list[str]()
        if kept < count or again:
            usage, learnt = _asked(job, findings, kept, count, again)
        passing = findings.total(partial(_passing, parts), job.reports, count)
        why = reasons(error for row in findings.rows() for error in row["errors"].values())
        return Summary(findings.counts(), kept, unreadable, usage, again, passing, why, learnt)


def identity(job: Job, digest: str) -> dict[str, object]:
    """Return what has to be the same for a run to go on where another stopped."""
    settings = Endpoint.of(job.settings).model_dump(exclude={"api_key_env"})
    return {"program": job.saved.fingerprint, **settings, "inputs": digest}


def _scanned(reports: Reports) -> tuple[str, int, int]:
    """Return what tells these reports, in this order, from others; their number; the unreadable."""
    digest, count, unreadable = hashlib.sha256(), 0, 0
    for report in reports:
        digest.update(as_json(content_of(report)).encode("utf-8"))
        count += 1
        unreadable += bool(report.error)
    return digest.hexdigest(), count, unreadable


def content_of(report: Report) -> list[object]:
    """Return what tells a report from others."""
    return [report.case.id, list(report.case.sections.items()), bool(report.error)]


def _asked(
    job: Job, findings: FindingsFile, kept: int, count: int, again: int
) -> tuple[Usage, list[str]]:
    parts = list(job.saved.program.parts.values())
    rest, total = islice(job.reports, kept, None), (count - kept) * len(parts) + again
    budget = Budget(job.caps)
    with session(job.settings, budget) as model, _whole(), phase("extract", total) as tick:
        if job.batch:
            first = 0 if again else kept
            folder = job.out.with_name(f"{job.out.name}.batch")
            reports = partial(islice, job.reports, first, None)
            batches.answer(model, parts, reports, read_report, folder, job.caps)
        threads = job.settings.threads
        answered = in_order(parts, rest, ask=read_report, threads=threads, progress=tick)
        for number, (report, readings) in enumerate(answered):
            findings.append(row_of(report, parts, readings))
            if number % FORGET_EVERY == 0:
                forget()
        if again:
            # An answer that could not be used would come from the cache again.
            model.lm.cache = not job.retry_failed
            _mended(job, findings, kept, tick)
        if model.learnt.lacking:
            findings.note({"server": model.learnt.plain()})
        return model.meter.usage, model.learnt.lines()


@contextmanager
def _whole() -> Iterator[None]:
    """RunError where a cap ends an extraction: what is written stays."""
    try:
        yield
    except BudgetSpent as error:
        raise RunError(f"{error}; what is written stays, the same command goes on") from error


@dataclass(frozen=True)
class Line:
    """A line that an earlier run wrote, with its report and the parts to ask again."""

    report: Report
    row: Mapping[str, Any]
    failed: Sequence[Part]


def _mended(job: Job, findings: FindingsFile, kept: int, tick: Callable[[], None]) -> None:
    """Ask again what failed in the first lines, and write the file anew once all is answered.

    Answers are cached as they come: a run that is killed here repeats nothing.
    """
    parts = list(job.saved.program.parts.values())
    lasting = job.retry_failed
    lines = (
        Line(report, row, () if report.error else failures(parts, row, lasting=lasting))
        for report, row in zip(islice(job.reports, kept), findings.rows(), strict=False)
    )

    def ask(part: Part, line: Line) -> Reading:
        if part not in line.failed:
            return KEPT
        tick()
        return attempt(part, line.report.case)

    answered = in_order(parts, lines, ask=ask, threads=job.settings.threads)
    findings.rewrite(renewed(line, parts, readings) for line, readings in answered)


def renewed(line: Line, parts: Sequence[Part], readings: Sequence[Reading]) -> dict[str, Any]:
    """Return a row with what was asked again in place of its failures."""
    pairs = zip(parts, readings, strict=True)
    asked = [(part, reading) for part, reading in pairs if reading is not KEPT]
    if not asked:
        return dict(line.row)
    new = row_of(line.report, [part for part, _ in asked], [reading for _, reading in asked])
    own = {key for part, _ in asked for key in part.keys}
    kept = {
        name: {key: value for key, value in line.row[name].items() if key not in own}
        for name in ("errors", "mended")
    }
    findings = {key: new["findings"].get(key, old) for key, old in line.row["findings"].items()}
    both = {name: kept[name] | new[name] for name in kept}
    return {**line.row, "findings": findings, **both}


def read_report(part: Part, report: Report) -> Reading:
    """Ask a part about a report, unless that could not be read."""
    return Reading({}, error=report.error) if report.error else attempt(part, report.case)


def row_of(report: Report, parts: Sequence[Part], readings: Sequence[Reading]) -> dict[str, Any]:
    """Return a report's line: its text, findings with their places, errors and mended answers.

    `errors` says why a category has no answer, `mended` what was wrong with one that was used.
    """
    pairs = zip(parts, readings, strict=True)
    found = {key: reading for part, reading in pairs for key in part.keys}
    kinds = {key: kind for part in parts for key, kind in part.kinds.items()}
    findings = {
        key: findings_of(report.case, kinds[key], reading.quotes.get(key, ()))
        for key, reading in found.items()
    }
    return {
        "id": report.case.id,
        "source": report.source,
        "sections": dict(report.case.sections),
        "findings": findings,
        "errors": {key: reading.error for key, reading in found.items() if reading.error},
        "mended": {k: found[k].irregular[k] for k in found if k in found[k].irregular},
    }


def failures(
    parts: Sequence[Part], row: Mapping[str, Any], *, lasting: bool = True
) -> tuple[Part, ...]:
    """Return the parts that failed at a row's report; without `lasting`, where it may pass."""
    errors = row["errors"]
    return tuple(
        part
        for part in parts
        if any(k in errors and (lasting or not _lasts(errors[k])) for k in part.keys)
    )


def unanswered(parts: Sequence[Part], row: Mapping[str, Any]) -> int:
    """Count the calls of a row that got no answer, which another time they may."""
    return len(failures(parts, row, lasting=False))


def _passing(parts: Sequence[Part], row: Mapping[str, Any]) -> int:
    """Count the cells of such calls."""
    return sum(len(part.keys) for part in failures(parts, row, lasting=False))


def _lasts(error: str) -> bool:
    return error.startswith(_LASTING)


def forget() -> None:
    """Drop what was remembered about reports that are done: memory must not grow with them."""
    dspy.cache.reset_memory_cache()
    grounding.forget()
