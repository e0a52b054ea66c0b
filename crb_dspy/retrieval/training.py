"""How a classifier of sentences learns from annotated reports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crb_dspy.errors import UserError
from crb_dspy.retrieval.classifier import STEP, Classifier, Matrix, Seen
from crb_dspy.retrieval.features import GRAMS, TERM, Features, Terms
from crb_dspy.retrieval.sentences import Size

# A unit is positive if gold covers this share of its characters.
COVER = 0.4
# Inverse strength of the penalty.
_C = 20.0
# A gram counts if this many units hold it, and by its rarity over that of a middling one.
_FEWEST, _RARE = 2, 5.0
# The bias of a category that is never, or always, there.
_SURE = 30.0
# How many units with a term are worth as much as what the terms of other categories show.
_PRIOR = 5.0


def train(
    cases: Sequence[Seen],
    size: Size,
    terms: Terms,
    *,
    cover: float | None = None,
    embeddings: str = "",
) -> Classifier:
    """Learn from annotated reports; the same ones in any order give the same classifier.

    A unit is positive for a category if gold covers at least `cover` of it, for 0 if gold touches
    it; None is `COVER`, or 0 where most gold is of a few words, which cover little. A category that
    no unit is positive for is found by its terms alone, as far as other categories' terms can be
    relied on, and without terms never. UserError if no report is annotated.
    """
    annotated = sorted(
        (seen for seen in cases if seen.case.gold is not None), key=lambda seen: seen.case.id
    )
    rows = [own for seen in annotated for own in seen.features]
    if not rows:
        raise UserError("no annotated case to learn from: give `gold` to some")
    shares = np.vstack([seen.shares for seen in annotated])
    positive = _positive(shares, cover)
    names, rarity = _vocabulary(rows)
    table = _sparse_rows(rows, names, rarity)
    sure = _reliance(rows, list(terms), positive)
    learnt = {}
    for column, key in enumerate(terms):
        wanted = positive[:, column]
        if wanted.any() and not wanted.all():
            learnt[key] = _fitted(table, wanted, list(names), rarity)
        else:
            learnt[key] = _SURE if wanted.any() else -_SURE, _by_terms(key, rows, sure)
    bias = tuple(bias for bias, _ in learnt.values())
    return Classifier(size, terms, bias, {k: own for k, (_, own) in learnt.items()}, embeddings)


def _positive(shares: Matrix, cover: float | None) -> NDArray[np.bool_]:
    touched, covered = shares > 0, shares >= COVER
    if cover is None:
        return covered if 2 * covered.sum() >= touched.sum() else touched
    return shares >= cover if cover > 0 else touched


def _vocabulary(rows: Sequence[Features]) -> tuple[dict[str, int], Matrix]:
    """Return the column of each feature that enough units have, and how rare grams are."""
    counts = Counter(chain.from_iterable(rows))
    kept = sorted(name for name, count in counts.items() if count >= _FEWEST)
    rarity = [
        (math.log((1 + len(rows)) / (1 + counts[name])) + 1) / _RARE
        if name.partition(":")[0] in GRAMS
        else 1.0
        for name in kept
    ]
    return {name: column for column, name in enumerate(kept)}, np.array(rarity)


def _sparse_rows(rows: Sequence[Features], names: Mapping[str, int], rarity: Matrix) -> Any:
    from scipy import sparse

    columns, values, ends = [], [], [0]
    for own in rows:
        known = [(names[name], value) for name, value in own.items() if name in names]
        columns += [column for column, _ in known]
        values += [value for _, value in known]
        ends.append(len(columns))
    return sparse.csr_matrix(
        (np.array(values) * rarity[columns], columns, ends), shape=(len(rows), len(names))
    )


def _fitted(
    table: Any, wanted: NDArray[np.bool_], names: Sequence[str], rarity: Matrix
) -> tuple[float, dict[str, float]]:
    """Return bias and weights of a category, rounded to what is stored, zeros left out."""
    from sklearn.linear_model import LogisticRegression

    # The primal solver draws nothing at random.
    model = LogisticRegression(C=_C, class_weight="balanced", solver="liblinear", tol=1e-3)
    model.fit(table, wanted)
    tenths = np.rint(model.coef_[0] * rarity * STEP).astype(int).tolist()
    own = {name: value / STEP for name, value in zip(names, tenths, strict=True) if value}
    return round(float(model.intercept_[0]), 2), own


def _reliance(rows: Sequence[Features], keys: Sequence[str], positive: NDArray[np.bool_]) -> float:
    """Return the share of units with a category's term that are positive, over categories."""
    held = found = 0
    for column, key in enumerate(keys):
        if positive[:, column].any():
            having = np.array([f"term:{key}" in own for own in rows])
            held += int(having.sum())
            found += int((having & positive[:, column]).sum())
    return found / held if held else 0.0


def _by_terms(key: str, rows: Sequence[Features], sure: float) -> dict[str, float]:
    """Return the weight that gives a unit with a term the probability that it deserves."""
    held = sum(f"term:{key}" in own for own in rows)
    share = _PRIOR * sure / (_PRIOR + held)
    if share in (0.0, 1.0):
        return {}
    return {f"term:{key}": round((math.log(share / (1 - share)) + _SURE) / TERM, 1)}
