"""A compile from plan to result, in one direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from crb_dspy.compile import artifacts, journal, resume
from crb_dspy.compile.caps import check_caps
from crb_dspy.compile.config import Experiment
from crb_dspy.compile.estimate import LONGER
from crb_dspy.compile.plan import Plan
from crb_dspy.compile.record import record, tried
from crb_dspy.compile.result import Result, fair
from crb_dspy.compile.stages import Stages, Truth
from crb_dspy.data.cases import Case
from crb_dspy.errors import RunError
from crb_dspy.evaluation import figures, session
from crb_dspy.evaluation.asking import evaluate
from crb_dspy.evaluation.naming import judging
from crb_dspy.evaluation.rows import UNASKED, Row, score_of
from crb_dspy.evaluation.systems import systems
from crb_dspy.files import fingerprint
from crb_dspy.models.budget import Budget
from crb_dspy.models.lm import Model
from crb_dspy.models.meter import Usage
from crb_dspy.program import ExtractionProgram
from crb_dspy.retrieval.support import learn
from crb_dspy.tracking import store
from crb_dspy.tracking.run import Run
from crb_dspy.tuning import contamination
from crb_dspy.tuning.contamination import Hit
from crb_dspy.tuning.search import Search, Tuned
from crb_dspy.tuning.tuning import Tuning

Metrics = Mapping[str, float]
# The most tokens of a reflection whose optimizer sets no limit: a small model may find no end.
THOUGHT = 1000
# What `score` means: runs of other versions are not compared with those of this one.
SCORING = "2: harmonic mean of nonempty_f1 and empty_agreement"


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
    judge: Model | None = None

    @property
    def roles(self) -> dict[str, Model]:
        """The models by the name of their role."""
        judge = {"judge": self.judge} if self.judge else {}
        return {"task": self.task, "reflection": self.reflection, **judge}


def run(planned: Plan, *, must_resume: bool = False) -> Result:
    """Carry a plan out: baseline, search, gate, test, and everything worth keeping.

    `must_resume`: UserError unless it goes on with the very same run.
    """
    check_caps(planned)
    tried(planned)
    e = planned.experiment
    folder, inputs = folder_of(e), resume.inputs(planned)
    then = resume.then(folder, inputs, must=must_resume)
    with journal.held(folder) as spent:
        if then is None:
            spent.restart()
        # Caps are those of a run, however often it is broken off; what it cost is told once.
        with opened(e, Budget(e.caps, spent.spent), spent) as models:
            if then and not then["finished"]:
                models = replace(models, earlier=spent.usages)
            else:
                models = replace(models, since=spent.spent.minutes)
            return carried_out(planned, models, inputs)


def carried_out(planned: Plan, models: Models, inputs: Mapping[str, Any]) -> Result:
    """Carry a plan out with models that are open; `inputs` is all that decides it."""
    experiment = planned.experiment
    folder = folder_of(experiment)
    then = resume.then(folder, inputs)
    again = str(then["mlflow"]) if then and not then["finished"] else None
    kept = artifacts.write_inputs(folder, experiment, planned.split)
    meters = {role: model.meter for role, model in models.roles.items()}
    stages = Stages(meters, planned.estimate.phases)
    benchmark = f"{planned.schema.name}: {Path(experiment.data).stem}"
    with (
        store.tracked(benchmark, experiment.name, parameters(planned), again=again) as run_,
        session.asking(models.task.lm),
        judging(models.judge.lm if models.judge else None),
    ):
        resume.write(folder, inputs, run_.id, finished=False)
        stages.ended = partial(_shown, run_, models)
        for path in kept:
            run_.keep(path)
        outcomes = [
            _outcome(planned, n, models, stages, run_.log) for n in range(len(planned.splits))
        ]
        result = _result(outcomes, models, stages, folder, run_.id)
        record(planned, run_, outcomes[-1].tuned.program, result)
        if result.leaks and not experiment.allow_leaks:
            raise RunError(
                f"{len(result.leaks)} places of tuned prompts stand in reports that judged them, "
                f"the first: {result.leaks[0]}; see {folder}, or set allow_leaks=true"
            )
        resume.write(folder, inputs, run_.id, finished=True)
    return result


@contextmanager
def opened(
    experiment: Experiment, budget: Budget, spent: journal.Journal | None = None
) -> Iterator[Models]:
    """Open the models of an experiment, within one budget for all roles."""
    roles = experiment.roles
    task = Model(roles["task"], session.CACHE, budget)
    reflection = Model(
        roles["reflection"], session.CACHE, budget, "reflection", beside=task, longest=THOUGHT
    )
    judges = [
        Model(own, session.CACHE, budget, role, beside=task, longest=THOUGHT)
        for role, own in roles.items()
        if role not in ("task", "reflection")
    ]
    models = Models(task, reflection, budget, judge=next(iter(judges), None))
    if spent:
        spent.follow({role: model.meter for role, model in models.roles.items()}, budget)
    with session.opened(task, reflection, *judges):
        yield models


def folder_of(experiment: Experiment) -> Path:
    """Return where a run of an experiment writes: equal experiments share it."""
    return Path(experiment.out) / f"{experiment.name}-{fingerprint(experiment.model_dump())}"


def parameters(planned: Plan) -> dict[str, object]:
    """Return what tells a run from others in MLflow's table."""
    experiment = planned.experiment
    names = ("program", "optimizer", "objective", "model", "seed", "joint", "folds")
    sizes = {side: len(getattr(planned.split, side)) for side in ("train", "validation", "test")}
    return {
        **{name: getattr(experiment, name) for name in names},
        "reflection_model": experiment.reflection_model or experiment.model,
        "scoring": SCORING,
        "adopt": "expected" if experiment.expected else f"shown at {experiment.gate}",
        "cot": bool(experiment.program_options.get("cot")),
        "benchmark": planned.schema.name,
        "data": Path(experiment.data).name,
        **({"test_data": Path(experiment.test_data).name} if experiment.test_data else {}),
        "data_fingerprint": planned.loaded.fingerprint,
        "split_fingerprint": planned.split.fingerprint,
        "categories": len(planned.schema.keys),
        "category_keys": ",".join(planned.schema.keys),
        **sizes,
    }


