"""A compile from experiment to result, in one direction."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dspy

from crb_dspy import artifacts, recipe, stats, tracking
from crb_dspy.benchmarks import Loaded, load
from crb_dspy.cases import Case, Split, fingerprint, split
from crb_dspy.catalog import build_program, find_recipe
from crb_dspy.config import Experiment
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluate import Row, case_scores, evaluate, read, records, row_of, table
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.meter import Usage
from crb_dspy.models.reach import Model, Settings
from crb_dspy.program import ExtractionProgram, Part
from crb_dspy.progress import Tick, phase
from crb_dspy.prompt import ReportFirst
from crb_dspy.schema import Schema, load_schema
from crb_dspy.scoring import optimizable, paper
from crb_dspy.scoring.objective import summarise

CACHE = tracking.FOLDER / "cache"


@dataclass(frozen=True)
class Plan:
    """A checked experiment: nothing in it can fail for a user's mistake any more."""

    experiment: Experiment
    schema: Schema
    loaded: Loaded
    split: Split
    program: ExtractionProgram
    recipe: recipe.Recipe


@dataclass(frozen=True)
class Result:
    """What a compile found: test rows of seed and tuned program, their difference, the cost."""

    baseline: list[Row]
    tuned: list[Row]
    difference: stats.Difference
    usage: Usage
    seconds: float
    folder: Path
    run: str


def plan(experiment: Experiment) -> Plan:
    """Check an experiment against its data and the catalog; UserError before any model call."""
    optimizable(experiment.objective)
    full = load_schema(experiment.schema_)
    schema = full.select(experiment.categories) if experiment.categories else full
    program = build_program(experiment.program, schema, experiment.program_options)
    tuner = find_recipe(experiment.optimizer, experiment.options)
    source = _expanded(experiment.data)
    loaded = load(source, full, groups=experiment.groups, limit=experiment.limit)
    bare = [case.id for case in loaded.cases if case.gold is None]
    if bare:
        raise UserError(
            f"{experiment.data}: case {bare[0]} has no gold; tuning needs annotated cases"
        )
    fractions = (experiment.split[0], experiment.split[1], experiment.split[2])
    sides = split(loaded.cases, seed=experiment.seed, fractions=fractions)
    return Plan(experiment, schema, loaded, sides, program, tuner)


def _expanded(source: str) -> str:
    """Put the values of environment variables into the name of a data source."""
    expanded = os.path.expandvars(source)
    if "$" in expanded:
        raise UserError(f"data = '{source}': set the environment variable that it names")
    return expanded


def estimate(planned: Plan) -> dict[str, int | None]:
    """Return the requests of each phase; None where a recipe of the user's states none."""
    parts, sides = planned.program.parts, planned.split
    options, sizes = planned.experiment.options, (len(sides.train), len(sides.validation))
    one = recipe.calls(planned.recipe, *sizes, options)
    test = len(parts) * len(sides.test)
    tuning = None if one is None else one * len(parts)
    return {"check": 1, "baseline": test, "optimize": tuning, "test": test}


