"""A sentence classifier beside a model: in its place, as its gate, or joined with it.

The classifier knows when there is nothing to find, and where to look in the categories that have
many examples; a model knows what belongs to the rare ones, and how to cut out a phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.retrieval.classifier import Classifier, see
from crb_dspy.retrieval.crossfit import fitting_folds
from crb_dspy.retrieval.examples import Examples
from crb_dspy.retrieval.sentences import SIZES, Size, Unit
from crb_dspy.retrieval.system import sizes_for, terms_of
from crb_dspy.retrieval.training import train
from crb_dspy.retrieval.use import Use
from crb_dspy.retrieval.weighing import Views

# Reports whose probabilities are kept: those of a search.
_KEPT = 1024
# The units of a report, and by category the probability for each.
_Seen = tuple[tuple[Unit, ...], Mapping[str, list[float]]]
_NOTHING = Examples(())


@dataclass(frozen=True, eq=False)
class Learnt:
    """Classifiers by size and annotated sentences; for groups learnt from, others without them."""

    whole: Mapping[Size, Classifier]
    others: Mapping[Size, Mapping[str, Classifier]] = field(default_factory=dict)
    examples: Examples = _NOTHING
    _known: dict[tuple[str, str, Size], _Seen] = field(default_factory=dict, repr=False)

    def view(self, case: Case, size: Size) -> _Seen:
        """Return a report's units and the probabilities of every category for each."""
        key = case.id, case.text, size
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            whole = self.whole[size]
            classifier = self.others.get(size, {}).get(case.group, whole)
            seen = classifier.see(case)
            table = classifier.probabilities(seen).T.tolist()
            known = seen.units, dict(zip(classifier.keys, table, strict=True))
            self._known[key] = known
        return known

    def views(self, case: Case, key: str, sizes: Sequence[Size] = ()) -> Views:
        """Return a report's units of each size, or of all, with a category's probabilities."""
        found = {size: self.view(case, size) for size in sizes or self.whole}
        return {size: (units, columns[key]) for size, (units, columns) in found.items()}

    def __deepcopy__(self, memo: Any) -> Learnt:
        """Return itself: nothing in it changes, and parts are copied often."""
        return self


def learn(cases: Sequence[Case], schema: Schema, seed: int = 0, *, embeddings: str = "") -> Learnt:
    """Return classifiers of sentences and of smaller units that learnt from annotated cases.

    What they say of one of these cases they learnt without its group, so that the same cases can
    choose how to use them. With `embeddings`, the vectors of that model are features too.
    """
    terms = terms_of(schema)
    annotated = [case for case in cases if case.gold is not None]
    several = len({case.group for case in annotated}) > 1
    folds = fitting_folds(annotated, None, seed) if several else []
    sizes = sizes_for(annotated, list(terms))
    whole: dict[Size, Classifier] = {}
    others: dict[Size, dict[str, Classifier]] = {size: {} for size in sizes}
    for size in sizes:
        seen = {case.id: see(case, size, terms, embeddings) for case in annotated}
        for fold in folds:
            held = {case.id for case in fold}
            rest = [one for name, one in seen.items() if name not in held]
            own = train(rest, size, terms, embeddings=embeddings)
            others[size] |= {case.group: own for case in fold}
        whole[size] = train(list(seen.values()), size, terms, embeddings=embeddings)
    return Learnt(whole, others, Examples.of(annotated))


