"""Proposed instructions and sets of demonstrations, combined by a Bayesian search."""

import math
from collections.abc import Sequence
from typing import Any

import optuna
from pydantic import NonNegativeInt, PositiveInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Demonstration, Part, Tunable
from crb_dspy.recipe import Context, estimated
from crb_dspy.recipe.reflection import Mistake, taught_by

# How often a combination may be drawn for each that is wanted, those drawn again included.
REPEATS = 50


@estimated(
    lambda train, validation, trials=12, **_: train + (trials + 1) * validation,
    reflections=lambda train, validation, candidates=6, **_: candidates,
    guided=True,
)
def mipro(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    candidates: PositiveInt = 6,
    trials: PositiveInt = 12,
    demonstrations: NonNegativeInt = 0,
) -> Tunable:
    """Keep the proposed instruction, and set of demonstrations, that score best together.

    Tunes instructions, and demonstrations if `demonstrations` (the most a set may hold) is above
    0. The seed answers the training cases; the reflection model writes `candidates` instructions
    from its mistakes, each with another tip; Optuna's TPE tries combinations on validation.
    Costs train + (trials + 1) x validation calls a part and `candidates` for reflection. Use it
    with a reflection model that writes well. After MIPROv2 (Opsahl-Ong et al. 2024, section 4).
    """
    choices = {
        name: _choices(unit, train, context, candidates, demonstrations)
        for name, unit in part.units.items()
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=context.random.getrandbits(30), multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({f"{name}/{what}": 0 for name, c in choices.items() for what in c})
    sizes = {f"{name}/{what}": len(its) for name, c in choices.items() for what, its in c.items()}
    tried: dict[str, float] = {}
    best, best_score = part, -1.0
    wanted = min(context.rounds(trials) + 1, math.prod(sizes.values()))
    for _ in range(REPEATS * wanted):
        if len(tried) >= wanted:
            break
        trial = study.ask()
        units = {n: _put(trial, n, u, choices[n]) for n, u in part.units.items()}
        key = str(sorted(trial.params.items()))
        if key in tried:
            # What was tried teaches nothing more, and is no trial.
            study.enqueue_trial({n: context.random.randrange(size) for n, size in sizes.items()})
        else:
            candidate = part.with_units(units)
            rival = best if tried else None
            tried[key] = context.trial(_named(trial.params), candidate, validation, "seed", rival)
            if tried[key] > best_score:
                best, best_score = candidate, tried[key]
        study.tell(trial, tried[key])
    return best


def _named(chosen: dict[str, int]) -> str:
    changed = [f"{name.strip('/')} {number}" for name, number in chosen.items() if number]
    return ", ".join(changed) or "seed"


def _choices(
    unit: Part, train: Sequence[Case], context: Context, candidates: int, most: int
) -> dict[str, list[Any]]:
    """Return what can be chosen for a predictor; the first of each is the seed's."""
    guided = [f"{unit.instruction} {context.guidance}"] if context.guidance else []
    wrong = context.mistakes(unit, train)
    proposals = [_proposal(unit, wrong, context, number) for number in range(candidates)]
    choices: dict[str, list[Any]] = {
        "instruction": list(dict.fromkeys([unit.instruction, *guided, *proposals]))
    }
    if most:
        choices["demonstrations"] = [[], *(_set(unit, train, context, most) for _ in proposals)]
    return choices


def _proposal(unit: Part, wrong: Sequence[tuple[Case, Any]], context: Context, number: int) -> str:
    # Another window of the mistakes each time, so that proposals differ in what they saw.
    shown = [wrong[(2 * number + i) % len(wrong)] for i in range(min(3, len(wrong)))]
    mistakes = [Mistake.of(unit, case, answer) for case, answer in shown]
    # One a proposal, in turn, as MIPROv2's tips are: they keep proposals apart.
    tips = taught_by(unit.kinds).tips
    return context.proposal(unit.instruction, unit.kinds, mistakes, tips[number % len(tips)])


def _set(unit: Part, train: Sequence[Case], context: Context, most: int) -> list[Demonstration]:
    size = context.random.randint(1, min(most, len(train)))
    cases = context.random.sample(list(train), size)
    return [unit.demonstration(case, case.gold or {}) for case in cases]


def _put(trial: Any, name: str, unit: Part, choices: dict[str, list[Any]]) -> Part:
    number = {
        what: trial.suggest_categorical(f"{name}/{what}", list(range(len(options))))
        for what, options in choices.items()
    }
    tuned = unit.with_instruction(choices["instruction"][number["instruction"]])
    shown = choices.get("demonstrations", [[]])[number.get("demonstrations", 0)]
    return tuned.with_demonstrations(shown) if shown else tuned
