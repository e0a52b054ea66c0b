"""Points carried out side by side, and what became of each."""

from __future__ import annotations

import contextvars
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dspy.utils.callback import BaseCallback

from crb_dspy.compile import flow, resume
from crb_dspy.compile.plan import Plan
from crb_dspy.compile.result import Result
from crb_dspy.errors import CrbError, RunError, UserError, one_line
from crb_dspy.evaluation.rows import by_case
from crb_dspy.evaluation.session import CACHE
from crb_dspy.files import write_whole
from crb_dspy.models.budget import Amount, Budget, BudgetSpent, Caps
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.lm import Model
from crb_dspy.models.settings import Settings
from crb_dspy.scoring.halves import total
from crb_dspy.sweep.budget import SharedBudget
from crb_dspy.sweep.grid import Point
from crb_dspy.tracking import store as tracking

# Where a point's line of the table is kept, among its files.
OUTCOME = "outcome.json"
# More points side by side would only wait for the same slots.
AT_ONCE = 8
# What a spent budget, a model that is gone and a user's mistake raise.
FAILURES = (CrbError, ModelGone, BudgetSpent)
Carry = Callable[[Point], "Outcome"]
Written = TypeVar("Written")


@dataclass(frozen=True)
class Outcome:
    """What became of a point: done, finished before, stopped or failed, with the reason.

    `difference` is to the point's own seed, with a 95 % interval; `scores` are the halves of each
    case. `calls` reached a model; `tokens` are those of all requests, also of those that the
    cache answered, `judging` about those of baseline and test.
    """

    name: str
    state: str = "done"
    why: str = ""
    score: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    calls: int = 0
    tokens: float = 0.0
    judging: float = 0.0
    seconds: float = 0.0
    run: str = ""
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)


_FIELDS = tuple(field.name for field in fields(Outcome))


def folder(point: Point) -> Path:
    """Return where a point leaves its files."""
    return flow.folder_of(point.planned.experiment)


def known(point: Point, inputs: Mapping[str, Any]) -> Outcome | None:
    """Return what became of a point that was finished before, None if it must be carried out.

    It must if anything of `inputs` is another now, a cap had stopped it, or MLflow lost its run.
    """
    run, then = _read(folder(point) / resume.NAME), _read(folder(point) / OUTCOME)
    finished = run.get("finished") and then.get("run") == run.get("mlflow")
    if not finished or then.get("state") != "done" or set(then) != set(_FIELDS):
        return None
    if not isinstance(run.get("inputs"), dict):
        return None
    if resume.changed(run["inputs"], inputs):
        return None
    try:
        with tracking.explained():
            tracking.connect().get_run(run["mlflow"])
    except UserError:
        return None
    return replace(Outcome(**then), state="finished before", calls=0)


def remember(point: Point, outcome: Outcome) -> None:
    """Keep what became of a point beside its files."""
    # With NaN, which stands for a score that there is not.
    write_whole(folder(point) / OUTCOME, json.dumps(asdict(outcome)))


def under_way(point: Point) -> str | None:
    """Return the MLflow run of a point that was begun and not finished, None if there is none."""
    run = _read(folder(point) / resume.NAME)
    return None if run.get("finished", True) else str(run["mlflow"])


