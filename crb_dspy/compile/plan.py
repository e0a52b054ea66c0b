"""An experiment checked against its data and the catalog, before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy import recipe
from crb_dspy.catalog import build_program, find_recipe
from crb_dspy.compile.config import Experiment
from crb_dspy.compile.estimate import Estimate, estimate
from crb_dspy.compile.given import given
from crb_dspy.data.benchmarks import Loaded
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema, load_schema
from crb_dspy.data.splits import Sides, Split, folds, halves, split
from crb_dspy.errors import UserError
from crb_dspy.models.settings import NONE
from crb_dspy.program import ExtractionProgram
from crb_dspy.scoring.objectives import find_objective
from crb_dspy.tuning.tuning import Tuning

Cases = tuple[Case, ...]


@dataclass(frozen=True)
class Plan:
    """A checked experiment: nothing in it can fail for a user's mistake any more.

    The last of `splits` is that of the program which is kept. With folds its test side is empty,
    and each split before it judges its own cases by a program tuned without them. `sides` are
    the splits with the validation cases divided.
    """

    experiment: Experiment
    schema: Schema
    loaded: Loaded
    tuning: Tuning
    splits: tuple[Split, ...]
    sides: tuple[Sides, ...]
    estimate: Estimate

    @property
    def split(self) -> Split:
        """The split of the program that is kept."""
        return self.splits[-1]

    @property
    def folds(self) -> tuple[Split, ...]:
        """The splits that only judge."""
        return self.splits[:-1]

    @property
    def unannotated(self) -> list[str]:
        """The categories that were left out since no case has gold for them."""
        counted = self.experiment.categories
        return [] if counted else [category.key for category in self.schema.unselected]

    @property
    def tested(self) -> int:
        """How many cases are judged in the end."""
        return sum(len(split.test) for split in self.splits)


def plan(experiment: Experiment) -> Plan:
    """Check an experiment against its data and the catalog; UserError before any model call."""
    objective = find_objective(experiment.objective)
    full = load_schema(experiment.schema_)
    tuner = find_recipe(experiment.optimizer, experiment.options)
    loaded, test = given(experiment, full)
    schema = _counted(experiment, full, loaded.cases).fitted(loaded.cases)
    program = build_program(experiment.program, schema, experiment.program_options)
    if experiment.model == NONE and experiment.program != "given" and asking(program):
        raise UserError(
            f"model = '{NONE}': program '{experiment.program}' asks; use 'given', or 'retrieve' "
            "with program_options.cut=false"
        )
    splits = _splits(experiment, loaded.cases, test)
    if recipe.chooses(tuner) and not splits[-1].validation:
        raise UserError(
            f"split {experiment.split}: optimizer '{experiment.optimizer}' chooses on validation "
            "cases; give them a share"
        )
    longest = max(part.max_tokens for part in program.parts.values())
    longest = max(longest, experiment.max_answer_tokens or 0)
    if experiment.context is not None and experiment.context <= longest:
        raise UserError(
            f"context = {experiment.context}: an answer alone may take {longest} tokens; raise it"
        )
    names = ("options", "gate", "seed", "threads", "joint", "shared", "force", "expected")
    rules = {name: getattr(experiment, name) for name in names}
    if experiment.reflection_model:
        rules["options"] = recipe.reflecting(tuner) | experiment.options
    tuning = Tuning(program, tuner, objective=objective, **rules)
    if experiment.embeddings and not (tuning.supported or program.learns):
        raise UserError(
            f"embeddings = '{experiment.embeddings}': they are for the sentence classifier of "
            "optimizer 'auto' or program 'retrieve'; name one of these, or leave embeddings out"
        )
    return arranged(experiment, schema, loaded, tuning, splits)


def asking(program: ExtractionProgram) -> bool:
    """Say whether some part of a program asks a model."""
    return any(part.use is None or part.use.asking for part in program.parts.values())


def arranged(
    experiment: Experiment,
    schema: Schema,
    loaded: Loaded,
    tuning: Tuning,
    splits: tuple[Split, ...],
) -> Plan:
    """Return a plan with its sides and its estimate, which are worked out here and only here."""
    sides = tuple(_sides(split, tuning, schema.keys, experiment.optimizer) for split in splits)
    known = estimate(tuning, sides, loaded.cases)
    return Plan(experiment, schema, loaded, tuning, splits, sides, known)


def _sides(split: Split, tuning: Tuning, keys: Sequence[str], optimizer: str) -> Sides:
    """Divide the validation cases of a split: what chose a candidate never confirms it."""
    validation = split.validation
    if optimizer == "none":
        return Sides(split.train, (), (), split.test)
    if tuning.expected:
        return Sides(split.train, validation, (), split.test)
    if not recipe.chooses(tuning.recipe):
        return Sides(split.train, (), validation, split.test)
    if tuning.gate >= 1 or len({case.group for case in validation}) < 2:
        return Sides(split.train, validation, (), split.test)
    return Sides(split.train, *halves(validation, keys, tuning.seed), split.test)


def _counted(experiment: Experiment, schema: Schema, cases: Cases) -> Schema:
    """Keep the categories that count: those that are named, else those that anybody annotated.

    A category without any gold is won by silence.
    """
    if experiment.categories == ["all"]:
        return schema
    annotated = {key for case in cases for key, quotes in (case.gold or {}).items() if quotes}
    wanted = experiment.categories or [key for key in schema.keys if key in annotated]
    if not wanted:
        raise UserError(f"{experiment.data}: no case has a gold quote; --categories all goes on")
    return schema.select(wanted)


def _splits(experiment: Experiment, cases: Cases, test: Cases) -> tuple[Split, ...]:
    train, validation, share = experiment.split
    if test:
        judging = {case.id for case in test}
        tuning = [case for case in cases if case.id not in judging]
        return (divided(experiment, tuning, test),)
    if not experiment.folds:
        return (split(cases, seed=experiment.seed, fractions=(train, validation, share)),)
    crossed = []
    for fold in folds(cases, experiment.folds, experiment.seed):
        held = {case.id for case in fold}
        rest = [case for case in cases if case.id not in held]
        crossed.append(divided(experiment, rest, fold))
    return (*crossed, divided(experiment, cases, ()))


def divided(experiment: Experiment, cases: Cases | list[Case], test: Cases) -> Split:
    """Split cases into train and validation in the proportion of the experiment's shares."""
    train, validation, _ = experiment.split
    if validation == 0:
        return Split(tuple(cases), (), test)
    share = train / (train + validation)
    sides = split(cases, seed=experiment.seed, fractions=(share, 0.0, 1 - share))
    return Split(sides.train, sides.test, test)
