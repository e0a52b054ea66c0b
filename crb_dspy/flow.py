"""A compile from plan to result, in one direction."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import dspy

from crb_dspy import artifacts, tracking
from crb_dspy.cases import fingerprint
from crb_dspy.config import Experiment
from crb_dspy.errors import RunError
from crb_dspy.evaluate import Row, evaluate, records, table
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.reach import Model, Settings
from crb_dspy.plan import Plan
from crb_dspy.program import ExtractionProgram
from crb_dspy.progress import phase
from crb_dspy.prompt import ReportFirst
from crb_dspy.result import Result, difference, headline, metrics
from crb_dspy.search import optimized

CACHE = tracking.FOLDER / "cache"


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
            tuned_program, candidates = optimized(planned)
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
