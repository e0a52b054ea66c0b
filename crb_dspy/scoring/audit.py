"""What systems that understand nothing get from each metric, and so what it is worth."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind, usual
from crb_dspy.quotes.grounding import NEGATION_CUES
from crb_dspy.scoring.halves import total
from crb_dspy.scoring.objectives import Objective
from crb_dspy.scoring.table import Metrics, Predictions, score

# From a case, a category and all cases to the quotes of a system.
System = Callable[[Case, str, Sequence[Case]], Sequence[str]]

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W\d_]{4,}")
_CUES = re.compile(rf"\b(?:{'|'.join(sorted(NEGATION_CUES))})\b\s*|n't\b", re.IGNORECASE)
# Words that a list of a category takes from the gold of other cases.
LISTED = 30


def audit(
    cases: Sequence[Case],
    keys: Sequence[str],
    others: Mapping[str, Predictions] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> dict[str, Metrics]:
    """Return every metric of every trivial system on annotated cases; chance is seeded.

    `others` are what further systems found, by their names. `kinds` say what categories hold: of
    those that hold no quotes, systems that quote answer nothing.
    """
    known = kinds or {}
    found: dict[str, Predictions] = {
        name: {
            case.id: {key: _given(name, case, key, cases, known) for key in keys} for case in cases
        }
        for name in SYSTEMS
    }
    every = {**found, **(others or {})}
    return {name: score(cases, keys, own, kinds=known).summary for name, own in every.items()}


def _given(
    name: str, case: Case, key: str, cases: Sequence[Case], kinds: Mapping[str, Kind]
) -> Sequence[str]:
    if (kind := kinds.get(key)) and not kind.verbatim and name not in _OF_GOLD:
        return ()
    return SYSTEMS[name](case, key, cases)


def trivial(
    cases: Sequence[Case],
    keys: Sequence[str],
    objective: Objective,
    kinds: Mapping[str, Kind] | None = None,
) -> dict[str, float]:
    """Return what an objective gives to systems that neither know gold nor understand anything."""
    known = {key: (kinds or {}).get(key) or usual() for key in keys}
    found = {}
    for name in (name for name in SYSTEMS if not name.startswith("gold")):
        halves = []
        for case in cases:
            for key in keys:
                gold = tuple((case.gold or {}).get(key, ()))
                given = _given(name, case, key, cases, known)
                cell = known[key].score(case.text, gold, given)
                value = objective.value(cell, gold, given)
                halves.append(objective.halves(value, known[key].sought(gold)))
        found[name] = total(halves).score
    return found


def _empty(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    return []


def _every_sentence(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    bodies = case.sections.values()
    return [s for body in bodies for s in _SENTENCE.split(body) if s.strip()]


def _whole_report(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    return list(case.sections.values())


def _one_sentence(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    return [random.Random(f"{case.id}/{key}").choice(_every_sentence(case, key, cases))]


def _function_word(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    return ["the"]


def _word_list(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    """Quote the words of this report that are common in the category's gold of other cases."""
    counts: dict[str, int] = {}
    for other in cases:
        if other.group != case.group:
            for word in set(_words(_gold(other, key, cases))):
                counts[word] = counts.get(word, 0) + 1
    common = sorted(counts, key=lambda word: (-counts[word], word))[:LISTED]
    own = set(_words([case.text]))
    return [word for word in common if word in own]


def _gold(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    return list((case.gold or {}).get(key, ()))


def _gold_without_negation(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    stripped = (_CUES.sub("", quote).strip() for quote in _gold(case, key, cases))
    return [quote for quote in stripped if quote]


def _gold_of_another_case(case: Case, key: str, cases: Sequence[Case]) -> list[str]:
    following = cases[(list(cases).index(case) + 1) % len(cases)]
    return _gold(following, key, cases)


def _words(texts: Sequence[str]) -> list[str]:
    return [word.lower() for text in texts for word in _WORD.findall(text)]


SYSTEMS: Mapping[str, System] = {
    "empty": _empty,
    "every_sentence": _every_sentence,
    "whole_report": _whole_report,
    "one_sentence": _one_sentence,
    "function_word": _function_word,
    "word_list": _word_list,
    "gold": _gold,
    "gold_without_negation": _gold_without_negation,
    "gold_of_another_case": _gold_of_another_case,
}
_OF_GOLD = ("gold", "gold_of_another_case")
