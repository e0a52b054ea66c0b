"""A simulated model for the search of prompts, and searches that are watched over it.

Calls are counted as `bench/optimizers.py` says, which runs them and shows what came of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import dspy
import numpy as np

from crb_dspy.catalog import build_program, find_recipe
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.program import Part, Tunable
from crb_dspy.recipe import Answer, Context, Student, sampling

MODES, UNITS, CANDIDATES = ("joint", "by_parts"), ("calls", "requests"), 10
SEARCHES = ("mipro", "gepa", "mipro_demonstrations")
TRAIN = [Case(f"train{n}", {}, {}) for n in range(10)]
VALIDATION = [Case(f"validation{n}", {}, {}) for n in range(30)]
# Expected score of a seed; how much what is proposed differs from what it was made from (standard
# deviation, as often for worse as for better); how much easier or harder a case can be than the
# others; and how alike scores of one expectation are (a + b of Beta).
SEED, STEP, DIFFICULTY, ALIKE = 0.4, 0.06, 0.2, 3.0
# Of the joint search's calls: the table has a row for each.
SHARES = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
# What the model of a category is told: key, instruction, and which cases are shown.
Wording = tuple[str, str, str]


@dataclass
class World:
    """A simulated model: what a wording is worth in its category, and its score on a case.

    The score of a wording of worth w on a case is drawn from a Beta distribution of mean w + d,
    where d, the difficulty of the case in that category, is uniform within DIFFICULTY of 0: w is
    the expected score, and a cell's standard deviation about 0.26. A program scores the mean over
    categories, which do not see each other. The worth of a wording is that of its instruction
    plus that of its demonstrations (none: 0). A proposed instruction has the worth of the one it
    was made from, and a set of demonstrations that of none, plus a normal step of mean 0. The n-th
    proposal for a category has the same step in all worlds of a seed, whoever asks.
    """

    seed: int
    instructions: dict[tuple[str, str], float] = field(default_factory=dict)
    proposals: Counter[str] = field(default_factory=Counter)

    def proposal(self, key: str, instruction: str) -> str:
        """Return a new instruction for a category, made from another one."""
        self.proposals[key] += 1
        text = f"{key}, proposal {self.proposals[key]}"
        made_from = self.instructions.get((key, instruction), SEED)
        self.instructions[key, text] = made_from + _step(f"{self.seed}/{text}")
        return text

    def worth(self, wording: Wording) -> float:
        """Return the expected score of a wording on a case that nobody has seen."""
        key, instruction, shown = wording
        shift = _step(f"{self.seed}/{key}/{shown}") if shown else 0.0
        worth = self.instructions.get((key, instruction), SEED) + shift
        return min(0.99 - DIFFICULTY, max(0.01 + DIFFICULTY, worth))

    def score(self, wording: Wording, case: str) -> float:
        """Return the score of a wording's answer on a case, the same whenever it is asked."""
        cell = f"{self.seed}/{wording[0]}/{case}"
        mean = self.worth(wording) + _difficulty(cell)
        return _drawn(f"{cell}/{wording}", ALIKE * mean, ALIKE * (1 - mean))


@cache
def _step(name: str) -> float:
    return random.Random(name).gauss(0, STEP)


@cache
def _difficulty(cell: str) -> float:
    return random.Random(cell).uniform(-DIFFICULTY, DIFFICULTY)


@cache
def _drawn(name: str, a: float, b: float) -> float:
    return random.Random(name).betavariate(a, b)


@dataclass
class Watch:
    """What one search asks, and what the part or program is worth that it would return by then."""

    world: World
    asked: set[tuple[Wording, str]] = field(default_factory=set)
    repeated: int = 0
    scores: dict[tuple[Wording, ...], dict[str, float]] = field(default_factory=dict)
    best: float = -1.0
    # After so many calls and requests the best so far is worth this.
    reached: list[tuple[int, int, float]] = field(default_factory=lambda: [(0, 0, SEED)])

    def spent(self) -> tuple[int, int]:
        """Return calls and requests up to now, of all roles."""
        calls = len(self.asked) + self.world.proposals.total()
        return calls, calls + self.repeated

    def ask(self, part: Tunable, case: Case) -> float:
        """Return the mean score of a part or program on a case, and enter it."""
        wordings = tuple(_wording(unit) for unit in part.units.values())
        known = len(self.asked)
        self.asked.update((wording, case.id) for wording in wordings)
        self.repeated += len(wordings) - (len(self.asked) - known)
        score = _mean([self.world.score(wording, case.id) for wording in wordings])
        if case.id.startswith("validation"):
            self._validated(wordings, case.id, score)
        return score

    def _validated(self, wordings: tuple[Wording, ...], case: str, score: float) -> None:
        scores = self.scores.setdefault(wordings, {})
        scores[case] = score
        if len(scores) == len(VALIDATION) and _mean(list(scores.values())) > self.best:
            self.best = _mean(list(scores.values()))
            self.reached.append((*self.spent(), _mean([self.world.worth(w) for w in wordings])))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _wording(unit: Part) -> Wording:
    return unit.keys[0], unit.instruction, ",".join(demo["case"] for demo in unit.predict.demos)


class Simulated(Context):
    """A context whose `reflection` is a simulated world."""

    def proposal(self, instruction: str, about: Any, mistakes: Sequence[object], tip: str) -> str:
        """Return a new instruction for a category without a model."""
        text: str = self.reflection.proposal(", ".join(about), instruction)
        return text