@dataclass(frozen=True)
class Support:
    """What a part has beside its model: what was learnt, and how it uses that."""

    learnt: Learnt
    use: Use

    @property
    def asking(self) -> bool:
        """Whether the model is ever asked."""
        return self.use.asking

    def but(self, **changes: Any) -> Support:
        """Return it with another use."""
        return replace(self, use=replace(self.use, **changes))

    def over(self, other: Support | None) -> Support:
        """Return it with what the model is shown by `other`, if there is one."""
        return replace(self, use=self.use.over(other.use)) if other else self

    def why_silent(self, case: Case, keys: Sequence[str]) -> dict[str, str]:
        """Return by category why the model is not asked about it; nothing for those it is."""
        reasons = {key: self.use.why_silent(self._views(case, key)) for key in keys}
        return {key: reason for key, reason in reasons.items() if reason}

    def joined(self, case: Case, key: str, found: Sequence[str]) -> list[str]:
        """Return what the model's quotes and the classifier's units come to together."""
        return self.use.kept(case, key, self._views(case, key), found)

    def excerpt(self, case: Case, keys: Sequence[str]) -> str:
        """Return what the model reads in place of the report."""
        return self.use.excerpt(case, [self._views(case, key) for key in keys])

    def examples(self, case: Case, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Return the demonstrations that are nearest to a report, none of its own group."""
        if not self.use.showing:
            return []
        told = self.use.told(case, [self._views(case, key) for key in keys])
        return self.learnt.examples.nearest(case, told, keys, self.use.nearest, self.use.empty)

    def plain(self) -> dict[str, Any]:
        """Return how it uses what was learnt, for JSON."""
        return self.use.plain()

    def _views(self, case: Case, key: str) -> Views:
        return self.learnt.views(case, key, self.use.sizes)


def asks(parts: Iterable[Any]) -> bool:
    """Say whether any of these parts ever asks its model."""
    return any(part.support is None or part.support.asking for part in parts)


# Few, since the more there are to choose from, the more of a choice is chance.
USES: Mapping[str, Use] = {
    "classifier alone, sentences from 0.2": Use("sentences", Use.NEVER, 0.2),
    "classifier alone, sentences from 0.4": Use("sentences", Use.NEVER, 0.4),
    "classifier alone, clauses from 0.3": Use("clauses", Use.NEVER, 0.3),
    "classifier alone, clauses from 0.5": Use("clauses", Use.NEVER, 0.5),
    "model where the classifier sees 0.1": Use("sentences", 0.1, Use.NEVER),
    "model where the classifier sees 0.3": Use("sentences", 0.3, Use.NEVER),
    "both, from 0.1 and 0.5": Use("clauses", 0.1, 0.5),
    "only what is in the report": Use("sentences", 0.0, Use.NEVER),
}

# The classifier's own units weighed by what sentences say of their clauses, no model asked.
ALONE = {"classifier alone, weighed": Use("sentences", Use.NEVER, Use.NEVER)}
# The same where both are weighed, and the model is asked everywhere or only where there may be
# something.
WEIGHED: Mapping[str, Use] = {
    "weighed with the classifier": Use("sentences", 0.0, Use.NEVER),
    "weighed, asked where the classifier sees 0.05": Use("sentences", 0.05, Use.NEVER),
}


def supports(learnt: Learnt) -> dict[str, Support]:
    """Return the ways of using classifiers that are worth trying, by name.

    Words stand for clauses where they were learnt in their place.
    """
    fine: Size = "words" if "words" in learnt.whole else "clauses"
    return {
        name.replace("clauses", fine): Support(
            learnt, replace(use, size=fine) if use.size == "clauses" else use
        )
        for name, use in USES.items()
    }


def used(parts: Mapping[str, Any]) -> dict[str, Support]:
    """Return what parts of a program have beside their model, those that have something."""
    return {name: part.support for name, part in parts.items() if part.support}


def plain_supports(beside: Mapping[str, Support]) -> dict[str, Any]:
    """Return what parts use of what was learnt, and which uses it how, for JSON; {} if none."""
    if not beside:
        return {}
    learnt = [support.learnt for support in beside.values()]
    needed = {size for support in beside.values() for size in support.use.sizes}
    whole = {size: own for one in learnt for size, own in one.whole.items() if size in needed}
    showing = [support for support in beside.values() if support.use.showing]
    examples = showing[0].learnt.examples.plain() if showing else []
    return {
        "classifiers": {size: whole[size].plain() for size in SIZES if size in whole},
        "parts": {name: support.plain() for name, support in beside.items()},
        **({"examples": examples} if examples else {}),
    }


def embeddings_of(beside: Mapping[str, Support]) -> list[str]:
    """Return the models whose vectors are features of what parts have beside their model."""
    whole = (own for support in beside.values() for own in support.learnt.whole.values())
    return sorted({own.embeddings for own in whole} - {""})


def supports_of(plain: Mapping[str, Any]) -> dict[str, Support]:
    """Return what each part uses, from `plain_supports`; KeyError and its like for other tables."""
    classifiers = {size: Classifier.of(own) for size, own in plain.get("classifiers", {}).items()}
    learnt = Learnt(classifiers, examples=Examples.from_plain(plain.get("examples", ())))
    found = {name: Support(learnt, Use.of(own)) for name, own in plain.get("parts", {}).items()}
    missing = {size for one in found.values() for size in one.use.sizes} - set(classifiers)
    if missing:
        raise KeyError(f"classifier of {', '.join(sorted(missing))}")
    return found
