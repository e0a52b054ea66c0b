"""An Optuna study over the points of a grid."""

from __future__ import annotations

import os
import random
import re
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from crb_dspy import stats
from crb_dspy.compile.plan import arranged
from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Split, split
from crb_dspy.errors import UserError, one_line
from crb_dspy.evaluation import figures
from crb_dspy.files import fingerprint
from crb_dspy.scoring.halves import Halves
from crb_dspy.sweep.budget import SharedBudget
from crb_dspy.sweep.grid import Grid, Point
from crb_dspy.sweep.points import (
    Carry,
    Outcome,
    alike,
    at_once,
    carried,
    models_of,
    reached,
    side_by_side,
)
from crb_dspy.tracking import store as tracking

# Trials of a study that says nothing else, and where it is kept: one file that several
# processes may share.
TRIALS, STORAGE = 20, f"journal://{tracking.FOLDER}/studies.journal"
# A point that was not worth judging on all cases; below so many groups nothing can be shown.
EARLY, FEWEST = "stopped early", 4
# Of a trial: who carries it out, and what became of it.
WORKER, OUTCOME = "worker", "outcome"
# Seconds to wait for another process to say which point it has taken.
PATIENCE = 10.0
# Keys of an experiment that may differ between machines that share a study.
ELSEWHERE = {"out", "threads", "timeout", "api_base", "reflection_api_base"}
Labels = tuple[tuple[str, str], ...]
Scores = Mapping[str, Sequence[float]]


