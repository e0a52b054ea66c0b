"""The optimizer seam: a recipe tunes one part of a program.

A recipe is a function `recipe(part, train, validation, context, *, options) -> part`. Its
keyword-only parameters are its settings. `@estimated(calls)` states what it asks of the model.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crb_dspy.cases import Case
from crb_dspy.program import Part

Recipe = Callable[..., Part]
# Requests of one part, from the number of training and validation cases and the options.
Estimate = Callable[..., int]


@dataclass(frozen=True)
class Answer:
    """What a part made of a case: its score, 0 to 1, and its quotes by key, None if it failed."""

    score: float
    quotes: dict[str, list[str]] | None


@dataclass(frozen=True)
class Context:
    """What a recipe may use: answers on cases, chance that can be repeated, and the record.

    `answers(part, cases)` asks a part about cases, in order; `note(candidate, validation)` keeps
    a candidate and its score.
    """

    answers: Callable[[Part, Sequence[Case]], list[Answer]]
    random: random.Random
    note: Callable[[str, float], None]

    def score(self, part: Part, cases: Sequence[Case]) -> float:
        """Return the mean score of a part over cases."""
        return statistics.fmean(answer.score for answer in self.answers(part, cases))


def estimated(calls: Estimate) -> Callable[[Recipe], Recipe]:
    """Attach to a recipe what it asks of the model: `calls(train, validation, **options)`."""

    def attach(recipe: Recipe) -> Recipe:
        recipe.calls = calls  # type: ignore[attr-defined]
        return recipe

    return attach


def calls(recipe: Recipe, train: int, validation: int, options: dict[str, Any]) -> int | None:
    """Return the estimated requests of one part, None for a recipe that states none."""
    estimate: Estimate | None = getattr(recipe, "calls", None)
    return estimate(train, validation, **options) if estimate else None
