"""An experiment checked against its data and the catalog, before anything is asked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy import recipe
from crb_dspy.benchmarks import Loaded, load
from crb_dspy.cases import Case, Split, folds, split
from crb_dspy.catalog import build_program, find_recipe
from crb_dspy.config import Experiment
from crb_dspy.errors import UserError
from crb_dspy.program import ExtractionProgram
from crb_dspy.schema import Schema, load_schema
from crb_dspy.scoring import optimizable

Cases = tuple[Case, ...]


@dataclass(frozen=True)
class Sides:
    """Who does what: train proposes, choose selects candidates, confirm gates them, test judges."""

    train: Cases
    choose: Cases
    confirm: Cases
    test: Cases


@dataclass(frozen=True)
class Plan:
    """A checked experiment: nothing in it can fail for a user's mistake any more.

    `split` is that of the program which is kept. With folds its test side is empty, and each
    of `folds` judges its own cases by a program tuned without them.
    """

    experiment: Experiment
    schema: Schema
    loaded: Loaded
    split: Split
    folds: tuple[Split, ...]
    program: ExtractionProgram
    recipe: recipe.Recipe

    def sides(self, split: Split) -> Sides:
        """Divide the validation cases of a split: what chose a candidate never confirms it."""
        validation = split.validation
        if self.experiment.optimizer == "none":
            return Sides(split.train, (), (), split.test)
        if not recipe.chooses(self.recipe):
            return Sides(split.train, (), validation, split.test)
        if self.experiment.gate >= 1 or len({case.group for case in validation}) < 2:
            return Sides(split.train, validation, (), split.test)
        choose, confirm = halves(validation, self.schema.keys, self.experiment.seed)
        return Sides(split.train, choose, confirm, split.test)

    @property
    def tested(self) -> int:
        """How many cases are judged in the end."""
        return sum(len(fold.test) for fold in self.folds or [self.split])


def plan(experiment: Experiment) -> Plan:
    """Check an experiment against its data and the catalog; UserError before any model call."""
    optimizable(experiment.objective)
    full = load_schema(experiment.schema_)
    schema = full.select(experiment.categories) if experiment.categories else full
    program = build_program(experiment.program, schema, experiment.program_options)
    tuner = find_recipe(experiment.optimizer, experiment.options)
    loaded = _loaded(experiment, full)
    sides, crossed = _splits(experiment, loaded.cases)
    planned = Plan(experiment, schema, loaded, sides, crossed, program, tuner)
    if recipe.chooses(tuner) and not sides.validation:
        raise UserError(
            f"split {experiment.split}: optimizer '{experiment.optimizer}' chooses on validation "
            "cases; give them a share"
        )
    longest = max(part.max_tokens for part in program.parts.values())
    if experiment.context is not None and experiment.context <= longest:
        raise UserError(
            f"context = {experiment.context}: an answer alone may take {longest} tokens; raise it"
        )
    return planned


def _loaded(experiment: Experiment, schema: Schema) -> Loaded:
    source = _expanded(experiment.data)
    e = experiment
    loaded = load(source, schema, groups=e.groups, limit=e.limit, longest=e.longest)
    bare = [case.id for case in loaded.cases if case.gold is None]
    if bare:
        raise UserError(
            f"{experiment.data}: case {bare[0]} has no gold; tuning needs annotated cases"
        )
    return loaded


def _splits(experiment: Experiment, cases: Cases) -> tuple[Split, tuple[Split, ...]]:
    train, validation, test = experiment.split
    if not experiment.folds:
        return split(cases, seed=experiment.seed, fractions=(train, validation, test)), ()
    crossed = []
    for fold in folds(cases, experiment.folds, experiment.seed):
        held = {case.id for case in fold}
        rest = [case for case in cases if case.id not in held]
        crossed.append(_without_test(experiment, rest, fold))
    return _without_test(experiment, cases, ()), tuple(crossed)


def _without_test(experiment: Experiment, cases: Cases | list[Case], test: Cases) -> Split:
    """Split cases into train and validation in the proportion of the experiment's shares."""
    train, validation, _ = experiment.split
    if validation == 0:
        return Split(tuple(cases), (), test)
    share = train / (train + validation)
    sides = split(cases, seed=experiment.seed, fractions=(share, 0.0, 1 - share))
    return Split(sides.train, sides.test, test)


def halves(cases: Cases, keys: Sequence[str], seed: int) -> tuple[Cases, Cases]:
    """Divide cases by group so that each category has something to find in both halves.

    Groups with most categories filled are dealt first, each to the half that it evens out.
    """
    sides: list[list[Case]] = [[], []]
    balance = Counter[str]()
    for group in sorted(folds(cases, len({c.group for c in cases}), seed), key=_filling):
        weights = Counter(key for case in group for key in keys if (case.gold or {}).get(key))
        weights[""] = len(group)
        ahead = sum((balance[key] > 0) - (balance[key] < 0) for key in weights.elements())
        side = int(ahead > 0 or (ahead == 0 and len(sides[0]) > len(sides[1])))
        sides[side].extend(group)
        for key, weight in weights.items():
            balance[key] += weight if side == 0 else -weight
    return tuple(sides[0]), tuple(sides[1])


def _filling(group: Cases) -> int:
    return -sum(bool(quotes) for case in group for quotes in (case.gold or {}).values())


def _expanded(source: str) -> str:
    """Put the values of environment variables into the name of a data source."""
    expanded = os.path.expandvars(source)
    if "$" in expanded:
        raise UserError(f"data = '{source}': set the environment variable that it names")
    return expanded