class Study:
    """An Optuna study over the points of a grid: the higher score, the fewer tokens.

    Several processes may share one storage; each point is carried out once, by one of them. The
    test cases of the points are left alone: candidates are judged on some of the others.
    """

    def __init__(self, grid: Grid, points: Sequence[Point]) -> None:
        search = grid.search
        self.name = str(search.get("study", grid.name))
        self.points = {_key(p.labels): _explored(p, self.name) for p in points}
        self.wanted = min(search.get("trials", TRIALS), len(points))
        self._axes = {axis.name: list(axis.choices) for axis in grid.axes}
        self._study = _opened(str(search.get("storage", STORAGE)), self.name, self._space())
        seed = points[0].planned.experiment.seed + len(self._study.trials)
        self._sampler = optuna.samplers.TPESampler(seed=seed)
        self._running: dict[str, Trial] = {}
        self._broken: set[Labels] = set()
        self._abandon()

    def run(self, shared: SharedBudget) -> Iterator[Outcome]:
        """Carry out points until the study has the trials it wants; yield what became of each."""
        if not self._free():
            return
        points = list(self.points.values())
        with ExitStack() as stack:
            models = {models_of(g[0]): reached(stack, g[0], shared) for g in alike(points)}

            def carry(point: Point) -> Outcome:
                with_models = partial(carried, models=models[models_of(point)], shared=shared)
                return self._judged(point, with_models)

            for outcome in side_by_side(self._ask, carry, at_once(points)):
                self._tell(outcome)
                yield outcome

    @property
    def finished(self) -> int:
        """How many trials are over, of all processes, those that were stopped early included."""
        return len([t for t in self._standing() if t.state.is_finished()])

    def front(self) -> list[Outcome]:
        """Return the trials that none beats in both score and tokens, best score first."""
        best = sorted(self._study.best_trials, key=lambda trial: -trial.values[0])
        return [Outcome(**trial.user_attrs[OUTCOME]) for trial in best]

    def _ask(self) -> Point | None:
        """Return a point that nobody has taken, None when there are trials enough."""
        pinned: Labels = ()
        while free := self._free():
            trial, labels = self._suggested(pinned)
            if labels not in self._broken and self._first(trial, labels):
                point = self.points[labels]
                self._running[point.name] = trial
                return point
            trial.set_user_attr("withdrawn", True)
            self._study.tell(trial, state=TrialState.FAIL)
            pinned = random.Random(f"{self.name}/{trial.number}").choice(free)
        return None

    def _suggested(self, pinned: Labels) -> tuple[Trial, Labels]:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            fixed = optuna.samplers.PartialFixedSampler(dict(pinned), self._sampler)
        self._study.sampler = fixed if pinned else self._sampler
        trial = self._study.ask()
        trial.set_user_attr(WORKER, (socket.gethostname(), os.getpid()))
        labels = {n: trial.suggest_categorical(n, choices) for n, choices in self._axes.items()}
        return trial, _key(labels)

    def _first(self, trial: Trial, labels: Labels) -> bool:
        """Say whether a trial is the first with its labels, and among those that are wanted.

        Trials are numbered by the storage, and each looks at lower numbers only: of several
        processes that chose the same at the same time, all come to the same answer.
        """
        until = time.monotonic() + PATIENCE
        while True:
            lower = [t for t in self._standing() if t.number < trial.number]
            if all(len(t.params) == len(self._axes) for t in lower) or time.monotonic() > until:
                break
            time.sleep(0.05)
        before = self._taken(lower)
        return labels not in before and len(before) < self.wanted

    def _free(self) -> list[Labels]:
        """Return the points that could be carried out, none when there are trials enough."""
        taken = self._taken(self._standing())
        if len(taken) >= self.wanted:
            return []
        return [labels for labels in self.points if labels not in taken | self._broken]

    def _taken(self, trials: Sequence[FrozenTrial]) -> set[Labels]:
        return {_key(trial.params) for trial in trials} & set(self.points)

    def _standing(self) -> list[FrozenTrial]:
        """Return all trials that did not fail."""
        return [t for t in self._study.get_trials(deepcopy=False) if t.state != TrialState.FAIL]

    def _tell(self, outcome: Outcome) -> None:
        trial = self._running.pop(outcome.name)
        trial.set_user_attr(OUTCOME, asdict(outcome))
        if outcome.state == "failed":
            self._broken.add(_key(trial.params))
            self._study.tell(trial, state=TrialState.FAIL)
        elif outcome.state == EARLY:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, [outcome.score, outcome.tokens])

    def _judged(self, point: Point, carry: Carry) -> Outcome:
        """Judge a point on half of its cases first, where others could be shown to be better."""
        test = point.planned.split.test
        half = test[: (len(test) + 1) // 2]
        done = [t for t in self._standing() if t.state == TrialState.COMPLETE]
        if not done or len({case.group for case in half}) < FEWEST:
            return carry(point)
        some = carry(_with_test(point, half))
        if some.state == "failed":
            return replace(some, name=point.name)
        # The other cases take as much again, each.
        tokens = some.tokens + some.judging * (len(test) - len(half)) / len(half)
        for rival in (t.user_attrs[OUTCOME] for t in done if t.values[1] <= tokens):
            if _better(rival["scores"], some.scores, half):
                why = f"on {len(half)} of {len(test)} cases {rival['name']} is better for less"
                return replace(some, name=point.name, state=EARLY, why=why)
        whole = carry(point)
        both = (some.calls + whole.calls, some.seconds + whole.seconds)
        return replace(whole, calls=both[0], seconds=both[1])

    def _abandon(self) -> None:
        """Fail the trials of processes of this machine that are no more."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            host, process = trial.user_attrs.get(WORKER, ("", 0))
            if host == socket.gethostname() and not _alive(process):
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _space(self) -> str:
        """Return what changes when a study's points are no longer comparable."""
        points = [p.planned for p in self.points.values()]
        own = [{k: v for k, v in p.experiment if k not in ELSEWHERE} for p in points]
        return fingerprint(own, [(p.loaded.fingerprint, p.split.fingerprint) for p in points])


def _explored(point: Point, study: str) -> Point:
    """Return a point judged on some of the cases that are not its test cases.

    Its runs stand apart from those that may be compared on test cases.
    """
    planned = point.planned
    experiment = planned.experiment
    if planned.folds:
        raise UserError("search = 'optuna' needs test cases to leave alone: set folds = 0")
    train, validation, test = experiment.split
    inner = split(
        [*planned.split.train, *planned.split.validation],
        seed=experiment.seed,
        fractions=(train, validation, test),
    )
    name = f"{planned.schema.name} (study {study})"
    changed = arranged(
        experiment.model_copy(update={"out": str(Path(experiment.out) / study)}),
        planned.schema.model_copy(update={"name": name}),
        planned.loaded,
        planned.tuning,
        (inner,),
    )
    return replace(point, planned=changed)


def _with_test(point: Point, test: Sequence[Case]) -> Point:
    """Return a point judged on these cases only."""
    planned = point.planned
    name = f"{point.name}-on-{len(test)}"
    experiment = planned.experiment.model_copy(update={"name": name})
    few = Split(planned.split.train, planned.split.validation, tuple(test))
    judged = arranged(experiment, planned.schema, planned.loaded, planned.tuning, (few,))
    return Point(name, point.labels, judged)


def _better(rival: Scores, mine: Scores, cases: Sequence[Case]) -> bool:
    """Say whether a rival is shown to be better on cases that both were judged on."""
    both = [case for case in cases if case.id in rival and case.id in mine]
    theirs, own = (
        figures.columns(Halves(*scores[case.id]) for case in both) for scores in (rival, mine)
    )
    gain = stats.harmonic_difference(own, theirs, [case.group for case in both])
    return stats.verdict(gain) == "improved"


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _opened(url: str, name: str, space: str) -> optuna.Study:
    """Open or begin a study; UserError if its storage can't be had, or it is about other points."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Passwords stand before the host.
    shown = re.sub(r":[^:@/]*@", ":***@", url)
    try:
        study = optuna.create_study(
            storage=_storage(url),
            study_name=name,
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        if "space" not in study.user_attrs:
            study.set_user_attr("space", space)
        then = study.user_attrs["space"]
    except (OSError, ImportError, OptunaError, SQLAlchemyError) as error:
        hint = "; for PostgreSQL: pip install 'psycopg[binary]'" * isinstance(error, ImportError)
        raise UserError(f"storage = '{shown}': {one_line(error)}{hint}") from error
    if then != space:
        raise UserError(f"study '{name}' in {shown} is about other points or data: name another")
    return study


def _storage(url: str) -> Any:
    if not url.startswith("journal://"):
        return url
    path = Path(url.removeprefix("journal://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))
