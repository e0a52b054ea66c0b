"""What costs nothing first, then cheap prompts that are the same for all parts, then reflection."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import NonNegativeInt

from crb_dspy.data.cases import Case
from crb_dspy.program import Part, Tunable, with_support
from crb_dspy.recipe import Context, Recipe, calls, estimated
from crb_dspy.recipe.demonstrations import selected
from crb_dspy.recipe.wording import worded

Make = Callable[[Part, Sequence[Case]], Part]
# Where the model itself thought of silence; and where its server does not tell, asked in words.
SILENT, ASKED = "left empty where [] has 0.15", "asked first whether there is anything"


def _calls(train: int, validation: int, candidates: int = 2, rounds: int = 0) -> int:
    # A second look asks twice, and so does a question that comes first; to learn that the server
    # tells no probabilities takes one call.
    looks = sum(2 if name in TWICE else 1 for name in NAMES[:candidates])
    learning = int(SILENT in NAMES[:candidates])
    then = calls(_gepa(), train, validation, {"rounds": rounds}) or 0 if rounds else 0
    return (1 + looks) * validation + learning + then


def _reflections(train: int, validation: int, candidates: int = 2, rounds: int = 0) -> int:
    one: Callable[..., int] = _gepa().reflections  # type: ignore[attr-defined]
    return one(train, validation, rounds=rounds) if rounds else 0


@estimated(_calls, supported=True, reflections=_reflections, reflecting={"rounds": 3})
def auto(
    part: Tunable,
    train: Sequence[Case],
    validation: Sequence[Case],
    context: Context,
    *,
    candidates: NonNegativeInt = 2,
    rounds: NonNegativeInt = 0,
) -> Tunable:
    """Put a sentence classifier beside the model, and change its prompt, where that pays.

    Tunes how a part uses a classifier, what it is shown, its demonstrations and its wording. The
    search has tried a classifier, learnt from the annotated cases, in place of the model and
    weighed with it (with few answers as its gate, or joined): without a call. Here follow
    `candidates` prompts, made in the same way for all parts, so that what they do to one tells of
    the others, each alone and with the classifier. Costs (1 + candidates) x validation calls a part
    and none for reflection; `rounds` of `gepa` follow, 3 where a reflection model is named.
    """
    if any(unit.support and not unit.support.asking for unit in part.units.values()):
        return part  # of what asks nothing, no prompt matters
    best, best_score = part, -1.0
    # Of what no sentences stand for, labels or timelines, there is no classifier to choose by.
    names = NAMES if context.supports else tuple(PROMPTS)
    for name in names[:candidates]:
        prompt = _made(name, part, train, context)
        if name == SILENT and prompt and not _told(prompt, validation, context):
            name = ASKED
            prompt = _made(name, part, train, context)
        if prompt is None:
            continue
        for label, candidate in _beside(name, prompt, context).items():
            score = context.trial(label, candidate, validation, "seed", part)
            best, best_score = (candidate, score) if score > best_score else (best, best_score)
    if not rounds:
        return best

    def note(name: str, tried: Tunable, parent: str) -> str:
        return context.note(f"gepa {name}", tried, parent)

    return _gepa()(best, train, validation, replace(context, note=note), rounds=rounds)


def _made(name: str, part: Tunable, train: Sequence[Case], context: Context) -> Tunable | None:
    """Return a part with another prompt, None where that takes a classifier and there is none."""
    if make := PROMPTS.get(name):
        return part.with_units({n: make(unit, train) for n, unit in part.units.items()})
    everywhere = next((s for s in context.supports.values() if s.asking and not s.use.floor), None)
    if everywhere is None:
        return None
    return part.with_units(
        {
            n: unit.with_support((unit.support or everywhere).but(weighing=None, **SHOWN[name]))
            for n, unit in part.units.items()
        }
    )


def _told(prompt: Tunable, validation: Sequence[Case], context: Context) -> bool:
    """Say whether the server tells how probable an empty list is, by one case."""
    told = any(answer.told for answer in context.answers(prompt, validation[:1]))
    if not told:
        context.note("log-probabilities asked for in vain", prompt, "seed")
    return told


def _beside(name: str, prompt: Tunable, context: Context) -> dict[str, Tunable]:
    """Return a prompt alone, and with the classifier in the ways that ask about as much."""
    asking = {use: support for use, support in context.supports.items() if support.asking}
    weighed = {use: support for use, support in asking.items() if support.use.weighing}
    return {name: prompt} | {
        f"{use}; {name}": with_support(prompt, support)
        for use, support in (weighed or asking).items()
    }


def _gepa() -> Recipe:
    found: Recipe = importlib.import_module("crb_dspy.optimizers.gepa").gepa
    return found


def _typical(unit: Part, train: Sequence[Case]) -> list[Case]:
    return selected("typical", train, unit.keys, 2)[:2]


def _taught(unit: Part, train: Sequence[Case]) -> Part:
    cases = _typical(unit, train)
    return unit.with_demonstrations(unit.demonstration(c, c.gold or {}) for c in cases)


def _sought(unit: Part, case: Case) -> list[bool | None]:
    gold = case.gold or {}
    return [kind.sought(gold.get(key, ())) for key, kind in unit.kinds.items()]


def _taught_silence(unit: Part, train: Sequence[Case]) -> Part:
    nothing = [c for c in train if not any(_sought(unit, c))]
    cases = [*_typical(unit, train), *nothing[:2]]
    return unit.with_demonstrations(unit.demonstration(c, c.gold or {}) for c in cases)


# What is the same for every report.
PROMPTS: dict[str, Make] = {
    "two examples, two of nothing": _taught_silence,
    "in doubt leave it out": lambda u, _: u.with_instruction(worded(u, {"care": "certain"})),
    "two examples": _taught,
    "whole phrases": lambda u, _: u.with_instruction(worded(u, {"length": "phrase"})),
}
# What the classifier chooses for the report at hand.
SHOWN: Mapping[str, Mapping[str, Any]] = {
    "nearest examples, one of nothing": {"nearest": 2, "empty": 1},
    "sentences with nearest examples": {"reads": 0.05, "nearest": 2, "empty": 1},
    "nearest examples, three of nothing": {"nearest": 1, "empty": 3},
    "pruned": {"pruned": True},
    SILENT: {"silence": 0.15},
    ASKED: {"whether": True},
}
TWICE = {"pruned", SILENT}
# In the order in which they are tried: the likeliest first.
NAMES = (
    "nearest examples, one of nothing",
    "sentences with nearest examples",
    "in doubt leave it out",
    "pruned",
    SILENT,
    "two examples, two of nothing",
    "nearest examples, three of nothing",
    "two examples",
    "whole phrases",
)
