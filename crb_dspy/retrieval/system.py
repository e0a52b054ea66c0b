"""The sentence classifier as a system: its sentences, clauses or words, without a model."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.files import fingerprint
from crb_dspy.retrieval.choosing import EVIDENCE, RULES, Cells, Rule, choose
from crb_dspy.retrieval.classifier import Classifier, Matrix, Seen, see
from crb_dspy.retrieval.crossfit import crossfitted, fitting_folds
from crb_dspy.retrieval.features import Terms
from crb_dspy.retrieval.sentences import Size
from crb_dspy.retrieval.training import train
from crb_dspy.retrieval.use import quoted

# From a report's text, gold quotes and predicted quotes to the score of a cell.
Score = Callable[[str, Sequence[str], Sequence[str]], float]

# How often cross-fitting is done inside of cross-fitting: enough to choose rules by.
_INNER = 4
# The threshold where too few groups are annotated to choose one.
_DEFAULT = 0.5
# Quotes of so few words, in the middle, are entities: no clause stands for one.
SHORT = 2


@dataclass(frozen=True)
class Retriever:
    """Classifiers of sentences and of smaller units, and by category the rule that uses one."""

    classifiers: Mapping[Size, Classifier]
    rules: Mapping[str, Rule]

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with anything that may change a finding."""
        return fingerprint(self.plain())

    def findings(self, case: Case) -> dict[str, list[str]]:
        """Return the quotes of every category, in the order of the text."""
        found = {}
        for size, classifier in self.classifiers.items():
            seen = classifier.see(case)
            found[size] = seen, classifier.probabilities(seen), classifier.keys
        return {
            key: list(quotes(seen, table[:, keys.index(key)], rule.threshold))
            for key, rule in self.rules.items()
            for seen, table, keys in [found[rule.size]]
        }

    def plain(self) -> dict[str, Any]:
        """Return it for JSON; `Retriever.of` gives the same back, to the last digit."""
        return {
            "classifiers": [classifier.plain() for classifier in self.classifiers.values()],
            "rules": {key: [rule.size, rule.threshold] for key, rule in self.rules.items()},
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Retriever:
        """Return the retriever of `plain`."""
        classifiers = [Classifier.of(table) for table in plain["classifiers"]]
        rules = {key: Rule(*rule) for key, rule in plain["rules"].items()}
        return cls({classifier.size: classifier for classifier in classifiers}, rules)


def fit(
    cases: Sequence[Case],
    schema: Schema,
    score: Score,
    *,
    evidence: float = EVIDENCE,
    cover: float | None = None,
    k: int | None = None,
    seed: int = 0,
) -> Retriever:
    """Learn from the annotated cases, and choose each category's rule by cross-fitting on them.

    UserError if none is annotated.
    """
    terms = terms_of(schema)
    annotated = sorted((case for case in cases if case.gold is not None), key=lambda case: case.id)
    sizes = sizes_for(annotated, list(terms))
    tables = {size: [see(case, size, terms) for case in annotated] for size in sizes}
    rules = [Rule(sizes[1], _DEFAULT)] * len(terms)
    if len({case.group for case in annotated}) > 1:
        found = {
            size: crossfitted(seen, size, terms, cover=cover, k=k, seed=seed)
            for size, seen in tables.items()
        }
        rules = choose(cells(tables, found, list(terms), score), evidence)
    used = {rule.size for rule in rules}
    classifiers = {size: train(tables[size], size, terms, cover=cover) for size in sorted(used)}
    return Retriever(classifiers, dict(zip(terms, rules, strict=True)))


def sizes_for(cases: Sequence[Case], keys: Sequence[str]) -> tuple[Size, Size]:
    """Return the units to learn from: sentences, and clauses or, where gold is of terms, words."""
    quotes = [quote for case in cases for key in keys for quote in (case.gold or {}).get(key, ())]
    short = quotes and statistics.median(len(quote.split()) for quote in quotes) <= SHORT
    return "sentences", "words" if short else "clauses"


def terms_of(schema: Schema) -> Terms:
    """Return the terms of every category, in order."""
    return {category.key: tuple(category.terms) for category in schema.categories}


def quotes(seen: Seen, probabilities: Matrix, threshold: float) -> tuple[str, ...]:
    """Return the texts of the units from the threshold on; those in a row are one quote."""
    return quoted(seen.case.text, seen.units, probabilities.tolist(), threshold)


def cells(
    tables: Mapping[Size, Sequence[Seen]],
    found: Mapping[Size, Mapping[str, Matrix]],
    keys: Sequence[str],
    score: Score,
    rules: Sequence[Rule] = RULES,
) -> Cells:
    """Score what each rule of the units at hand finds in every case, by case id."""
    known = lru_cache(maxsize=None)(score)
    cases = [seen.case for seen in next(iter(tables.values()))]
    gold = [[tuple((case.gold or {}).get(key, ())) for key in keys] for case in cases]
    scores = {}
    for rule in (rule for rule in rules if rule.size in tables):
        table = np.zeros((len(cases), len(keys)))
        for row, seen in enumerate(tables[rule.size]):
            for column in range(len(keys)):
                own = found[rule.size][seen.case.id][:, column]
                given = quotes(seen, own, rule.threshold)
                wanted = gold[row][column]
                both = wanted and given
                table[row, column] = (
                    known(seen.case.text, wanted, given) if both else not (wanted or given)
                )
        scores[rule] = table
    filled = np.array([[bool(wanted) for wanted in own] for own in gold])
    return Cells(scores, filled, [case.group for case in cases])


def crossfitted_findings(
    cases: Sequence[Case], schema: Schema, score: Score, *, k: int | None = None, seed: int = 0
) -> dict[str, dict[str, list[str]]]:
    """Return, by case id, what a system trained and chosen without a case's fold finds in it.

    UserError if the annotated cases have fewer than two groups.
    """
    annotated = [case for case in cases if case.gold is not None]
    found: dict[str, dict[str, list[str]]] = {}
    for fold in fitting_folds(annotated, k, seed):
        held = {case.id for case in fold}
        others = [case for case in annotated if case.id not in held]
        retriever = fit(others, schema, score, k=_INNER, seed=seed)
        found |= {case.id: retriever.findings(case) for case in fold}
    return found
