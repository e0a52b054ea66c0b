"""The optimizer seam: a recipe tunes one part of a program, or jointly the whole of it.

A recipe is a function `recipe(part, train, validation, context, *, options) -> part`. Its
keyword-only parameters are its settings. `@estimated(calls)` states what it asks of the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crb_dspy.program import Tunable
from crb_dspy.scoring.halves import Halves

Recipe = Callable[..., Tunable]
# Requests of one part, from the number of training and validation cases and the options.
Estimate = Callable[..., int]
# What a model wrote in no form that was asked for, DSPy asks for once more, as JSON.
ATTEMPTS = 2


@dataclass(frozen=True)
class Answer:
    """What a part made of a case: score, 0 to 1, quotes by key (None if it failed), and why.

    `halves` are the values behind the score, of cells with and without gold.
    """

    score: float
    quotes: dict[str, list[str]] | None
    reason: str = ""
    halves: Halves | None = None
    # Whether a server told, where it was asked for, how probable an empty list was.
    told: bool = False

    @property
    def sums(self) -> Halves:
        """The halves; of an answer that tells none, its score as one cell with gold."""
        return self.halves or Halves(self.score, 1)


def estimated(
    calls: Estimate,
    *,
    chooses: bool = True,
    guided: bool = False,
    supported: bool = False,
    reflecting: Mapping[str, Any] | None = None,
    reflections: Estimate = lambda *_, **__: 0,
) -> Callable[[Recipe], Recipe]:
    """Attach to a recipe what it asks: `calls(train, validation, **options)`, and of reflection.

    `chooses`: it looks at validation cases, so that others must judge what it chose. `guided`: it
    tries `context.guidance` by itself; for others it is put into the prompt that they start from.
    `supported`: it tries `context.supports`, for which classifiers are trained. `reflecting` are
    its default options where a reflection model is named.
    """

    def attach(recipe: Recipe) -> Recipe:
        recipe.calls, recipe.reflections = calls, reflections  # type: ignore[attr-defined]
        recipe.chooses, recipe.guided = chooses, guided  # type: ignore[attr-defined]
        recipe.supported = supported  # type: ignore[attr-defined]
        recipe.reflecting = dict(reflecting or {})  # type: ignore[attr-defined]
        return recipe

    return attach


def calls(recipe: Recipe, train: int, validation: int, options: Mapping[str, Any]) -> int | None:
    """Return the estimated requests of one part, None for a recipe that states none."""
    estimate: Estimate | None = getattr(recipe, "calls", None)
    return estimate(train, validation, **options) if estimate else None


def reflections(recipe: Recipe, train: int, validation: int, options: Mapping[str, Any]) -> int:
    """Return the estimated requests for reflection of one part, 0 where none are stated."""
    estimate: Estimate | None = getattr(recipe, "reflections", None)
    return ATTEMPTS * estimate(train, validation, **options) if estimate else 0


def guided(recipe: Recipe) -> bool:
    """Say whether a recipe tries shared advice by itself."""
    return bool(getattr(recipe, "guided", False))


def supported(recipe: Recipe) -> bool:
    """Say whether a recipe tries a sentence classifier beside the model."""
    return bool(getattr(recipe, "supported", False))


def reflecting(recipe: Recipe) -> dict[str, Any]:
    """Return the default options of a recipe where a reflection model is named."""
    return dict(getattr(recipe, "reflecting", {}))


def chooses(recipe: Recipe) -> bool:
    """Say whether a recipe looks at validation cases; one that doesn't say is taken to."""
    return bool(getattr(recipe, "chooses", True))
