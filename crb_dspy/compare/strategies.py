"""From the runs that MLflow holds to strategies that can be compared."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crb_dspy.compare.comparison import Board, Key, Strategy, board, differing
from crb_dspy.compare.stored import Stored
from crb_dspy.data.kind import COMMON, LEARNT
from crb_dspy.errors import UserError
from crb_dspy.scoring.objectives import SCORE
from crb_dspy.tracking.run import KIND, PARENT
from crb_dspy.tracking.store import fetch

# What a run without a name of its own is told by, where runs differ in it.
TELLING = ("program", "optimizer", "few_shot", "model", "seed")
# Of what a value alone does not say.
SAID = {"few_shot": {"True": "few-shot", "False": "zero-shot"}}
SEED = ":seed"
BESIDE = ("empty answer", "sentence classifier", COMMON, LEARNT)


@dataclass(frozen=True)
class Choice:
    """Runs to compare, the one that is the baseline, and why others were left out.

    With `seed` the baseline is not what that run tuned but what it started from.
    """

    runs: tuple[Stored, ...]
    baseline: Stored
    seed: bool
    notes: tuple[str, ...] = ()


def choose(
    stored: Sequence[Stored], wanted: Sequence[str], baseline: str | None, experiment: str | None
) -> Choice:
    """Choose runs by id, prefix of an id, or name; without any, all compiles of the experiment.

    The baseline is the one named (`RUN`, or `RUN:seed` for its untuned program), else the oldest
    run with optimizer `none`, else the seed of the oldest run. UserError for a run that is not
    there, is no finished compile, or was named and cannot be compared; runs that were not named
    are left out with a note. A run repeated with the same experiment counts once, the newest.
    """
    named = [run for text in wanted for run in find(stored, text)]
    name, seed = _untuned(baseline)
    given = find(stored, name)[-1] if name else None
    runs = list({run.id: run for run in named or _all(stored, experiment, given)}.values())
    reference = given or (runs[0] if named else runs[-1])
    notes = []
    if unlike := [(run, why) for run in runs if (why := differing(run.params, reference.params))]:
        if named:
            run, why = unlike[0]
            raise UserError(f"{_told(run)} cannot be compared with {_told(reference)}: {why}")
        runs = [run for run in runs if run not in [other for other, _ in unlike]]
        notes = [f"{n} left out: {why}" for why, n in Counter(why for _, why in unlike).items()]
    if given is None:
        untuned = [run for run in runs if run.params.get("optimizer") == "none"]
        given, seed = (untuned or runs)[0], not untuned
    if given not in runs:
        runs.insert(0, given)
    return Choice(tuple(runs), given, seed, tuple(notes))


def find(stored: Sequence[Stored], text: str) -> list[Stored]:
    """Return the finished compiles of that id, prefix of an id, or name, repeats left out."""
    ids = [run for run in stored if len(text) >= 4 and run.id.startswith(text)]
    if len(ids) > 1:
        raise UserError(f"run '{text}': {len(ids)} ids begin so; give more of it")
    hits = ids or [run for run in stored if run.name == text]
    if not hits:
        raise UserError(f"no run '{text}': give an id, the beginning of one, or a name")
    usable = [run for run in hits if _compiled(run)]
    if not usable:
        run = hits[0]
        kind = run.tags.get(KIND, "part" if PARENT in run.tags else "run")
        raise UserError(f"run '{text}' is no finished compile: {kind}, {run.status.lower()}")
    return _newest(usable)


def laid_out(choice: Choice) -> Board:
    """Read the cells of the chosen runs, each file once, and put them side by side."""
    base, runs = choice.baseline, choice.runs
    strategies: list[tuple[Strategy, dict[Key, float]]] = []
    groups: dict[str, str] = {}
    silent: set[Key] = set()
    beside: dict[str, float] = {}
    for run, label in zip(runs, labels(runs), strict=True):
        rows = cells(run)
        strategies.append((_strategy(run, label), _scores(rows)))
        if run is base:
            groups = {str(row["case"]): str(row["group"]) for row in rows}
            silent = _silent(run, rows)
            beside = _beside(run)
            untuned = _scores(rows, "score_baseline") if choice.seed else {}
            seed = Strategy(f"seed of {label}", run.id, np.empty((0, 0)), {}, run.params)
    strategies.sort(key=lambda pair: pair[0].run != base.id)
    laid = [(seed, untuned), *strategies] if choice.seed else strategies
    return replace(board(laid, groups, silent), beside=beside)


def _silent(run: Stored, rows: Sequence[dict[str, Any]]) -> set[Key]:
    """Return the cells that are the second half of the score: those without gold."""
    if run.params.get("objective", SCORE) != SCORE:
        return set()
    return {(row["case"], row["category"]) for row in rows if row.get("silent", not row["gold"])}


def _beside(run: Stored) -> dict[str, float]:
    """Return the scores of the systems that ask no model, as a run keeps them."""
    names = {name: run.metrics.get(f"{name.replace(' ', '_')}/score") for name in BESIDE}
    return {name: score for name, score in names.items() if score is not None}


def cells(run: Stored) -> list[dict[str, Any]]:
    """Return a run's test cells as rows; UserError if it has none."""
    path = fetch(run.id, "cells.jsonl")
    try:
        # Only \n ends a line: quotes may hold other separators.
        rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON lines: {error}") from error
    if not rows:
        raise UserError(f"{path}: {_told(run)} has no cells")
    return rows


