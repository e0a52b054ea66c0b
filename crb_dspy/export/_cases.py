"""Real cases, asked by the program and by the export: the same findings, or it is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluation.asking import evaluate
from crb_dspy.evaluation.rows import Row, row_of, score_of
from crb_dspy.evaluation.session import session
from crb_dspy.export._losses import Losses
from crb_dspy.export._seam import (
    Endpoint,
    Export,
    Exporter,
    Findings,
    Quotes,
    Render,
    own_settings,
)
from crb_dspy.program import Reading
from crb_dspy.program.reading import read

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.data.kind import Kind
    from crb_dspy.models.lm import Model
    from crb_dspy.models.settings import Settings
    from crb_dspy.program import ExtractionProgram
    from crb_dspy.saved import Saved

# What a cell is in the program and in the export.
Pair = tuple[Row, Row]
# How often a program is asked again about a cell in which its export found something else.
AGAIN = 3


def compare(
    exporter: Exporter, export: Export, folder: Path, cases: Sequence[Case], settings: Settings
) -> dict[str, Any]:
    """Run program and artefact on cases; return both scores, the second None where it cannot run.

    RunError if a finding differs, unless something that the format lacks touched it, or the
    program itself, asked again, finds what the export did.
    """
    with session(settings) as model:
        own = evaluate(export.saved.program, cases, threads=settings.threads)
        proof = {
            "model": settings.model,
            "model_fingerprint": model.identity,
            "cases": [case.id for case in cases],
            "k": len(cases),
            "failed_cells": sum(row.failed for row in own),
            "score_program": _score(own),
        }
        rows, alone = _of_artefact(exporter, export, folder, cases, model)
        if rows is None:
            return proof | {"score_export": None, "findings": "not run"}
        differing = [(x, y) for x, y in zip(own, rows, strict=True) if _said(x) != _said(y)]
        excuses = _excuses(exporter, export, cases, differing, alone)
        rest = [pair for pair, why in zip(differing, excuses, strict=True) if not why]
        if left := _left(model, export.saved.program, cases, rest):
            raise RunError(f"{exporter.name}: {_told(*left[0])[:400]}; nothing was written")
    excused = Counter(filter(None, excuses))
    return proof | {
        "score_export": _score(rows),
        "export_needs_dspy": exporter.needs_dspy,
        "findings": _verdict(len(own), excused, len(rest)),
        "excused": dict(excused),
        "filled_in": [] if alone else sorted({"schema", "settings"} - exporter.carries),
    }


def score(saved: Saved, cases: Sequence[Case], settings: Settings) -> float:
    """Return the score of a program on cases."""
    with session(settings):
        return _score(evaluate(saved.program, cases, threads=settings.threads))


def cases_of(saved: Saved, data: str, k: int) -> tuple[Case, ...]:
    """Return the first k cases with gold; UserError if there is none."""
    from crb_dspy.data.benchmarks import load

    cases = [case for case in load(data, saved.whole_schema).cases if case.gold is not None]
    if not cases:
        raise UserError(f"{data}: no case has gold")
    return tuple(cases[:k])


def _excuses(
    exporter: Exporter,
    export: Export,
    cases: Sequence[Case],
    differing: Sequence[Pair],
    alone: bool,
) -> list[str]:
    """Say for each pair which loss explains it, "" where none does."""
    parts = {key: part for part in export.saved.program.parts.values() for key in part.keys}
    named = {case.id: case for case in cases}
    return [
        Losses(exporter, parts[own.category], named[own.case], alone=alone).excuse(
            _quotes(own), _quotes(other)
        )
        for own, other in differing
    ]


def _verdict(cells: int, excused: Mapping[str, int], repeated: int) -> str:
    """Say in words how findings differ, and why they may."""
    differing = repeated + sum(excused.values())
    if not differing:
        return "identical"
    reasons = [f"{why} in {_of(count, differing)}" for why, count in excused.items()]
    again = "the program, asked again, found the same as the export in"
    reasons += [f"{again} {_of(repeated, differing)}"] if repeated else []
    return "; ".join([f"{differing} of {cells} cells differ", *reasons])


def _of(count: int, whole: int) -> str:
    return "each of them" if count == whole else f"{count} of them"


def _of_artefact(
    exporter: Exporter, export: Export, folder: Path, cases: Sequence[Case], model: Model
) -> tuple[list[Row] | None, bool]:
    """Return what an artefact finds, None if it cannot be asked, and whether it ran by itself."""
    arguments = model.engine.server.connected()
    engine = model.engine
    endpoint = Endpoint(arguments, engine.supports_response_schema, engine.context)
    found = exporter.run(export, folder, cases, endpoint)
    alone = found is not None
    if found is None and (render := exporter.reader(export, folder)):
        found = _asked(render, export, cases, endpoint)
    if found is None:
        return None, alone
    kinds = export.saved.schema.kinds.items()
    rows = [_row(case, key, kind, found[case.id][key]) for case in cases for key, kind in kinds]
    return rows, alone


def _left(
    model: Model, program: ExtractionProgram, cases: Sequence[Case], differing: Sequence[Pair]
) -> list[Pair]:
    """Return the pairs that the model's own unsteadiness does not explain.

    At temperature 0 too an answer hangs on what a server computed before: where two tokens are
    all but equal, the rounding of another batch decides. So the program is asked again, whole
    cases in the export's order and not from the cache.
    """
    left, model.lm.cache = list(differing), False
    for _ in range(AGAIN):
        if not left:
            break
        names = {row.case for row, _ in left}
        model.engine.server.forget()
        again = evaluate(program, [case for case in cases if case.id in names])
        said = {(row.case, row.category): _said(row) for row in again}
        left = [(row, other) for row, other in left if said[row.case, row.category] != _said(other)]
    return left


def _row(case: Case, key: str, kind: Kind, items: Quotes) -> Row:
    reading = Reading({key: items or ()}, error="" if items is not None else "?")
    return row_of(case, key, reading, kind=kind)


def _quotes(row: Row) -> Quotes:
    return None if row.failed else row.predicted


def _said(row: Row) -> tuple[object, ...]:
    return row.predicted, row.failed


def _told(row: Row, other: Row) -> str:
    where = f"{row.case} {row.category}"
    return f"{where}: the program found {_found(row)}, the export {_found(other)}"


def _found(row: Row) -> str:
    quotes = _quotes(row)
    return "no answer" if quotes is None else str(list(quotes))


def _score(rows: Sequence[Row]) -> float:
    return round(score_of(rows), 6)


def _asked(render: Render, export: Export, cases: Sequence[Case], endpoint: Endpoint) -> Findings:
    """Send what an artefact says by LiteLLM, and read the answers."""
    return {case.id: _answered(render, export, case, endpoint) for case in cases}


def _answered(render: Render, export: Export, case: Case, endpoint: Endpoint) -> dict[str, Quotes]:
    import litellm
    import openai

    found: dict[str, Quotes] = {}
    for prompt in export.first:
        text = export.saved.program.parts[prompt.part].shown(case)
        if not text.strip():
            found |= dict.fromkeys(prompt.keys, ())
            continue
        # What a format does not carry, its user is told to send.
        call = {**own_settings(export, prompt), **render(prompt.name, text, ())}
        if not endpoint.structured:
            call.pop("response_format", None)
        try:
            reply = litellm.completion(**call, **endpoint.arguments, max_retries=3)
        except openai.OpenAIError:  # of which LiteLLM's are kinds
            found |= dict.fromkeys(prompt.keys)
            continue
        choice = reply.choices[0]
        truncated = choice.finish_reason == "length"
        kinds = {key: export.saved.program.kinds[key] for key in prompt.keys}
        answer = read(choice.message.content or "", kinds, truncated=truncated)
        found |= dict.fromkeys(prompt.keys) if answer.failed else answer.findings
    return found