def _read(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def carried_out(points: Sequence[Point], shared: SharedBudget) -> Iterator[Outcome]:
    """Carry all points out and yield what became of each as it ends.

    Those that share a model go side by side, with `threads` calls under way; different models
    come one after another. Points that were finished before are not asked again. A point that
    fails is an outcome.
    """
    for group in alike(points):
        with ExitStack() as stack:
            try:
                models = reached(stack, group[0], shared)
            except CrbError as error:
                yield from (_failed(point, error) for point in group)
                continue
            carry = partial(carried, models=models, shared=shared)
            yield from side_by_side(partial(next, iter(group), None), carry, at_once(group))


def reached(stack: ExitStack, point: Point, shared: SharedBudget) -> flow.Models:
    """Open the models of a point, and make the place for its runs."""
    try:
        models = stack.enter_context(flow.opened(point.planned.experiment, Budget(shared.left())))
    except BudgetSpent as error:
        raise RunError(f"nothing left to ask whether the model answers: {error}") from error
    shared.spend(_spent(models))
    return models


def alike(points: Sequence[Point]) -> list[list[Point]]:
    """Return the points in groups that share their models."""
    groups: dict[object, list[Point]] = {}
    for point in points:
        groups.setdefault(models_of(point), []).append(point)
    return list(groups.values())


def models_of(point: Point) -> tuple[str, ...]:
    """Return what points must have in common to share their models and their slots."""
    roles = point.planned.experiment.roles.values()
    return tuple(Settings.of(settings, seed=0).model_dump_json() for settings in roles)


def at_once(points: Sequence[Point]) -> int:
    """Return how many points go side by side."""
    return min(AT_ONCE, *(point.planned.experiment.threads for point in points))


def side_by_side(ask: Callable[[], Point | None], carry: Carry, most: int) -> Iterator[Outcome]:
    """Carry out what `ask` gives, `most` at once, until it gives none with nothing under way."""
    running: dict[Future[Outcome], Point] = {}
    pool = ThreadPoolExecutor(most)
    try:
        while True:
            while len(running) < most and (point := ask()):
                # DSPy keeps its settings in context variables.
                future = pool.submit(contextvars.copy_context().run, carry, point)
                running[future] = point
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                yield future.result()
    except KeyboardInterrupt:
        for point in running.values():
            _killed(point)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def carried(point: Point, models: flow.Models, shared: SharedBudget) -> Outcome:
    """Carry out one point, unless it was finished before with the same inputs."""
    planned = point.planned
    inputs = resume.inputs(planned)
    if outcome := known(point, inputs):
        shared.skip(point)
        return outcome
    try:
        outcome = _asked(point, models, shared, inputs)
    except FAILURES as error:
        return _failed(point, error)
    remember(point, outcome)
    return outcome


def _asked(
    point: Point, models: flow.Models, shared: SharedBudget, inputs: Mapping[str, Any]
) -> Outcome:
    given, weight = shared.give(point), _Weight()
    own = _own(models, point.planned, given, weight)
    try:
        result = flow.carried_out(point.planned, own, inputs)
    finally:
        shared.settle(given, _spent(own))
    return _outcome(point, result, weight.tokens)


class _Weight(BaseCallback):  # type: ignore[misc]
    """Counts the tokens of all answers; those from the cache keep what they once took."""

    def __init__(self) -> None:
        self.tokens, self._lock = 0, threading.Lock()

    def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """Count one answer."""
        if usage := getattr(outputs, "usage", None):
            with self._lock:
                self.tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0)


def _own(models: flow.Models, planned: Plan, given: Caps, weight: _Weight) -> flow.Models:
    """Return models with meters and a budget of a point's own, on the server that all share."""
    experiment = planned.experiment
    pairs = zip(vars(experiment.caps).values(), vars(given).values(), strict=True)
    caps = [min((cap for cap in pair if cap is not None), default=None) for pair in pairs]
    budget = Budget(Caps(*caps))

    def beside(model: Model) -> Model:
        settings = Settings.of(model.settings, seed=experiment.seed)
        mine = Model(settings, CACHE, budget, model.role, beside=model, longest=model.longest)
        mine.engine.supports_response_schema = model.engine.supports_response_schema
        mine.lm.callbacks.append(weight)
        return mine

    judge = beside(models.judge) if models.judge else None
    return flow.Models(beside(models.task), beside(models.reflection), budget, judge=judge)


def _spent(models: flow.Models) -> Amount:
    usage = [model.meter.usage for model in models.roles.values()]
    calls = sum(used.calls + used.failures for used in usage)
    return Amount(calls, sum(used.tokens for used in usage), sum(used.usd for used in usage))


def _failed(point: Point, error: BaseException) -> Outcome:
    said = one_line(error)
    if isinstance(error, ModelGone):
        said = f"model '{point.planned.experiment.model}' stopped answering: {said}"
    return Outcome(point.name, "failed", said)


def _outcome(point: Point, result: Result, tokens: float) -> Outcome:
    cases, gain = by_case(result.tuned), result.difference
    asked = [(truth.stage, truth.usage.asked) for truth in result.truths]
    judging = sum(number for stage, number in asked if stage in ("baseline", "test"))
    return Outcome(
        point.name,
        "stopped" if result.stopped else "done",
        result.stopped,
        total(cases.values()).score,
        gain.difference,
        gain.low,
        gain.high,
        result.usage.calls,
        tokens,
        tokens * judging / max(1, result.usage.asked),
        result.seconds,
        result.run,
        {case: astuple(halves) for case, halves in cases.items()},
    )


def _killed(point: Point) -> None:
    """End the MLflow run of a point that is interrupted: its thread won't come to it."""
    if run := under_way(point):
        tracking.connect().set_terminated(run, "KILLED")
