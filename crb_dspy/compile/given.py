"""The annotated cases of an experiment: its data, and those that only judge if it names them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from crb_dspy.compile.config import Experiment
from crb_dspy.data.benchmarks import Loaded, load
from crb_dspy.data.cases import Case
from crb_dspy.data.readers.tables import KINDS
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

Cases = tuple[Case, ...]
# Groups in both files that an error names.
NAMED = 3


def given(experiment: Experiment, schema: Schema) -> tuple[Loaded, Cases]:
    """Return all cases of an experiment, and those that are its `test_data`.

    `limit` and `longest` are for the data only: test data judges whole, or a number would be
    about other cases than its name says. UserError for cases without gold, for test data beside
    folds, and for a group, case or report that is in both.
    """
    e = experiment
    if not e.test_data:
        whole = _load(e, "data", schema, groups=e.groups, **_limits(e))
        return _annotated(whole, e.data), ()
    if e.folds:
        raise UserError(f"folds = {e.folds}: with test_data its cases judge; give one of the two")
    test = _annotated(_grouped(_load(e, "test_data", schema), e.groups), e.test_data)
    judging = {case.id for case in test.cases}
    others = {name: group for name, group in e.groups.items() if name not in judging}
    data = _load(e, "data", schema, groups=others, **_limits(e))
    _check_apart(_annotated(data, e.data).cases, test.cases, e.test_data)
    return data + test, test.cases


def _limits(experiment: Experiment) -> dict[str, int | None]:
    return {"limit": experiment.limit, "longest": experiment.longest}


def _load(experiment: Experiment, key: str, schema: Schema, **more: Any) -> Loaded:
    source = _expanded(key, str(getattr(experiment, key)))
    table = Path(source).suffix.lower() in KINDS
    return load(source, schema, named=experiment.columns if table else {}, **more)


def _grouped(loaded: Loaded, groups: Mapping[str, str]) -> Loaded:
    cases = (replace(case, group=groups.get(case.id, case.group)) for case in loaded.cases)
    return replace(loaded, cases=tuple(cases))


def _annotated(loaded: Loaded, source: str) -> Loaded:
    bare = [case.id for case in loaded.cases if case.gold is None]
    if bare:
        raise UserError(f"{source}: case {bare[0]} has no gold; tuning needs annotated cases")
    return loaded


def _check_apart(data: Cases, test: Cases, source: str) -> None:
    """UserError where a case that judges, or one of its group, also tunes."""
    groups, ids, texts = ({getattr(c, name) for c in data} for name in ("group", "id", "text"))
    both = {c.group for c in test if c.group in groups or c.id in ids or c.text in texts}
    if both:
        named = ", ".join(sorted(both)[:NAMED])
        more = f" and {len(both) - NAMED} more" if len(both) > NAMED else ""
        count = f"{len(both)} group{'s' * (len(both) > 1)}"
        raise UserError(
            f"test_data = '{source}': {count} also in data: {named}{more}; leave them out of "
            "one of the two"
        )


def _expanded(key: str, source: str) -> str:
    """Put the values of environment variables into the name of a data source."""
    expanded = os.path.expandvars(source)
    if "$" in expanded:
        raise UserError(f"{key} = '{source}': set the environment variable that it names")
    return expanded
