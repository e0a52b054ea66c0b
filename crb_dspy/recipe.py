"""The optimizer seam: a recipe tunes one part of a program, or jointly the whole of it.

A recipe is a function `recipe(part, train, validation, context, *, options) -> part`. Its
keyword-only parameters are its settings. `@estimated(calls)` states what it asks of the models.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import dspy
import dspy.evaluate.evaluate
import dspy.predict.parallel
import dspy.utils.parallelizer
from dspy.utils.parallelizer import ParallelExecutor

from crb_dspy.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.tuning.reflection import proposed
from crb_dspy.tuning.sampling import portions

Recipe = Callable[..., Tunable]
# Requests of one part, from the number of training and validation cases and the options.
Estimate = Callable[..., int]
# What a model wrote in no form that was asked for, DSPy asks for once more, as JSON.
ATTEMPTS = 2
# An instruction from a model may be this many times as long as the one it replaces, or 600.
LONGER = 4


@dataclass(frozen=True)
class Answer:
    """What a part made of a case: score, 0 to 1, quotes by key (None if it failed), and why."""

    score: float
    quotes: dict[str, list[str]] | None
    reason: str = ""


@dataclass(frozen=True)
class Context:
    """What a recipe may use: answers on cases, chance that can be repeated, and the record.

    `answers(part, cases)` asks a part about cases, in order. `note(name, part, parent)` gives a
    candidate its name in the record, unless it has one, and returns it. `share` is this part's
    share of the search, 1 being what the options say. `guidance` is what one reflection over all
    parts advises, "" if it was not asked for. `reflection` is the model that writes instructions,
    None for the task model.
    `student(part)` wraps a part for DSPy's own optimizers and `metric` scores its predictions: a
    plain float, with feedback only where GEPA names a predictor (a `dspy.Prediction` of score 0
    counts as true).
    """

    answers: Callable[[Tunable, Sequence[Case]], list[Answer]]
    random: random.Random
    note: Callable[[str, Tunable, str], str]
    share: float = 1.0
    guidance: str = ""
    threads: int = 1
    reflection: Any = None
    student: Callable[[Tunable], dspy.Module] = field(default=lambda part: Student(part))
    metric: Callable[..., Any] = lambda *_: 0.0
    # Scores by case of what was tried, so that no trial asks for the rival's again.
    met: dict[Tunable, dict[str, float]] = field(default_factory=dict)

    def score(self, part: Tunable, cases: Sequence[Case]) -> float:
        """Return the mean score of a part over cases."""
        return statistics.fmean(answer.score for answer in self.answers(part, cases))

    def trial(
        self,
        name: str,
        part: Tunable,
        cases: Sequence[Case],
        parent: str = "",
        rival: Tunable | None = None,
    ) -> float:
        """Return the mean score of a candidate over validation cases, and put it on record.

        Given a `rival`, the best so far, the candidate meets a sixth of the cases at a time, and
        no more of them once it is behind by more than a standard error.
        """
        self.note(name, part, parent)
        if rival is not None:
            theirs, gains = self._scores(rival, cases), list[float]()
            for some in portions(cases, part.keys):
                gains += [mine - theirs[case] for case, mine in self._scores(part, some).items()]
                if len(gains) < len(cases) and statistics.fmean(gains) + _error(gains) < 0:
                    # Comparable with others: the cases that it met may be easier than all.
                    return max(0.0, statistics.fmean(theirs.values()) + statistics.fmean(gains))
        return statistics.fmean(self._scores(part, cases).values())

    def _scores(self, part: Tunable, cases: Sequence[Case]) -> dict[str, float]:
        """Return scores by case, asking about those that no trial of the part has met."""
        known = self.met.setdefault(part, {})
        if new := [case for case in cases if case.id not in known]:
            answers = zip(new, self.answers(part, new), strict=True)
            known |= {case.id: answer.score for case, answer in answers}
        return {case.id: known[case.id] for case in cases}

    def rounds(self, options: int) -> int:
        """Return how many candidates this part gets where the options say `options`, at least 1.

        Rounded down, so that all parts together stay within the estimate.
        """
        return max(1, int(options * self.share + 1e-9))

    def mistakes(self, part: Tunable, cases: Sequence[Case]) -> list[tuple[Case, Answer]]:
        """Return the cases on which a part scores less than 1, worst first, in a random order."""
        pairs = list(zip(cases, self.answers(part, cases), strict=True))
        wrong = [(case, answer) for case, answer in pairs if answer.score < 1]
        self.random.shuffle(wrong)
        return sorted(wrong, key=lambda pair: pair[1].score)

    def proposal(self, instruction: str, about: str, mistakes: Sequence[object], tip: str) -> str:
        """Return a new instruction from the reflection model; the old one if nothing usable came.

        Each is asked with a `rollout_id` of its own, so that equal questions may have different
        answers, and a repeated run the same ones.
        """
        text = proposed(
            self.reflection, instruction, about, mistakes, tip, rollout=self.random.getrandbits(30)
        )
        return text if 0 < len(text) <= max(600, LONGER * len(instruction)) else instruction


class Student(dspy.Module):  # type: ignore[misc]
    """A part or program as DSPy's optimizers want it: called with the input of an example."""

    def __init__(self, part: Tunable) -> None:
        super().__init__()
        # Whoever makes a student is about to run one of DSPy's optimizers.
        tame()
        self.part = part

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask about a case."""
        return self.part(case=case)


class _Threads(ParallelExecutor):  # type: ignore[misc]
    """DSPy's threads, but no task is sent again because it is slow."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "timeout": 0})


