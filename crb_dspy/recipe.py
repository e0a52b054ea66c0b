"""The optimizer seam: a recipe tunes one part of a program.

A recipe is a function `recipe(part, train, validation, context, *, options) -> part`. Its
keyword-only parameters are its settings. `@estimated(calls)` states what it asks of the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crb_dspy.cases import Case
from crb_dspy.program import Part

Recipe = Callable[..., Part]
# Requests of one part, from the number of training and validation cases and the options.
Estimate = Callable[..., int]


@dataclass(frozen=True)
class Context:
    """What a recipe may use: scores of a part on cases, and chance that can be repeated.

    `score(part, cases)` returns the objective of each case, 0 to 1, in order; `read(part,
    cases)` the quotes by key that the part finds, None where it failed; `note(candidate,
    validation)` keeps a candidate and its score for the record.
    """

    score: Callable[[Part, Sequence[Case]], list[float]]
    read: Callable[[Part, Sequence[Case]], list[dict[str, list[str]] | None]]
    random: random.Random
    note: Callable[[str, float], None]


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
