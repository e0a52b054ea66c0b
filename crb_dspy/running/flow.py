"""A compile from plan to result, in one direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dspy

from crb_dspy import tracking
from crb_dspy.cases import Case, Split, fingerprint
from crb_dspy.config import Experiment
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluation import UNASKED, Row, evaluate
from crb_dspy.models.budget import Budget, BudgetSpent, Caps
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.meter import Usage
from crb_dspy.models.reach import Model, Settings, hush, priced
from crb_dspy.program import ExtractionProgram
from crb_dspy.prompt import ReportFirst
from crb_dspy.running import artifacts, journal, resume
from crb_dspy.running.estimate import LONGER, Phase, affordable, estimate, kept_back, total
from crb_dspy.running.plan import Plan
from crb_dspy.running.record import record
from crb_dspy.running.result import Result, difference, fair
from crb_dspy.running.stages import Stages, Truth
from crb_dspy.tuning import contamination
from crb_dspy.tuning.contamination import Hit
from crb_dspy.tuning.search import Search, Tuned

CACHE = tracking.FOLDER / "cache"
# The most tokens of a reflection whose optimizer sets no limit: a small model may find no end.
THOUGHT = 1000


@dataclass(frozen=True)
class Models:
    """The models of a run by role, their budget, and what they were asked before it broke off.

    `since` is the minute of the budget from which on the run's time is told.
    """

    task: Model
    reflection: Model
    budget: Budget
    earlier: Mapping[str, Usage] = field(default_factory=dict)
    since: float = 0.0

    @property
    def roles(self) -> dict[str, Model]:
        """The models by the name of their role."""
        return {"task": self.task, "reflection": self.reflection}


def run(planned: Plan, *, must_resume: bool = False) -> Result:
    """Carry a plan out: baseline, search, gate, test, and everything worth keeping.

    `must_resume`: UserError unless it goes on with the very same run.
    """
    phases, e = estimate(planned), planned.experiment
    check_caps(planned, phases)
    folder, asked = folder_of(e), asked_of(planned)
    then = resume.then(folder, asked, must=must_resume)
    with journal.held(folder) as spent:
        if then is None:
            spent.restart()
        # Caps are those of a run, however often it is broken off; what it cost is told once.
        caps = Caps(e.max_calls, e.max_tokens, e.max_usd, e.max_minutes)
        with opened(e, Budget(caps, spent.spent), spent) as models:
            if then and not then["finished"]:
                models = replace(models, earlier=spent.usages)
            else:
                models = replace(models, since=spent.spent.minutes)
            return carried_out(planned, models, phases, asked)


def folder_of(experiment: Experiment) -> Path:
    """Return where a run of an experiment writes: equal experiments share it."""
    return Path(experiment.out) / f"{experiment.name}-{fingerprint(experiment.model_dump())}"


def asked_of(planned: Plan) -> dict[str, Any]:
    """Return all that decides a run, for its resumption; asks no model."""
    settings = {"task": _settings, "reflection": _reflection_settings}
    models = {role: Model(of(planned.experiment), CACHE) for role, of in settings.items()}
    return resume.inputs(planned, {role: model.identity for role, model in models.items()})


@contextmanager
def opened(
    experiment: Experiment, budget: Budget, spent: journal.Journal | None = None
) -> Iterator[Models]:
    """Reach the models of an experiment, within one budget for all roles."""
    hush()
    e = experiment
    task = Model(_settings(e), CACHE, budget)
    reflection = Model(_reflection_settings(e), CACHE, budget, role="reflection", beside=task)
    models = Models(task, reflection, budget)
    if spent:
        spent.follow({role: model.meter for role, model in models.roles.items()}, budget)
    try:
        task.open()
        reflection.open()
        yield models
    except BudgetSpent as error:
        raise RunError(f"{error}: too little to judge anything; raise it") from error
    except ModelGone as error:
        raise RunError(f"model '{error.model or e.model}' stopped answering: {error}") from error
    finally:
        reflection.close()
        task.close()


def carried_out(
    planned: Plan, models: Models, phases: list[Phase], asked: Mapping[str, Any]
) -> Result:
    """Carry a plan out with models that are open; `asked` is all that decides it (`asked_of`)."""
    experiment = planned.experiment
    folder = folder_of(experiment)
    then = resume.then(folder, asked)
    again = str(then["mlflow"]) if then and not then["finished"] else None
    kept = artifacts.write_inputs(folder, experiment, planned.split)
    stages = Stages({role: model.meter for role, model in models.roles.items()}, phases)
    benchmark = f"{planned.schema.name}: {Path(experiment.data).stem}"
    with (
        tracking.tracked(benchmark, experiment.name, parameters(planned), again=again) as run_,
        dspy.context(lm=models.task.lm, adapter=ReportFirst(), disable_history=True, trace=None),
    ):
        resume.write(folder, asked, run_.id, finished=False)
        for path in kept:
            run_.keep(path)
        splits = [*planned.folds, planned.split]
        outcomes = [
            _outcome(planned, split, splits[n:], models, stages)
            for n, split in enumerate(splits, 1)
        ]
        result = _result(outcomes, models, stages, folder, run_.id)
        record(planned, run_, outcomes[-1].tuned.program, result)
        if result.leaks and not experiment.allow_leaks:
            raise RunError(
                f"{len(result.leaks)} places of tuned prompts stand in reports that judged them, "
                f"the first: {result.leaks[0]}; see {folder}, or set allow_leaks=true"
            )
        resume.write(folder, asked, run_.id, finished=True)
    return result


@dataclass(frozen=True)
class Outcome:
    """What one split gave: test rows before and after, and the search between."""

    baseline: list[Row]
    rows: list[Row]
    tuned: Tuned
    leaks: list[Hit]


def _outcome(
    planned: Plan, split: Split, later: list[Split], models: Models, stages: Stages
) -> Outcome:
    sides = planned.sides(split)
    baseline = _judged(planned, planned.program, sides.test, stages, "baseline")
    _answered(baseline)
    kept = kept_back(planned, sides, later)
    # As long as its calls take, in tokens, does a tuned prompt also take in time.
    kept += models.budget.expected(round(LONGER * kept.calls))
    search = Search(
        planned,
        sides,
        models.budget,
        stages,
        holding=lambda: models.budget.holding(kept),
        affordable=lambda: affordable(planned, sides, later, stages.asked),
        reflection=models.reflection.lm,
    )
    tuned = search.run()
    leaks = contamination.scan(planned.program, tuned.program, split)
    rows = _judged(planned, tuned.program, sides.test, stages, "test")
    return Outcome(baseline, rows, tuned, leaks)


def _judged(
    planned: Plan, program: ExtractionProgram, cases: tuple[Case, ...], stages: Stages, name: str
) -> list[Row]:
    if not cases:
        return []
    with stages(name) as progress:
        threads = planned.experiment.threads
        return evaluate(program, cases, threads=threads, progress=progress)


def _answered(rows: list[Row]) -> None:
    """RunError if not one cell was answered: no score is made of failures."""
    errors = [row.error for row in rows if not row.error.startswith(UNASKED)]
    if errors and all(row.error and not row.salvaged for row in rows):
        ((most, count),) = Counter(errors).most_common(1)
        raise RunError(f"the model answered about no cell of the baseline; {count} times: {most}")


def _result(
    outcomes: list[Outcome],
    models: Models,
    stages: Stages,
    folder: Path,
    run_id: str,
) -> Result:
    judged = [outcome for outcome in outcomes if outcome.baseline]
    baseline, tuned = fair(
        [row for outcome in judged for row in outcome.baseline],
        [row for outcome in judged for row in outcome.rows],
    )
    if not baseline:
        raise RunError(f"{models.budget.spent}: not one test case could be judged; raise it")
    before = models.earlier
    usage = {
        role: before.get(role, Usage()) + model.meter.usage for role, model in models.roles.items()
    }
    return Result(
        baseline,
        tuned,
        difference(baseline, tuned),
        outcomes[-1].tuned.verdicts,
        outcomes[-1].tuned.together,
        outcomes[-1].tuned.candidates,
        models.budget.spent,
        [leak for outcome in outcomes for leak in outcome.leaks],
        usage,
        [*stages.truths(), *(Truth("earlier", role, None, None, u) for role, u in before.items())],
        60 * (models.budget.minutes - models.since),
        folder,
        run_id,
    )


def check_caps(planned: Plan, phases: list[Phase]) -> None:
    """UserError where judging alone would be beyond a cap, or a cap would hold nothing."""
    judging = [p for p in phases if p.name in ("check", "baseline", "gate", "test")]
    calls, tokens = total(judging)
    # Estimates are on the safe side: no more is refused than surely cannot be done.
    needed = {"calls": calls, "tokens": round(tokens / LONGER)}
    for name, least in needed.items():
        most = getattr(planned.experiment, f"max_{name}")
        if most is not None and most < least:
            raise UserError(
                f"max_{name} = {most}: judging alone may take {least} {name}; raise it, or "
                "lower limit"
            )
    experiment = planned.experiment
    if experiment.max_usd is not None:
        for settings in (_settings(experiment), _reflection_settings(experiment)):
            if not priced(settings):
                raise UserError(
                    f"max_usd: no price is known for '{settings.model}', so that nothing would "
                    "be held back; use max_calls or max_tokens"
                )


def _settings(experiment: Experiment) -> Settings:
    names = ("model", "api_base", "api_key_env", "temperature", "seed", "context", "timeout")
    values = {name: getattr(experiment, name) for name in (*names, "threads")}
    return Settings(**values)


def _reflection_settings(experiment: Experiment) -> Settings:
    own = experiment.reflection_model
    if own is None:
        return replace(_settings(experiment), max_tokens=THOUGHT)
    return Settings(
        model=own,
        max_tokens=THOUGHT,
        api_base=experiment.reflection_api_base,
        api_key_env=experiment.reflection_api_key_env,
        seed=experiment.seed,
        timeout=experiment.timeout,
        threads=experiment.threads,
    )


def parameters(planned: Plan) -> dict[str, object]:
    """Return what tells a run from others in MLflow's table."""
    experiment = planned.experiment
    names = ("program", "optimizer", "model", "seed", "joint", "folds", "gate")
    sizes = {side: len(getattr(planned.split, side)) for side in ("train", "validation", "test")}
    return {
        **{name: getattr(experiment, name) for name in names},
        "reflection_model": experiment.reflection_model or experiment.model,
        "cot": bool(experiment.program_options.get("cot")),
        "benchmark": planned.schema.name,
        "data": Path(experiment.data).name,
        "data_fingerprint": planned.loaded.fingerprint,
        "split_fingerprint": planned.split.fingerprint,
        "categories": len(planned.schema.keys),
        **sizes,
    }
