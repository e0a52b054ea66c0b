"""Systems that ask no model, to hold every result against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from crb_dspy.data.cases import Case, data_fingerprint
from crb_dspy.data.schema import Schema
from crb_dspy.evaluation.rows import Row, row_of
from crb_dspy.files import fingerprint
from crb_dspy.program import Reading
from crb_dspy.retrieval.crossfit import fitting_folds
from crb_dspy.retrieval.system import Retriever, crossfitted_findings, fit
from crb_dspy.scoring.objectives import Objective

EMPTY, CLASSIFIER = "empty answer", "sentence classifier"
# By case and category.
Found = dict[str, dict[str, Sequence[str]]]
# Enough to choose a rule by.
FOLDS = 4
# Classifiers by what they learnt: the points of a sweep have theirs from the same cases.
_KNOWN: dict[str, Retriever] = {}
_MOST = 8


def systems(
    learnt: Sequence[Case], judged: Sequence[Case], schema: Schema, objective: Objective
) -> dict[str, list[Row]]:
    """Return what systems that ask no model make of some cases, by name.

    They learn from others, `learnt`, alone: a sentence classifier where sentences can stand for
    what a category holds, and what the kinds of the others have of their own.
    """
    found: dict[str, Found] = {EMPTY: {}}
    if own := schema.where({key: kind.sentences for key, kind in schema.kinds.items()}):
        classifier = trained(learnt, own)
        found[CLASSIFIER] = {case.id: dict(classifier.findings(case)) for case in judged}
    found |= guessed(learnt, judged, schema)
    return {name: rows_of(own, judged, schema, objective) for name, own in found.items()}


def guessed(learnt: Sequence[Case], judged: Sequence[Case], schema: Schema) -> dict[str, Found]:
    """Return what the kinds' own systems, which learn from some cases, answer about others."""
    known, found = [case for case in learnt if case.gold is not None], dict[str, Found]()
    bare = [replace(case, gold=None) for case in judged]
    for key, kind in schema.kinds.items():
        for name, guess in kind.guesses(known).items():
            table = found.setdefault(name, {})
            for case in bare:
                table.setdefault(case.id, {})[key] = list(guess(case))
    return found


def crossfitted(cases: Sequence[Case], schema: Schema) -> dict[str, Found]:
    """Return what such systems make of annotated cases, each learnt from other groups.

    None of a single group.
    """
    if len({case.group for case in cases}) < 2:
        return {}
    found: dict[str, Found] = {}
    if own := schema.where({key: kind.sentences for key, kind in schema.kinds.items()}):
        score = own.categories[0].holds.score
        known = crossfitted_findings(cases, own, lambda *cell: score(*cell).score)
        found[CLASSIFIER] = {name: dict(findings) for name, findings in known.items()}
    for fold in fitting_folds(cases, FOLDS, 0):
        held = {case.id for case in fold}
        others = [case for case in cases if case.id not in held]
        for name, answers in guessed(others, fold, schema).items():
            found.setdefault(name, {}).update(answers)
    return found


def trained(cases: Sequence[Case], schema: Schema) -> Retriever:
    """Return a sentence classifier that learnt from annotated cases, each time the same one."""
    key = fingerprint(data_fingerprint(cases), schema.model_dump())
    if key not in _KNOWN:
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        score = schema.categories[0].holds.score
        _KNOWN[key] = fit(cases, schema, lambda *cell: score(*cell).score, k=FOLDS)
    return _KNOWN[key]


def rows_of(
    predictions: Mapping[str, Mapping[str, Sequence[str]]],
    cases: Sequence[Case],
    schema: Schema,
    objective: Objective,
) -> list[Row]:
    """Return rows of predictions by case and category; what is missing counts as empty."""
    return [
        row_of(case, key, Reading(predictions.get(case.id, {})), objective, kind)
        for case in cases
        for key, kind in schema.kinds.items()
    ]
