"""From an experiment with lists of values to a grid of points, each checked before any call."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from crb_dspy.compile.config import OPTIONS, Experiment, read_experiment
from crb_dspy.compile.plan import Plan, plan
from crb_dspy.data.toml import toml_table
from crb_dspy.errors import UserError, unknown

# Keys of a sweep that no experiment has: what is done with the points, and strategies by name.
SEARCH, POINTS = ("search", "trials", "storage", "study"), "points"
# Their values say by themselves what they are.
_TELLING = ("program", "optimizer", "model", "data", "schema")
_LISTS = {
    field.alias or name
    for name, field in Experiment.model_fields.items()
    if get_origin(field.annotation) is list
}
Values = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """Something that varies: by label, the values of an experiment that each choice sets."""

    name: str
    choices: Mapping[str, Values]


@dataclass(frozen=True)
class Grid:
    """What a sweep file says: values that all points share, by dotted key, axes, and the search."""

    path: Path
    name: str
    fixed: Values
    axes: tuple[Axis, ...]
    search: Values


@dataclass(frozen=True)
class Point:
    """One combination of choices (axis to label), as a checked experiment of that name."""

    name: str
    labels: Mapping[str, str]
    planned: Plan


def read_grid(path: Path, changes: Mapping[str, Any]) -> Grid:
    """Read a sweep file, changed by `changes` (dotted keys reach inside).

    A list is an axis; where the value itself is a list, a list of lists is. `[points.NAME]`
    tables name whole strategies: together they are one axis. UserError for a file that is
    missing or not TOML, an empty list, a choice given twice, and a key that two axes set.
    """
    table = _table(path)
    for choice, options in OPTIONS.items():
        # Options go with the program or optimizer that they were written for.
        if choice in changes and changes[choice] not in _values(table.get(choice)):
            table.pop(options, None)
    named = table.pop(POINTS, {})
    values = _flat(table) | _flat(changes)
    search = {key: values.pop(key) for key in SEARCH if key in values}
    _check(search)
    lists = {key: values.pop(key) for key in list(values) if _varies(key, values[key])}
    axes = [_axis(key, choices) for key, choices in lists.items()]
    if named:
        axes.append(_strategies(named, {*lists, *_flat(changes)}))
    name = str(values.pop("name", path.stem))
    return Grid(path, name, values, tuple(axes), search)


def _check(search: Values) -> None:
    """UserError for a search that there is not, or values that it can't use."""
    if search.setdefault("search", "grid") not in ("grid", "optuna"):
        raise UserError(unknown("search", str(search["search"]), ("grid", "optuna")))
    for key, value in search.items():
        kind = int if key == "trials" else str
        if not isinstance(value, kind) or value is True or value in (0, ""):
            raise UserError(f"{key} = {value!r}: give {'a number' if kind is int else 'a text'}")
        if key == "study" and value != (name := _slug(str(value))):
            raise UserError(f"study = {value!r}: a file is called so; write {name!r}")
        if key != "search" and search["search"] == "grid":
            raise UserError(f"{key}: only with search = 'optuna'")


def points(grid: Grid) -> list[Point]:
    """Check every point against its data and the catalog; UserError names the first bad one."""
    found = []
    for combination in itertools.product(*(axis.choices.items() for axis in grid.axes)):
        labels = {a.name: label for a, (label, _) in zip(grid.axes, combination, strict=True)}
        name = _name(grid, labels)
        values = grid.fixed | {k: v for _, chosen in combination for k, v in chosen.items()}
        try:
            experiment = read_experiment(None, copy.deepcopy(values) | {"name": name})
            found.append(Point(name, labels, plan(experiment)))
        except UserError as error:
            raise UserError(f"{grid.path}: point {name}: {error}") from error
    return found


def label(key: str, value: object) -> str:
    """Return a value as part of a name that can be a folder: `few-shot`, `cot=true`, `GI+Neuro`."""
    items = [str(i).lower() if isinstance(i, bool) else str(i) for i in _values(value)]
    text = "+".join(items)
    own = key in _TELLING or key in _LISTS
    return _slug(text if own else f"{key.rpartition('.')[2]}={text}")


def _values(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _name(grid: Grid, labels: Mapping[str, str]) -> str:
    """Join the labels of what varies."""
    told = [labels[axis.name] for axis in grid.axes if len(axis.choices) > 1]
    return "-".join(told) or _slug(grid.name)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", text).strip("._") or "_"


def _varies(key: str, value: object) -> bool:
    if not isinstance(value, list) or key not in _LISTS:
        return isinstance(value, list)
    return any(isinstance(item, list) for item in value)


def _axis(key: str, values: Sequence[object]) -> Axis:
    if not values:
        raise UserError(f"{key} = []: a list in a sweep holds the values to try")
    return Axis(key, _distinct(key, ((label(key, value), {key: value}) for value in values)))


def _strategies(named: object, taken: set[str]) -> Axis:
    """Return the axis of the strategies that a file names."""
    if not isinstance(named, dict) or not all(isinstance(own, dict) for own in named.values()):
        raise UserError(f'{POINTS}: write a table for each strategy, as [{POINTS}."few-shot"]')
    choices = [(_slug(name), _flat(own)) for name, own in named.items()]
    for name, own in choices:
        if twice := taken & set(own):
            raise UserError(f"{POINTS}.{name}: '{min(twice)}' is set for all points elsewhere too")
    return Axis(POINTS, _distinct(POINTS, choices))


def _distinct(key: str, choices: Iterable[tuple[str, Values]]) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for name, values in choices:
        if name in found:
            raise UserError(f"{key}: two choices are called '{name}'")
        found[name] = values
    return found


def _flat(table: Mapping[str, Any]) -> Values:
    """Return a table of an experiment with the options under dotted keys."""
    flat: Values = {}
    for key, value in table.items():
        inner = value if key in OPTIONS.values() and isinstance(value, dict) else None
        flat |= {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner.items()}
    return flat


def _table(path: Path) -> Values:
    if not path.is_file():
        raise UserError(f"{path}: no such sweep file")
    return toml_table(path)