def run(planned: Plan) -> Result:
    """Carry a plan out: baseline, optimize, test, and everything worth keeping."""
    experiment, started = planned.experiment, time.monotonic()
    for logger in ("dspy", "LiteLLM"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    folder = Path(experiment.out) / f"{experiment.name}-{fingerprint(experiment.model_dump())}"
    inputs = artifacts.write_inputs(folder, experiment, planned.split)
    model = Model(_settings(experiment), CACHE)
    try:
        model.open()
        benchmark = f"{planned.schema.name}: {Path(experiment.data).stem}"
        with (
            tracking.tracked(benchmark, experiment.name, _parameters(planned)) as run_,
            dspy.context(lm=model.lm, adapter=ReportFirst(), disable_history=True),
        ):
            for path in inputs:
                run_.keep(path)
            baseline = _judged(planned, planned.program, "baseline")
            tuned_program, candidates = _optimized(planned)
            run_.keep(artifacts.write_rows(folder / "candidates.jsonl", candidates))
            tuned = _judged(planned, tuned_program, "test")
            seconds = time.monotonic() - started
            result = Result(
                baseline,
                tuned,
                difference(baseline, tuned),
                model.meter.usage,
                seconds,
                folder,
                run_.id,
            )
            _record(planned, run_, tuned_program, result)
            return result
    except ModelGone as error:
        raise RunError(f"model '{experiment.model}' stopped answering: {error}") from error
    finally:
        model.close()


def difference(baseline: Sequence[Row], tuned: Sequence[Row]) -> stats.Difference:
    """Compare two sets of rows on the same cases, case by case, groups being resampled."""
    before, after = case_scores(baseline), case_scores(tuned)
    groups = {row.case: row.group for row in baseline}
    return stats.paired_difference(
        list(before.values()), [after[case] for case in before], [groups[case] for case in before]
    )


def _settings(experiment: Experiment) -> Settings:
    names = ("model", "api_base", "temperature", "seed", "context", "timeout", "threads")
    return Settings(**{name: getattr(experiment, name) for name in names})


def _parameters(planned: Plan) -> dict[str, object]:
    experiment = planned.experiment
    names = ("program", "optimizer", "model", "seed")
    sizes = {side: len(getattr(planned.split, side)) for side in ("train", "validation", "test")}
    return {
        **{name: getattr(experiment, name) for name in names},
        "benchmark": planned.schema.name,
        "data": Path(experiment.data).name,
        "data_fingerprint": planned.loaded.fingerprint,
        "split_fingerprint": planned.split.fingerprint,
        "categories": len(planned.schema.keys),
        **sizes,
    }


def _judged(planned: Plan, program: ExtractionProgram, label: str) -> list[Row]:
    cases, threads = planned.split.test, planned.experiment.threads
    with phase(label, len(cases) * len(program.parts)) as tick:
        return evaluate(program, cases, threads=threads, progress=tick)


def _optimized(planned: Plan) -> tuple[ExtractionProgram, list[dict[str, object]]]:
    """Tune each part on its own and put the parts together; also return the candidates."""
    experiment, sides = planned.experiment, planned.split
    candidates: list[dict[str, object]] = []
    with phase("optimize", estimate(planned)["optimize"] or 0) as tick:
        tuned = {}
        for name, part in planned.program.parts.items():
            context = _context(experiment, name, tick, candidates)
            tuned[name] = planned.recipe(
                part, sides.train, sides.validation, context, **experiment.options
            )
    return planned.program.with_parts(tuned), candidates


def _context(
    experiment: Experiment, name: str, tick: Tick, candidates: list[dict[str, object]]
) -> recipe.Context:
    def rows(part: Part, cases: Sequence[Case]) -> list[list[Row]]:
        readings = read([part], cases, threads=experiment.threads, progress=tick)
        pairs = zip(cases, readings, strict=True)
        return [[row_of(case, key, reading[0]) for key in part.keys] for case, reading in pairs]

    def score(part: Part, cases: Sequence[Case]) -> list[float]:
        return [sum(row.score for row in cell) / len(cell) for cell in rows(part, cases)]

    def answers(part: Part, cases: Sequence[Case]) -> list[dict[str, list[str]] | None]:
        return [
            None
            if any(row.error and not row.salvaged for row in cell)
            else {row.category: list(row.predicted) for row in cell}
            for cell in rows(part, cases)
        ]

    def note(candidate: str, validation: float) -> None:
        candidates.append({"part": name, "candidate": candidate, "validation": validation})

    return recipe.Context(score, answers, random.Random(f"{experiment.seed}/{name}"), note)


def _record(planned: Plan, run_: tracking.Run, tuned: ExtractionProgram, result: Result) -> None:
    """Write and log what the compile leaves behind."""
    columns = table(result.tuned)
    before = table(result.baseline)
    columns |= {"predicted_baseline": before["predicted"], "score_baseline": before["score"]}
    folder = result.folder
    written = artifacts.write_program(
        folder, planned.experiment, planned.schema, (planned.program, tuned)
    )
    for path in (*written, artifacts.write_rows(folder / "cells.jsonl", records(columns))):
        run_.keep(path)
    run_.table("cells.json", columns)
    run_.log(metrics(result))
    run_.describe(headline(result))


def headline(result: Result) -> str:
    """Say in one sentence what a compile gained, and how sure that is."""
    gain = result.difference
    interval = (
        "no interval from a single group"
        if math.isnan(gain.low)
        else f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}, p = {gain.p:.2g}"
    )
    return f"{gain.difference:+.3f}  {interval}: {stats.verdict(gain)}"


def metrics(result: Result) -> dict[str, float]:
    """Return the metrics of a result under the names they have everywhere."""
    summary = summarise([(row.case, row.category, row.cell) for row in result.tuned])
    by_category: dict[str, list[float]] = {}
    for row in result.tuned:
        by_category.setdefault(row.category, []).append(row.score)
    categories = {f"test/{key}": sum(v) / len(v) for key, v in by_category.items()}
    cost = {f"cost/{name}": value for name, value in asdict(result.usage).items()}
    tested: Mapping[str, float | None] = {f"test/{name}": value for name, value in summary.items()}
    rows = result.tuned
    published = {f"paper/{name}": value for name, value in _paper(rows).items()}
    return {
        **published,
        **{name: value for name, value in tested.items() if value is not None and value == value},
        **categories,
        "test/score": _mean(rows),
        "test/score_baseline": _mean(result.baseline),
        "test/difference": result.difference.difference,
        "test/errors": float(sum(bool(row.error) for row in rows)),
        **cost,
        "cost/tokens": float(result.usage.tokens),
        "cost/seconds": result.seconds,
    }


def _paper(rows: Sequence[Row]) -> dict[str, float]:
    """Return the paper's metrics, 0 to 100, aggregated as there."""
    cells = [(row.category, paper.score_cell(row.gold, row.predicted)) for row in rows]
    keys = dict.fromkeys(category for category, _ in cells)
    return {
        name: paper.aggregate({key: [m[name] for own, m in cells if own == key] for key in keys})
        for name in paper.PAPER
    }


def _mean(rows: Sequence[Row]) -> float:
    scores = case_scores(rows)
    return sum(scores.values()) / len(scores)
