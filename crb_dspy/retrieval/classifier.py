"""A classifier of sentences: weights by feature, the probabilities they give, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crb_dspy.data.cases import Case
from crb_dspy.files import fingerprint
from crb_dspy.quotes.grounding import ground
from crb_dspy.retrieval.features import Features, Terms, features
from crb_dspy.retrieval.sentences import Size, Unit, units

Matrix = NDArray[np.float64]

# Weights are stored in steps of a tenth.
STEP = 10


@dataclass(frozen=True)
class Seen:
    """A report as the classifier sees it: its units, their features, and gold's share of each.

    `shares` are units x categories, from 0 to 1; all 0 where nothing is annotated.
    """

    case: Case
    units: tuple[Unit, ...]
    features: tuple[Features, ...]
    shares: Matrix


@dataclass(frozen=True)
class Classifier:
    """Weights by feature and category; what it says depends on nothing but them."""

    size: Size
    terms: Terms
    # By category, in the order of the weights.
    bias: tuple[float, ...]
    # By category, then feature.
    weights: Mapping[str, Mapping[str, float]]
    # The model whose vectors are features too.
    embeddings: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The categories, in the order of the columns of `probabilities`."""
        return tuple(self.weights)

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with anything that may change a probability."""
        return fingerprint(self.plain())

    def see(self, case: Case) -> Seen:
        """Prepare a report; UserError where its embeddings cannot be had."""
        return see(case, self.size, self.terms, self.embeddings)

    def probabilities(self, seen: Seen) -> Matrix:
        """Return the probability of every category (columns) for every unit (rows)."""
        logits = np.empty((len(seen.units), len(self.keys)))
        for row, own in enumerate(seen.features):
            known = [(self._rows[name], value) for name, value in own.items() if name in self._rows]
            rows = [row for row, _ in known]
            values = np.array([value for _, value in known])
            logits[row] = self.bias + values @ self._table[rows]
        return 1 / (1 + np.exp(-logits))

    def plain(self) -> dict[str, Any]:
        """Return it for JSON; `Classifier.of` gives the same back, to the last digit.

        Weights are in tenths, each with how far its feature stands after the one before.
        """
        return {
            "size": self.size,
            **({"embeddings": self.embeddings} if self.embeddings else {}),
            "features": list(self._rows),
            "categories": {
                key: {"terms": list(self.terms[key]), "bias": bias, **self._steps(own)}
                for bias, (key, own) in zip(self.bias, self.weights.items(), strict=True)
            },
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Classifier:
        """Return the classifier of `plain`."""
        names, tables = plain["features"], plain["categories"]
        weights = {
            key: {
                names[row]: tenths / STEP
                for row, tenths in zip(accumulate(own["steps"]), own["tenths"], strict=True)
            }
            for key, own in tables.items()
        }
        terms = {key: tuple(own["terms"]) for key, own in tables.items()}
        bias = tuple(own["bias"] for own in tables.values())
        return cls(plain["size"], terms, bias, weights, plain.get("embeddings", ""))

    @cached_property
    def _rows(self) -> dict[str, int]:
        names = sorted({name for own in self.weights.values() for name in own})
        return {name: row for row, name in enumerate(names)}

    @cached_property
    def _table(self) -> Matrix:
        table = np.zeros((len(self._rows), len(self.keys)))
        for column, own in enumerate(self.weights.values()):
            for name, value in own.items():
                table[self._rows[name], column] = value
        return table

    def _steps(self, own: Mapping[str, float]) -> dict[str, list[int]]:
        tenths = {self._rows[name]: round(value * STEP) for name, value in own.items()}
        rows = sorted(tenths)
        steps = [row - before for before, row in zip([0, *rows], rows, strict=False)]
        return {"steps": steps, "tenths": [tenths[row] for row in rows]}


def see(case: Case, size: Size, terms: Terms, embeddings: str = "") -> Seen:
    """Prepare a report for training and for probabilities; `terms` names all categories."""
    found = units(case, size)
    shares = np.zeros((len(found), len(terms)))
    for column, key in enumerate(terms):
        covered = np.zeros(len(case.text) + 1, dtype=int)
        for quote in (case.gold or {}).get(key, ()):
            for start, end in ground(case.text, quote).spans:
                covered[start + 1 : end + 1] = 1
        total = np.cumsum(covered)
        for row, unit in enumerate(found):
            shares[row, column] = (total[unit.end] - total[unit.start]) / (unit.end - unit.start)
    return Seen(case, found, tuple(features(case, found, terms, size, embeddings)), shares)