@dataclass(frozen=True)
class Outcome:
    """What one split gave: test rows before and after, the search between, and other systems."""

    baseline: list[Row]
    rows: list[Row]
    tuned: Tuned
    leaks: list[Hit]
    systems: Mapping[str, list[Row]]


def _outcome(
    planned: Plan, number: int, models: Models, stages: Stages, log: Callable[[Metrics], None]
) -> Outcome:
    tuning, sides, estimate = planned.tuning, planned.sides[number], planned.estimate
    schema = planned.schema
    known = (*sides.train, *planned.splits[number].validation)
    learnt = None
    quoted = schema.where({key: kind.sentences for key, kind in schema.kinds.items()})
    if quoted and (tuning.supported or tuning.program.learns):
        learnt = learn(known, quoted, tuning.seed, embeddings=planned.experiment.embeddings)
        tuning = replace(tuning, program=tuning.program.taught(learnt))
    baseline = _judged(tuning, tuning.program, sides.test, stages, "baseline")
    _answered(baseline)
    if baseline:
        log({"test/score_baseline": score_of(baseline)})
    kept = estimate.kept_back(number)
    # As long as its calls take, in tokens, does a tuned prompt also take in time.
    kept += models.budget.expected(round(LONGER * kept.calls))
    caps = planned.experiment.caps
    search = Search(
        tuning,
        sides,
        models.budget,
        stages,
        holding=lambda: models.budget.holding(kept),
        affordable=lambda: estimate.affordable(number, caps, stages.asked),
        reflection=models.reflection.lm,
        learnt=learnt,
    )
    tuned = search.run()
    leaks = contamination.scan(tuning.program, tuned.program, planned.splits[number])
    rows = _judged(tuning, tuned.program, sides.test, stages, "test")
    if rows:
        log({"test/score": score_of(rows)})
    others = systems(known, sides.test, schema, tuning.objective)
    return Outcome(baseline, rows, tuned, leaks, others)


def _shown(run_: Run, models: Models, stage: str) -> None:
    """Let MLflow show how far a run that goes on has come, and what it cost up to now."""
    used = sum((model.meter.usage for model in models.roles.values()), Usage())
    run_.tag("stage", f"{stage}: done")
    run_.log({"cost/calls": used.calls, "cost/tokens": used.tokens, "cost/usd": used.usd})


def _judged(
    tuning: Tuning, program: ExtractionProgram, cases: tuple[Case, ...], stages: Stages, name: str
) -> list[Row]:
    if not cases:
        return []
    with stages(name) as progress:
        threads, objective = tuning.threads, tuning.objective
        return evaluate(program, cases, threads=threads, progress=progress, objective=objective)


def _answered(rows: list[Row]) -> None:
    """RunError if not one cell was answered: no score is made of failures."""
    errors = [row.error for row in rows if not row.error.startswith(UNASKED)]
    if errors and all(row.failed for row in rows):
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
    kept = {row.case for row in baseline}
    others = {
        name: [row for outcome in judged for row in outcome.systems[name] if row.case in kept]
        for name in (judged[0].systems if judged else ())
    }
    before = models.earlier
    usage = {
        role: before.get(role, Usage()) + model.meter.usage for role, model in models.roles.items()
    }
    return Result(
        baseline,
        tuned,
        figures.difference(baseline, tuned),
        outcomes[-1].tuned.verdicts,
        outcomes[-1].tuned.together,
        outcomes[-1].tuned.candidates,
        models.budget.spent,
        [leak for outcome in outcomes for leak in outcome.leaks],
        others,
        outcomes[-1].tuned.choice,
        outcomes[-1].tuned.stages,
        usage,
        [*stages.truths(), *(Truth("earlier", role, None, None, u) for role, u in before.items())],
        60 * (models.budget.minutes - models.since),
        folder,
        run_id,
        list(dict.fromkeys(line for m in models.roles.values() for line in m.learnt.lines())),
    )
