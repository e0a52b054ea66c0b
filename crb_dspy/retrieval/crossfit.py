"""Probabilities for annotated cases from classifiers that saw neither them nor their group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crb_dspy.data.cases import Case
from crb_dspy.data.splits import folds
from crb_dspy.retrieval.classifier import Matrix, Seen
from crb_dspy.retrieval.features import Terms
from crb_dspy.retrieval.sentences import Size
from crb_dspy.retrieval.training import train


def fold_count(cases: int) -> int:
    """Return how many folds to take: 8, but fewer of many cases, where each costs more."""
    return max(3, min(8, 200 // max(1, cases)))


def fitting_folds(cases: Sequence[Case], k: int | None, seed: int) -> list[tuple[Case, ...]]:
    """Return the folds that each are judged by what the others teach; see `crossfitted`."""
    groups = len({case.group for case in cases})
    return folds(cases, min(k or fold_count(len(cases)), max(2, groups)), seed)


def crossfitted(
    cases: Sequence[Seen],
    size: Size,
    terms: Terms,
    *,
    cover: float | None = None,
    k: int | None = None,
    seed: int = 0,
) -> Mapping[str, Matrix]:
    """Return, by case id, the probabilities of each case from all groups but its fold's.

    `k` folds, or as `fold_count` has it, fewer where there are fewer groups; UserError if there
    are fewer than two.
    """
    by_id = {seen.case.id: seen for seen in cases}
    found: dict[str, Matrix] = {}
    for fold in fitting_folds([seen.case for seen in cases], k, seed):
        held = {case.id for case in fold}
        others = [seen for name, seen in by_id.items() if name not in held]
        classifier = train(others, size, terms, cover=cover)
        found |= {name: classifier.probabilities(by_id[name]) for name in held}
    return {name: found[name] for name in by_id}
