"""Searches over invented cases with a model in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.lm15 import Request

from crb_dspy.catalog import build_program, find_recipe
from crb_dspy.compile.config import Experiment
from crb_dspy.compile.plan import Plan, arranged
from crb_dspy.compile.stages import Stages
from crb_dspy.data.benchmarks import Loaded
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.data.splits import Split
from crb_dspy.models.budget import Budget
from crb_dspy.program.prompt import ReportFirst
from crb_dspy.recipe import Recipe
from crb_dspy.retrieval.support import learn
from crb_dspy.tuning.search import Search, Tuned
from crb_dspy.tuning.tuning import Tuning
from tests.fake_model import FakeEngine, Reply
from tests.scoring_reply import asks_for_findings, scoring

FULL = load_schema("casereportbench")
FINDINGS = ("vomiting", "diarrhoea", "jaundice", "colic")


def case(name: str, keys: Sequence[str], findings: int = 4) -> Case:
    """A case with so many findings of each category; every one names its case."""
    gold = {key: tuple(f"had-{word}-{key}-{name}" for word in FINDINGS[:findings]) for key in keys}
    told = [f"The patient {quote} that day." for quotes in gold.values() for quote in quotes]
    return Case(name, {"Report": " ".join([f"{name} came in.", *told, "All else was well."])}, gold)


def made_split(
    keys: Sequence[str], train: int = 6, validation: int = 8, findings: int = 4
) -> Split:
    """Cases whose names say what they are for; every third one has nothing to find."""

    def side(name: str, size: int) -> tuple[Case, ...]:
        return tuple(case(f"{name}{n}", keys, findings * (n % 3 != 2)) for n in range(size))

    return Split(side("train", train), side("validation", validation), side("test", 4))


def made_plan(split: Split, keys: Sequence[str] = ("GI",), **settings: Any) -> Plan:
    """A checked experiment on a split."""
    settings = {"gate": 1, "force": True, **settings}
    experiment = Experiment(categories=list(keys), **settings)
    schema = FULL.select(list(keys))
    cases = (*split.train, *split.validation, *split.test)
    names = ("options", "gate", "seed", "threads", "joint", "shared", "force", "expected")
    tuning = Tuning(
        build_program(experiment.program, schema, experiment.program_options),
        find_recipe(experiment.optimizer, experiment.options),
        **{name: getattr(experiment, name) for name in names},
    )
    return arranged(experiment, schema, Loaded(cases, {}, (), {}), tuning, (split,))


def with_recipe(planned: Plan, recipe: Recipe) -> Plan:
    """The same with a recipe of one's own."""
    tuning = replace(planned.tuning, recipe=recipe)
    whole = (planned.experiment, planned.schema, planned.loaded, tuning, planned.splits)
    return arranged(*whole)


@contextmanager
def cached_model(reply: Reply) -> Iterator[FakeEngine]:
    """Make DSPy ask a fake engine, each question once: a cache in memory stands before it."""
    engine = FakeEngine(reply)
    # As a compile does.
    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = dspy.LM("fake/model", engine=engine, num_retries=0, temperature=0.0)
    with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
        yield engine


@dataclass(frozen=True)
class Run:
    """A search that is over: its plan, what it found, and what was asked of the model."""

    planned: Plan
    tuned: Tuned
    requests: list[Request]

    @property
    def tasks(self) -> list[str]:
        """The questions about reports."""
        return [text for text in map(text_of, self.requests) if asks_for_findings(text)]

    @property
    def reflections(self) -> list[str]:
        """The requests for instructions."""
        return [text for text in map(text_of, self.requests) if not asks_for_findings(text)]

    def candidates(self, part: str) -> list[Any]:
        """The record of a part."""
        return [row for row in self.tuned.candidates if row["part"] == part]

    def prompt(self, part: str = "GI") -> str:
        """What a tuned part sends about the report R."""
        return str(self.tuned.program.parts[part].messages("R")[1]["content"])


def run(planned: Plan, reply: Reply | None = None, budget: Budget | None = None) -> Run:
    """Carry a search out, by default with a model that scores by a hash of the prompt."""
    with cached_model(reply or scoring(planned.loaded.cases)) as engine:
        known = (*planned.split.train, *planned.split.validation)
        tuning, learnt = planned.tuning, None
        if tuning.supported or tuning.program.learns:
            learnt = learn(known, planned.schema)
            tuning = replace(tuning, program=tuning.program.taught(learnt))
        whole = (tuning, planned.sides[-1], budget or Budget(), Stages({}, []))
        tuned = Search(*whole, learnt=learnt).run()
    return Run(planned, tuned, engine.requests)


def text_of(request: Request) -> str:
    """The user message of a request."""
    return str(request.messages[-1].text)