def labels(runs: Sequence[Stored]) -> list[str]:
    """Return the names of runs, or where names repeat what the runs differ in."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    told = [key for key in TELLING if len({run.params.get(key) for run in runs}) > 1]
    # Whether demonstrations are shown mostly follows from the optimizer, which then says more.
    rest = [key for key in told if key != "few_shot"]
    if len({_said(run, rest) for run in runs}) == len({_said(run, told) for run in runs}):
        told = rest
    texts = [_said(run, told) or run.name for run in runs]
    repeated = Counter(texts)
    pairs = zip(texts, runs, strict=True)
    return [text if repeated[text] == 1 else f"{text} ({run.id[:6]})" for text, run in pairs]


def _said(run: Stored, keys: Sequence[str]) -> str:
    values = ((key, run.params.get(key, "-")) for key in keys)
    return " / ".join(SAID.get(key, {}).get(value, value) for key, value in values)


def _all(stored: Sequence[Stored], experiment: str | None, baseline: Stored | None) -> list[Stored]:
    known = experiment or (baseline.experiment if baseline else None)
    runs = [run for run in stored if _compiled(run) and known in (None, run.experiment)]
    names = dict.fromkeys(run.experiment for run in runs)
    if not runs:
        raise UserError("no finished compile to compare")
    if len(names) > 1:
        raise UserError(f"--experiment NAME: there are runs of {', '.join(names)}")
    return _newest(runs)


def _compiled(run: Stored) -> bool:
    own = run.tags.get(KIND, "compile") == "compile" and PARENT not in run.tags
    return own and run.status == "FINISHED" and "test/score" in run.metrics


def _newest(runs: Sequence[Stored]) -> list[Stored]:
    """Leave out all but the newest run of each experiment, since equal ones are equal."""
    if len(runs) == 1:
        return list(runs)
    last = {fetch(run.id, "experiment.toml").read_text("utf-8"): run for run in runs}
    return [run for run in runs if run in last.values()]


def _untuned(baseline: str | None) -> tuple[str | None, bool]:
    if baseline and baseline.endswith(SEED):
        return baseline.removesuffix(SEED), True
    return baseline, False


def _strategy(run: Stored, label: str) -> Strategy:
    return Strategy(label, run.id, np.empty((0, 0)), run.metrics, run.params)


def _scores(rows: Sequence[dict[str, Any]], column: str = "score") -> dict[Key, float]:
    if column not in rows[0]:
        raise UserError(f"the run keeps no '{column}' in its cells: choose another --baseline")
    return {
        (row["case"], row["category"]): math.nan if row[column] is None else row[column]
        for row in rows
    }


def _told(run: Stored) -> str:
    return f"run {run.name} ({run.id[:6]})"
