"""Several recipes one after another, each starting from the best so far."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError, unknown
from crb_dspy.program import Tunable
from crb_dspy.recipe import Context, Recipe, calls, estimated, reflections

USUAL = ("labeled", "factors")


def _found(name: str) -> Recipe:
    """Return another recipe of this folder."""
    own = Path(__file__)
    names = sorted(path.stem for path in own.parent.glob("[a-z]*.py") if path.stem != own.stem)
    if name not in names:
        raise UserError(f"options.recipes: {unknown('optimizer', name, names)}")
    recipe: Recipe = getattr(importlib.import_module(f"crb_dspy.optimizers.{name}"), name)
    return recipe


def _calls(train: int, validation: int, recipes: Sequence[str] = USUAL) -> int:
    theirs = sum(calls(_found(name), train, validation, {}) or 0 for name in recipes)
    return theirs + (len(recipes) + 1) * validation


def _reflections(train: int, validation: int, recipes: Sequence[str] = USUAL) -> int:
    return sum(reflections(_found(name), train, validation, {}) for name in recipes)


@estimated(_calls, reflections=_reflections)
def chain(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    recipes: Sequence[str] = USUAL,
) -> Tunable:
    """Run recipes in turn with their default options, keeping a result only if it scores better.

    Tunes what they tune. Costs what they cost, and a look at validation after each. Use it to
    put demonstrations under a tuned instruction, or the other way round.
    """
    best, start = part, "seed"
    best_score = context.score(part, validation)
    for name in recipes:
        candidate = _found(name)(best, train, validation, _under(name, start, context))
        known = context.note(f"after {name}", candidate, start)
        score = context.score(candidate, validation)
        if score > best_score:
            best, best_score, start = candidate, score, known
    return best


def _under(recipe: str, start: str, context: Context) -> Context:
    """Return a context in whose record the seed of a recipe is what it starts from."""

    def note(name: str, part: Tunable, parent: str) -> str:
        theirs = start if parent in ("", "seed") else f"{recipe} {parent}"
        return context.note(f"{recipe} {name}", part, theirs)

    return replace(context, note=note)
