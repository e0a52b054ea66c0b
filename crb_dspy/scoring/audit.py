"""What systems that understand nothing get from each metric, and so what it is worth."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from crb_dspy.cases import Case
from crb_dspy.grounding import NEGATION_CUES
from crb_dspy.scoring.table import Metrics, score

# From a case, a category and all cases to the quotes of a system.
System = Callable[[Case, str, Sequence[Case]], Sequence[str]]

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W\d_]{4,}")
_CUES = re.compile(rf"\b(?:{'|'.join(sorted(NEGATION_CUES))})\b\s*|n't\b", re.IGNORECASE)
# Words that a list of a category takes from the gold of other cases.
LISTED = 30


def audit(cases: Sequence[Case], keys: Sequence[str]) -> dict[str, Metrics]:
    """Return every metric of every trivial system on annotated cases; chance is seeded."""
    results = {}
    for name, system in SYSTEMS.items():
        predictions = {case.id: {key: system(case, key, cases) for key in keys} for case in cases}
        results[name] = score(cases, keys, predictions).summary
    return results


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
