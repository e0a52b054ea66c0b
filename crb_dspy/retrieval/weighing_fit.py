"""How the weighing of a model's quotes against a classifier's sentences is learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crb_dspy.data.cases import Case
from crb_dspy.quotes.grounding import ground
from crb_dspy.retrieval.choosing import objective
from crb_dspy.retrieval.classifier import Matrix
from crb_dspy.retrieval.crossfit import fitting_folds
from crb_dspy.retrieval.weighing import (
    NAMES,
    Piece,
    Views,
    Weighing,
    Weights,
    joined,
    pieces,
)

Score = Callable[[str, Sequence[str], Sequence[str]], float]
# What a model quoted, by case id and category; a cell that failed is missing.
Found = Mapping[str, Mapping[str, Sequence[str]]]

# Few, since what is chosen on the cases at hand flatters itself.
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
# Inverse strength of the penalty, and how far a category may differ from the others.
_C, _OWN = 0.3, 0.3
_FOLDS = 4
# Groups of reports: with five it was better than fixed rules for two of three systems.
LEAST = 5
_QUOTED = NAMES.index("quoted")


@dataclass(frozen=True)
class _Cell:
    """A category of a report: its pieces, and what share of each gold covers."""

    case: Case
    key: str
    pieces: Sequence[Piece]
    shares: Sequence[float]


def weighed(
    cases: Sequence[Case],
    keys: Sequence[str],
    found: Found,
    views: Callable[[Case, str], Views],
    score: Score,
) -> Weighing | None:
    """Learn from annotated reports how a model's quotes and the classifier's units are weighed.

    `views` must say of each report what was learnt without its group. Weights for the reports at
    hand are learnt without their group too, so that the same cases can judge. None where fewer
    than `LEAST` groups were answered, or nothing is told from anything.
    """
    answered = [case for case in cases if case.gold is not None and case.id in found]
    if len({case.group for case in answered}) < LEAST:
        return None
    fine = next(size for size in views(answered[0], keys[0]) if size != "sentences")
    cells = [
        _cell(case, key, pieces(case, views(case, key), found[case.id][key], fine))
        for case in answered
        for key in keys
        if key in found[case.id]
    ]
    whole = _fitted(cells, keys)
    others: dict[str, Weights] = {}
    for fold in fitting_folds(answered, _FOLDS, 0):
        held = {case.group for case in fold}
        own = _fitted([cell for cell in cells if cell.case.group not in held], keys)
        if own is None:
            return None
        others |= dict.fromkeys(held, own)
    if whole is None:
        return None
    likely = [_likely(cell, others) for cell in cells]
    best = max(THRESHOLDS, key=lambda threshold: _worth(cells, likely, threshold, score))
    return Weighing(whole, best, others, fine)


def _cell(case: Case, key: str, cut: Sequence[Piece]) -> _Cell:
    covered = np.zeros(len(case.text) + 1)
    for quote in (case.gold or {}).get(key, ()):
        for start, end in ground(case.text, quote).spans:
            covered[start:end] = 1
    return _Cell(case, key, cut, [float(covered[p.start : p.end].mean()) for p in cut])


def _fitted(cells: Sequence[_Cell], keys: Sequence[str]) -> Weights | None:
    """Fit a logistic regression to the shares that gold covers, None where all are alike."""
    from sklearn.linear_model import LogisticRegression

    rows = np.array([piece.row for cell in cells for piece in cell.pieces])
    shares = np.array([share for cell in cells for share in cell.shares])
    if not len(shares) or not 0 < shares.sum() < len(shares):
        return None
    lengths = np.array([p.end - p.start for cell in cells for p in cell.pieces])
    own = np.array([keys.index(cell.key) for cell in cells for _ in cell.pieces])
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    even = (rows - centre) / scale
    member = np.eye(len(keys))[own] * _OWN
    table = np.hstack([even, member, member * even[:, [_QUOTED]]])
    # Long pieces have more words to be right about.
    weights = np.clip(lengths, 5, 200) / 60
    model = LogisticRegression(C=_C, max_iter=500)
    labels = np.repeat([1, 0], len(table))
    halves = np.concatenate([weights * shares, weights * (1 - shares)])
    used = halves > 0
    model.fit(np.vstack([table, table])[used], labels[used], sample_weight=halves[used])
    return _plain(model, centre, scale, keys)


def _plain(model: Any, centre: Matrix, scale: Matrix, keys: Sequence[str]) -> Weights:
    """Return the weights of a fit for rows as they are."""
    common, bias, quoted = np.split(model.coef_[0], [len(NAMES), len(NAMES) + len(keys)])
    each = _OWN * quoted / scale[_QUOTED]
    shift = _OWN * bias - each * centre[_QUOTED]
    row = common / scale
    return Weights(
        round(float(model.intercept_[0] - row @ centre), 4),
        tuple(np.round(row, 4).tolist()),
        {key: (round(float(shift[n]), 4), round(float(each[n]), 4)) for n, key in enumerate(keys)},
    )


def _likely(cell: _Cell, others: Mapping[str, Weights]) -> list[float]:
    weights = others[cell.case.group]
    return [weights.probability(piece.row, cell.key) for piece in cell.pieces]


def _worth(
    cells: Sequence[_Cell], likely: Sequence[Sequence[float]], threshold: float, score: Score
) -> float:
    """Return what quoting pieces from a threshold on scores on the reports at hand."""
    values, gold = [], []
    for cell, probabilities in zip(cells, likely, strict=True):
        wanted = (cell.case.gold or {}).get(cell.key, ())
        pairs = zip(cell.pieces, probabilities, strict=True)
        given = joined(cell.case.text, [piece for piece, own in pairs if own >= threshold])
        both = wanted and given
        values.append(
            score(cell.case.text, wanted, given) if both else float(not (wanted or given))
        )
        gold.append(bool(wanted))
    return objective(np.array(values), np.array(gold))
