"""An experiment checked against its data and the catalog, before anything is asked."""

from __future__ import annotations

import os
from dataclasses import dataclass

from crb_dspy import recipe
from crb_dspy.benchmarks import Loaded, load
from crb_dspy.cases import Split, split
from crb_dspy.catalog import build_program, find_recipe
from crb_dspy.config import Experiment
from crb_dspy.errors import UserError
from crb_dspy.program import ExtractionProgram
from crb_dspy.schema import Schema, load_schema
from crb_dspy.scoring import optimizable


@dataclass(frozen=True)
class Plan:
    """A checked experiment: nothing in it can fail for a user's mistake any more."""

    experiment: Experiment
    schema: Schema
    loaded: Loaded
    split: Split
    program: ExtractionProgram
    recipe: recipe.Recipe


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
