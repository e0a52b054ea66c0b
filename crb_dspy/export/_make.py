"""An export from program to proof: written beside its place, checked, then moved there."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy import __version__
from crb_dspy.errors import UserError
from crb_dspy.export import _check, _notes
from crb_dspy.export._seam import NEEDS, Export, Exporter, carried, lacking
from crb_dspy.files import FOLDER, as_json
from crb_dspy.saved import Saved

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.models.settings import Settings

PROOF = "proof.json"


@dataclass(frozen=True)
class Trial:
    """The real cases an export is tried on, and the model that is asked."""

    cases: tuple[Case, ...]
    settings: Settings


@dataclass(frozen=True)
class Request:
    """What is wanted of an export: as it was tuned or without text, checked, tried on cases."""

    report_text: bool = True
    check: bool = True
    trial: Trial | None = None
    reports: tuple[Case, ...] = ()


def make(
    exporter: Exporter, saved: Saved, out: Path, request: Request
) -> tuple[dict[str, Any], Export]:
    """Write an export with its proof; return the proof and what was exported.

    RunError at any difference, and then nothing is written or published. UserError if the place
    cannot be written, or holds something else than an earlier export; also if it is written and
    cannot be published.
    """
    other = [key for key, kind in saved.schema.kinds.items() if not kind.verbatim]
    if exporter.quotes_only and other:
        said = f"--to {exporter.name} reads lists of quotes alone, which {', '.join(other)} are not"
        raise UserError(f"{said}; choose another format, or name others by --category")
    kept = saved if request.report_text else without_text(saved)
    cases = request.trial.cases if request.trial and exporter.wants_cases else ()
    export = Export(kept, carried(exporter, kept), request.reports, cases, not request.report_text)
    with _draft(out) as folder:
        exporter.write(export, folder)
        proof = _proof(exporter, export, folder, request)
        proof |= _without(saved, request, proof)
        (folder / "README.md").write_text(_notes.readme(exporter, export, proof), "utf-8")
        proof["files"] = _check.files(folder)
        (folder / PROOF).write_text(as_json(proof, indent=1) + "\n", "utf-8")
    try:
        published = exporter.publish(export, out)
    except UserError as error:
        said = f"{out} is written, but not published: {error}"
        raise UserError(f"{said}; the same command publishes it") from error
    return proof | {"published": published}, export


def narrowed(saved: Saved, categories: Sequence[str]) -> Saved:
    """Return a program that asks for some categories only; UserError if it cannot."""
    from crb_dspy.catalog import build_program

    if not categories:
        return saved
    schema = saved.schema.select(categories)
    program = build_program(saved.origin.program, schema, saved.origin.program_options)
    tuned = saved.program.parts
    for name, part in program.parts.items():
        if name not in tuned or tuned[name].keys != part.keys:
            together = next((p.keys for p in tuned.values() if set(part.keys) <= set(p.keys)), ())
            raise UserError(
                f"--category: program '{saved.origin.program}' asks for {', '.join(together)} "
                "together; name all of them, or leave --category out"
            )
    return replace(
        saved, schema=schema, program=program.with_parts({n: tuned[n] for n in program.parts})
    )


def without_text(saved: Saved) -> Saved:
    """Return a program without its demonstrations."""
    program = copy.deepcopy(saved.program)
    for part in program.parts.values():
        for _, predictor in part.named_predictors():
            predictor.demos = []
        if part.support:
            part.support = part.support.but(nearest=0, empty=0)
    return replace(saved, program=program)


def earlier_files(out: Path) -> set[str]:
    """Return the files of an earlier export; UserError for a place with any others."""
    if out.is_symlink():
        raise UserError(f"--out {out}: is a link; name the folder it means")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    listed, earlier = _listed(out / PROOF), set()
    # The store of the folder one is in, which looking for a run or asking a model makes.
    store = f"{FOLDER}/" if out.resolve() == Path.cwd() else None
    for name in _files(out):
        if name in listed:
            earlier.add(name)
        elif not (store and name.startswith(store)):
            said = f"--out {out}: holds {name}, which is of no earlier export"
            raise UserError(f"{said}; move it, or name another place")
    return earlier


def _proof(exporter: Exporter, export: Export, folder: Path, request: Request) -> dict[str, Any]:
    origin = export.saved.origin
    check = _check.check(exporter, export, folder) if request.check else None
    cases = None
    if request.check and request.trial:
        from crb_dspy.export._cases import compare

        cases = compare(exporter, export, folder, request.trial.cases, request.trial.settings)
    return {
        "format": exporter.name,
        "crb_dspy": __version__,
        "program": origin.program,
        "program_fingerprint": export.saved.fingerprint,
        "model": origin.model,
        "model_fingerprint": _check.model_fingerprint(origin),
        "categories": list(export.saved.schema.keys),
        "prompts": _check.hashes(export),
        "lacks": {need: NEEDS[need] for need in lacking(exporter, export.saved)},
        "report_text": _notes.report_text(export, holding="classifier" in exporter.carries),
        "check": check,
        "cases": cases,
    }


def _without(saved: Saved, request: Request, proof: dict[str, Any]) -> dict[str, Any]:
    """Return the score with and without the demonstrations, if they were dropped on request."""
    scores: dict[str, Any] = {"score_with_report_text": None, "score_without_report_text": None}
    if request.report_text or request.trial is None:
        return scores
    from crb_dspy.export._cases import score

    trial = request.trial
    bare = proof["cases"]["score_program"] if proof["cases"] else None
    scores["score_with_report_text"] = score(saved, trial.cases, trial.settings)
    scores["score_without_report_text"] = (
        score(without_text(saved), trial.cases, trial.settings) if bare is None else bare
    )
    return scores


def _listed(proof: Path) -> set[str]:
    """Return the files that a proof accounts for, itself among them; none if it is not ours."""
    try:
        said = json.loads(proof.read_bytes())
        return {proof.name, *said["files"]} if "crb_dspy" in said else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Give a new folder whose files take the place of `out`'s if all goes well, and else are gone.

    A folder that is there stays: it may be the one in which the command is typed.
    """
    earlier = earlier_files(out)
    place = out.resolve()
    draft = (place if place.exists() else place.parent) / f".{place.name}.{os.getpid()}"
    try:
        with _told(out):
            draft.mkdir(parents=True)
        yield draft
        with _told(out):
            if place.exists():
                _replace(place, earlier, draft)
            else:
                draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(place: Path, earlier: set[str], draft: Path) -> None:
    """Put the files of a draft where those of an earlier export are, and touch no others.

    The proof comes last: until then the old one accounts for what it can.
    """
    files = set(_files(draft))
    for name in sorted(earlier - files):
        (place / name).unlink()
        if (folder := (place / name).parent) != place and not any(folder.iterdir()):
            folder.rmdir()
    for name in sorted(files, key=lambda name: (name == PROOF, name)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).replace(place / name)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror or error}") from error
