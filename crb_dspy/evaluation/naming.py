"""A model that says whether two names mean one thing, where an experiment names one."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from crb_dspy.data.kind import SAME, Same
from crb_dspy.models.budget import BudgetSpent


class Naming(dspy.Signature):  # type: ignore[misc]
    """Say whether two names mean one and the same disease or finding.

    Synonyms, abbreviations and other spellings mean the same; a cause, a complication, a broader
    or a narrower disease does not.
    """

    first: str = dspy.InputField()
    second: str = dspy.InputField()
    same: bool = dspy.OutputField(desc="True or False and nothing else")


@contextmanager
def judging(lm: dspy.LM | None) -> Iterator[None]:
    """Let cells be judged by a model meanwhile; by words alone where there is none."""
    token = SAME.set(_same(lm) if lm else None)
    try:
        yield
    finally:
        SAME.reset(token)


def _same(lm: dspy.LM) -> Same:
    known: dict[tuple[str, str], bool] = {}

    def same(one: str, other: str) -> bool:
        pair = (min(one, other), max(one, other))
        if pair not in known:
            known[pair] = _asked(lm, *pair)
        return known[pair]

    return same


def _asked(lm: dspy.LM, one: str, other: str) -> bool:
    """Ask once; where no answer can be had, the words decide."""

    def ask() -> Any:
        with dspy.context(lm=lm, adapter=None, trace=None, disable_history=True):
            return dspy.Predict(Naming)(first=one, second=other, config={"max_tokens": 50})

    try:
        # DSPy's settings of whoever asks stay what they are.
        return bool(contextvars.copy_context().run(ask).same)
    except (AdapterParseError, LMError, BudgetSpent, ValueError, TypeError):
        return False