class NoBar:
    """Stands for a bar of tqdm that is not drawn.

    A run has one progress for all its parts, and DSPy's forgetting of old bars makes tqdm fail
    where other threads are making new ones.
    """

    _instances: ClassVar[set[object]] = set()

    def __init__(self, *_: object, **__: object) -> None: ...

    def update(self, *_: object) -> None:
        """Draw nothing."""

    set_description = close = update


def tame() -> None:
    """Keep DSPy's optimizers from asking slow tasks twice and from drawing bars.

    They make their own threads and bars and leave no way to say so.
    """
    for module in (dspy.evaluate.evaluate, dspy.utils.parallelizer):
        module.tqdm = SimpleNamespace(tqdm=NoBar)
    for module in (dspy.evaluate.evaluate, dspy.predict.parallel):
        module.ParallelExecutor = _Threads


def examples(cases: Iterable[Case]) -> list[dspy.Example]:
    """Return cases as DSPy's examples: `case` without gold is the input, `gold` the whole case."""
    return [
        dspy.Example(case=replace(case, gold=None), gold=case).with_inputs("case") for case in cases
    ]


def adopted(part: Tunable, compiled: dspy.Module) -> Tunable:
    """Return a part with the instructions and demonstrations that a DSPy optimizer found.

    Demonstrations become short excerpts; whatever else the optimizer left in its copy (a model,
    a temperature) stays behind.
    """
    found = compiled.part.units
    units = {}
    for name, unit in part.units.items():
        tuned = unit.with_demonstrations(
            dict(demo) for demo in found[name].predict.demos if demo.get("report")
        )
        theirs = dict(found[name].named_predictors())
        for label, predictor in tuned.named_predictors():
            predictor.signature = predictor.signature.with_instructions(
                theirs[label].signature.instructions
            )
        units[name] = tuned
    return part.with_units(units)


def shown(part: Tunable, findings: Iterable[tuple[Case, Mapping[str, Sequence[str]]]]) -> Tunable:
    """Return a part that shows these cases with these findings as demonstrations."""
    pairs = list(findings)
    return part.with_units(
        {
            name: unit.with_demonstrations(unit.demonstration(*pair) for pair in pairs)
            for name, unit in part.units.items()
        }
    )


def _error(values: Sequence[float]) -> float:
    """Return the standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def estimated(
    calls: Estimate,
    *,
    chooses: bool = True,
    guided: bool = False,
    reflections: Estimate = lambda *_, **__: 0,
) -> Callable[[Recipe], Recipe]:
    """Attach to a recipe what it asks: `calls(train, validation, **options)`, and of reflection.

    `chooses`: it looks at validation cases, so that others must judge what it chose. `guided`: it
    tries `context.guidance` by itself; for others it is put into the prompt that they start from.
    """

    def attach(recipe: Recipe) -> Recipe:
        recipe.calls, recipe.reflections = calls, reflections  # type: ignore[attr-defined]
        recipe.chooses, recipe.guided = chooses, guided  # type: ignore[attr-defined]
        return recipe

    return attach


def calls(recipe: Recipe, train: int, validation: int, options: dict[str, Any]) -> int | None:
    """Return the estimated requests of one part, None for a recipe that states none."""
    estimate: Estimate | None = getattr(recipe, "calls", None)
    return estimate(train, validation, **options) if estimate else None


def reflections(recipe: Recipe, train: int, validation: int, options: dict[str, Any]) -> int:
    """Return the estimated requests for reflection of one part, 0 where none are stated."""
    estimate: Estimate | None = getattr(recipe, "reflections", None)
    return ATTEMPTS * estimate(train, validation, **options) if estimate else 0


def guided(recipe: Recipe) -> bool:
    """Say whether a recipe tries shared advice by itself."""
    return bool(getattr(recipe, "guided", False))


def chooses(recipe: Recipe) -> bool:
    """Say whether a recipe looks at validation cases; one that doesn't say is taken to."""
    return bool(getattr(recipe, "chooses", True))