class Asked(Student):
    """A part as DSPy's optimizers want it, with a trace but without a model."""

    def __init__(self, part: Tunable, ask: Callable[[Tunable, Case], float]) -> None:
        super().__init__(part)
        self.ask = ask

    def forward(self, case: Case) -> dspy.Prediction:
        """Answer about a case."""
        if dspy.settings.trace is not None:
            for unit in self.part.units.values():
                found = dspy.Prediction(**{key: [] for key in unit.keys})
                dspy.settings.trace.append((unit.predict, {"report": ""}, found))
        return dspy.Prediction(score=self.ask(self.part, case))


def metric(
    example: Any, prediction: Any, trace: Any = None, name: str | None = None, _: Any = None
) -> Any:
    score = prediction.score
    return score if name is None else dspy.Prediction(score=score, feedback="invented")


def searched(name: str, part: Tunable, seed: int, options: Mapping[str, int]) -> Watch:
    """Run a recipe on a part or program in a world of its own; return what was watched."""
    watch = Watch(World(seed))

    # A function, since DSPy copies a student with all that it holds.
    def ask(part: Tunable, case: Case) -> float:
        return watch.ask(part, case)

    context = Simulated(
        answers=lambda part, cases: [Answer(ask(part, case), {}) for case in cases],
        random=random.Random(f"{seed}/{'/'.join(part.units)}/{part.keys[0]}"),
        note=lambda *_: "",
        reflection=watch.world,
        student=lambda part: Asked(part, ask),
        metric=metric,
    )
    # DSPy draws bars on standard output.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        find_recipe(name, options)(part, TRAIN, VALIDATION, context, **options)
    return watch


@dataclass(frozen=True)
class Course:
    """What is spent, and what the program is worth then, step by step."""

    spent: Any
    worth: Any

    def at(self, spent: Sequence[float]) -> list[float]:
        """Return what it is worth when so much is spent."""
        return [float(self.worth[np.searchsorted(self.spent, s, "right") - 1]) for s in spent]

    def reaching(self, worth: float) -> float:
        """Return what is spent when it is worth so much for good, infinity if it never is."""
        short = np.flatnonzero(self.worth < worth - 1e-9)
        first = short[-1] + 1 if len(short) else 0
        return float(self.spent[first]) if first < len(self.spent) else math.inf


def side_by_side(watches: Sequence[Watch], unit: int = 0) -> Course:
    """Let searches have a call (or, if `unit` is 1, a request) in turn, each until it is over."""
    totals = [watch.spent()[unit] for watch in watches]
    turns = np.arange(max(totals) + 1)
    worths = np.empty((len(watches), len(turns)))
    for row, watch in zip(worths, watches, strict=True):
        for *spent, worth in watch.reached:
            row[spent[unit] :] = worth
    return Course(sum(np.minimum(turns, total) for total in totals), worths.mean(axis=0))


def searches(trials: int, rounds: int, parts: int) -> dict[str, Any]:
    """Return by name a recipe with its options for the whole program and for a part."""
    plain = {"candidates": CANDIDATES, "trials": trials}
    shown = {"candidates": CANDIDATES, "trials": 2 * trials, "demonstrations": 3}
    return {
        "mipro": ("mipro", plain, plain),
        "mipro_demonstrations": ("mipro", shown, shown),
        "gepa": ("gepa", {"rounds": rounds * parts}, {"rounds": rounds}),
    }


def simulated(
    names: Sequence[str], seeds: int, trials: int, rounds: int, *, races: bool = True
) -> dict[str, Any]:
    """Run the named searches with every seed; return curves and ratios.

    Unless it `races`, the joint search meets every case with every candidate, as DSPy's do.
    """
    for logger in ("dspy", "gepa"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    program = build_program("category_specific", load_schema("casereportbench"), {})
    parts = list(program.parts.values())
    found: dict[str, Any] = {"seeds": seeds, "joint": {}, "by_parts": {}}
    ratios = {unit: f"{unit}_to_reach_joint_best_ratio" for unit in UNITS}
    found |= {name: {} for name in ratios.values()}
    known = searches(trials, rounds, len(parts))
    for label, (name, whole, each) in ((name, known[name]) for name in names):
        pairs = []
        for seed in range(seeds):
            with contextlib.nullcontext() if races else patch.object(sampling, "LOOKS", 1):
                joint = [searched(name, program, seed, whole)]
            pairs.append((joint, [searched(name, part, seed, each) for part in parts]))
            sys.stderr.write(f"\r{label}: {seed + 1} of {seeds} seeds ")
        for unit, ratio in enumerate(ratios.values()):
            found[ratio][label] = round(statistics.median(_ratio(*p, unit) for p in pairs), 4)
        courses = [[side_by_side(watches) for watches in pair] for pair in pairs]
        budget = statistics.median(float(joint.spent[-1]) for joint, _ in courses)
        grid = [round(share * budget) for share in SHARES]
        for mode, of_mode in zip(MODES, zip(*courses, strict=True), strict=True):
            found[mode][label] = curve(of_mode, grid)
    sys.stderr.write("\n")
    return found


def _ratio(joint: Sequence[Watch], parts: Sequence[Watch], unit: int) -> float:
    whole = side_by_side(joint, unit)
    return side_by_side(parts, unit).reaching(float(whole.worth[-1])) / float(whole.spent[-1])


def curve(courses: Sequence[Course], grid: Sequence[float]) -> dict[str, Any]:
    """Return median and quartiles over seeds at some calls, and in the end."""
    low, median, high = np.percentile([course.at(grid) for course in courses], (25, 50, 75), 0)
    ends = [float(course.worth[-1]) for course in courses]
    return {
        "calls": list(grid),
        **{n: v.round(4).tolist() for n, v in (("median", median), ("low", low), ("high", high))},
        "final": round(statistics.median(ends), 4),
        "finals": [round(end, 4) for end in ends],
        "spent": statistics.median(float(course.spent[-1]) for course in courses),
    }
