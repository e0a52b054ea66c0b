"""Search over written choices: wording of the instruction and choice of demonstrations."""

from collections.abc import Sequence
from typing import Any

import optuna
from pydantic import NonNegativeInt, PositiveInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Part, Tunable
from crb_dspy.recipe import Context, estimated
from crb_dspy.recipe.demonstrations import SELECTIONS, selected
from crb_dspy.recipe.wording import choices_of, worded


@estimated(lambda train, validation, trials=10, **_: trials * validation, guided=True)
def factors(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    trials: PositiveInt = 10,
    demonstrations: NonNegativeInt = 3,
) -> Tunable:
    """Keep the combination of written choices that scores best on validation cases.

    Tunes the instruction (definition in or out, length of a quote, negative findings, care) and
    the demonstrations (how many, up to `demonstrations`, which training cases, in which order)
    by Optuna's TPE. Costs trials x validation calls a part and none for reflection, so it is the
    choice where no strong model is at hand.
    """
    study = _study(part, context)
    best, best_score = part, -1.0
    for number in range(context.rounds(trials)):
        trial = study.ask()
        units = {
            name: _chosen(trial, name, unit, train, context, demonstrations)
            for name, unit in part.units.items()
        }
        candidate = part.with_units(units)
        said = ", ".join(f"{k.strip('/')}={v}" for k, v in trial.params.items() if v)
        score = context.trial(
            f"{number}: {said or 'seed'}", candidate, validation, "seed", best if number else None
        )
        study.tell(trial, score)
        if score > best_score:
            best, best_score = candidate, score
    return best


def _study(part: Tunable, context: Context) -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=context.random.getrandbits(30), n_startup_trials=4)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(
        {
            f"{name}/{choice}": 0 if choice in ("definition", "guidance", "demonstrations") else ""
            for name, unit in part.units.items()
            for choice in (*choices_of(unit), "definition", "guidance", "demonstrations")
        }
    )
    return study


def _chosen(
    trial: Any, name: str, unit: Part, train: Sequence[Case], context: Context, most: int
) -> Part:
    words = {
        choice: trial.suggest_categorical(f"{name}/{choice}", list(texts))
        for choice, texts in choices_of(unit).items()
    }
    defined = bool(trial.suggest_int(f"{name}/definition", 0, 1))
    instruction = worded(unit, words, defined=defined)
    if context.guidance and trial.suggest_int(f"{name}/guidance", 0, 1):
        instruction = f"{instruction} {context.guidance}"
    tuned = unit.with_instruction(instruction)
    size = trial.suggest_int(f"{name}/demonstrations", 0, min(most, len(train)))
    if not size:
        return tuned
    how = trial.suggest_categorical(f"{name}/selection", list(SELECTIONS))
    cases = selected(how, train, unit.keys, size)
    if trial.suggest_categorical(f"{name}/order", ["fullest first", "fullest last"])[-4:] == "last":
        cases = cases[::-1]
    return tuned.with_demonstrations(unit.demonstration(case, case.gold or {}) for case in cases)
