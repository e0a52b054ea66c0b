"""An extraction over a cluster: reports dealt to workers, a folder of Parquet, a manifest."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from crb_dspy.cluster import pool
from crb_dspy.cluster.pool import Cluster
from crb_dspy.cluster.seat import Order, plain
from crb_dspy.data.readers import Place, Reports
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluation.failures import reasons
from crb_dspy.evaluation.session import session
from crb_dspy.extract.extraction import Job, Summary, content_of, identity
from crb_dspy.extract.findings import Counts
from crb_dspy.extract.partitions import Partitions
from crb_dspy.extract.worker import COUNTED, Piece, Task
from crb_dspy.files import as_json
from crb_dspy.models.meter import Usage
from crb_dspy.progress import phase
from crb_dspy.saved import program_text, shipped

# Reports a file, at least and at most: a thousandth of all in between, which is what a worker that
# is killed may have asked about in vain.
FEWEST, MOST = 8, 256
SHARE = 1000
# Seconds between two writings of the manifest, which only tells what the files say themselves.
EVERY = 10.0


@dataclass(frozen=True)
class Spread:
    """A job, the cluster that does it, and the folder it writes, here or where pyarrow reaches."""

    job: Job
    cluster: Cluster
    out: str


@dataclass(frozen=True)
class _Dealt:
    """Pieces of the reports, what tells these reports from others, and how many there are."""

    pieces: list[Piece]
    digest: str
    reports: int
    unreadable: int


def spread(work: Spread) -> Summary:
    """Write every report's row once, into files of a few reports, by as many workers as there are.

    Files are written whole: what is not there is done by the next start of the command, and what
    failed for a reason that may pass is asked again. UserError, before any call, as of `extract`.
    """
    job = work.job
    parts = job.saved.program.parts
    out = Partitions(work.out, tuple(key for part in parts.values() for key in part.keys))
    dealt = deal(job.reports)
    if dealt.reports == dealt.unreadable:
        raise UserError("no report can be read; give at least one")
    _begin(out, job, dealt)
    done = {n: counts for n in out.numbers() if (counts := out.counts(n)) is not None}
    todo = list(_todo(dealt.pieces, done, job.retry_failed))
    kept = sum(c["reports"] for n, c in done.items())
    usage, learnt = Usage(), list[str]()
    if todo:
        usage, learnt = _worked(work, out, todo, done, dealt)
    _finish(out, done)
    total = {name: sum(counts[name] for counts in done.values()) for name in COUNTED}
    unreadable, passing = total.pop("unreadable"), total.pop("passing")
    why = reasons(out.errors(n for n, counts in done.items() if counts["failed"]))
    return Summary(Counts(**total), kept, unreadable, usage, 0, passing, why, learnt)


def deal(reports: Reports) -> _Dealt:
    """Read the reports once, and cut them into pieces that are read where they are asked about."""
    digest, count, unreadable = hashlib.sha256(), 0, 0
    pieces: list[Piece] = []
    held: list[tuple[str, Place]] = []
    for report, place in reports.placed():
        digest.update(as_json(content_of(report)).encode("utf-8"))
        count, unreadable = count + 1, unreadable + bool(report.error)
        held.append((report.case.id, place))
        if len(held) == FEWEST:
            pieces.append(_piece(held))
            held = []
    pieces += [_piece(held)] if held else []
    each = max(1, min(MOST, count // SHARE) // FEWEST)
    whole = [_joined(i // each, pieces[i : i + each]) for i in range(0, len(pieces), each)]
    return _Dealt(whole, digest.hexdigest(), count, unreadable)


def _piece(held: list[tuple[str, Place]]) -> Piece:
    runs = [list(run) for _, run in groupby(held, key=lambda item: item[1].file)]
    places = tuple((p.file, p.offset, p.index) for p in (run[0][1] for run in runs))
    # A name with a number was given for want of another.
    renamed = {str(i): name for i, (name, _) in enumerate(held) if "#" in name}
    return Piece(0, places, tuple(len(run) for run in runs), renamed)


def _joined(number: int, pieces: list[Piece]) -> Piece:
    """Return pieces that follow each other as one."""
    places: list[tuple[int, int, int]] = []
    takes: list[int] = []
    renamed: dict[str, str] = {}
    for piece in pieces:
        renamed |= {str(sum(takes) + int(i)): name for i, name in piece.renamed.items()}
        for place, take in zip(piece.places, piece.takes, strict=True):
            if places and places[-1][0] == place[0]:
                takes[-1] += take
            else:
                places.append(place)
                takes.append(take)
    return Piece(number, tuple(places), tuple(takes), renamed)


def _todo(
    pieces: Iterable[Piece], done: Mapping[int, Mapping[str, int]], retry: bool
) -> Iterator[Piece]:
    for piece in pieces:
        counts = done.get(piece.number)
        if counts is None:
            yield piece
        elif counts["failed" if retry else "passing"]:
            yield replace(piece, again="all" if retry else "passing")


def _begin(out: Partitions, job: Job, dealt: _Dealt) -> None:
    own = {**identity(job, dealt.digest), "files": len(dealt.pieces)}
    then = out.manifest()
    if not then:
        if out.numbers():
            raise UserError(f"{out.folder}: holds files of something else; name another --out")
        out.note({"run": own, "categories": list(out.keys), "reports": dealt.reports, "files": {}})
    elif differs := [name for name in own if then.get("run", {}).get(name) != own[name]]:
        raise UserError(
            f"{out.folder}: not the same {differs[0]} as when it was begun; go on with the same "
            "program, model and inputs, or name another --out"
        )


def _worked(
    work: Spread,
    out: Partitions,
    todo: list[Piece],
    done: dict[int, dict[str, int]],
    dealt: _Dealt,
) -> tuple[Usage, list[str]]:
    """Let workers do what is to be done; RunError where a model or a cap ends it."""
    job = work.job
    with session(job.settings) as model:
        known, usage, learnt = model.engine.known(), model.meter.usage, model.learnt
    ends: list[str] = []
    load = partial(shipped, program_text(job.saved))
    with ExitStack() as stack:
        stack.enter_context(pool.connected(work.cluster))
        tick = stack.enter_context(phase("extract", dealt.reports))
        allowance = pool.allowance(job.caps)
        order = Order(load, plain(job.settings), known, job.caps, allowance)
        task = Task(order, job.reports, out)
        shown = time.monotonic()
        mapped = pool.mapped([piece.plain() for piece in todo], task, work.cluster)
        for made in stack.enter_context(closing(mapped)):
            if reason := made.get("gone") or made.get("spent"):
                ends.append(reason)
            learnt.add(made["learnt"])
            if "counts" in made:
                done[made["number"]] = made["counts"]
                usage += Usage(**made["usage"])
                _tick(tick, made["counts"]["reports"])
            if time.monotonic() - shown > EVERY:
                shown = time.monotonic()
                _finish(out, done)
            # At a cap other workers may still hold calls and answers: what they began is written.
            if "gone" in made:
                break
    _finish(out, done)
    if ends:
        raise RunError(f"{ends[0]}; {len(done)} files are written, the same command goes on")
    return usage, learnt.lines()


def _tick(tick: Callable[[], None], times: int) -> None:
    for _ in range(times):
        tick()


def _finish(out: Partitions, done: Mapping[int, Mapping[str, int]]) -> None:
    files = {out.path(number): dict(done[number]) for number in sorted(done)}
    out.note({**out.manifest(), "files": files})
