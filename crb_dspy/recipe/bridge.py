"""The bridge to DSPy's own optimizers: parts as they want them, and back."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import dspy
import dspy.evaluate.evaluate
import dspy.predict.parallel
import dspy.teleprompt.simba_utils
import dspy.utils.parallelizer
from dspy.utils.parallelizer import ParallelExecutor

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable

_PARSING = threading.Lock()


class Student(dspy.Module):  # type: ignore[misc]
    """A part or program as DSPy's optimizers want it: called with the input of an example."""

    def __init__(self, part: Tunable) -> None:
        super().__init__()
        self.part = part

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask about a case."""
        return self.part(case=case)


def student(part: Tunable) -> Student:
    """Return a part for DSPy's optimizers, which from now on behave."""
    tame()
    return Student(part)


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


def _source(kind: type) -> str:
    """Return the source of a class, looked up by one thread at a time.

    `inspect` parses the file, and Python 3.11 counts the parser's depth for all threads together:
    of parts that are searched side by side one would lose a rule to a SystemError, unseen.
    """
    with _PARSING:
        return inspect.getsource(kind)


def tame() -> None:
    """Keep DSPy's optimizers from asking slow tasks twice, drawing bars and parsing side by side.

    They make their own threads and bars and leave no way to say so.
    """
    dspy.teleprompt.simba_utils.inspect = SimpleNamespace(getsource=_source)
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
