"""What a classifier sees of a sentence, clause or word: words, letters, neighbours and place."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from crb_dspy.data.cases import Case
from crb_dspy.retrieval.embeddings import vectors
from crb_dspy.retrieval.sentences import Size, Unit, units

# A feature's name is its kind and what was seen: "word:no fever", "term:Neuro".
Features = dict[str, float]
Terms = Mapping[str, Sequence[str]]

# The length that each kind's features have together. Kinds of grams are weighted by rarity too.
GRAMS = {"word": 1.0, "letters": 1.0, "before": 0.3, "sentence": 0.5, "heading": 0.3}
# Of single words: those beside it by how far, the two of them together, and their letters.
BESIDE = {"-2": 0.4, "-1": 0.7, "+1": 0.7, "+2": 0.4, "left": 0.5, "right": 0.5}
GRAMS |= {**BESIDE, "letters-1": 0.5, "letters+1": 0.5}
TERM = 0.5
_WORD = re.compile(r"\w+")


def features(
    case: Case, found: Sequence[Unit], terms: Terms, size: Size, embeddings: str = ""
) -> list[Features]:
    """Return what each unit of a report holds, as numbers by name.

    Words (1-2), letters (3-5, within words), the sentence before and the unit's own, words of
    its heading, terms of each category, and its place in the section. Of single words also the
    words beside them and the marks between; of others the vector of a model of `embeddings`.
    """
    wholes = [words(_text(case, unit)) for unit in units(case, "sentences")]
    patterns = {key: _pattern(tuple(beginnings)) for key, beginnings in terms.items() if beginnings}
    seen = [_unit_features(case, unit, wholes, patterns) for unit in found]
    if size == "words":
        for at, own in enumerate(seen):
            own |= _beside(case, found, at)
    elif embeddings:
        rows = vectors(embeddings, [_text(case, unit) for unit in found])
        for own, row in zip(seen, rows, strict=True):
            own |= {f"embedding:{i}": value for i, value in enumerate(row)}
    return seen


def _unit_features(
    case: Case,
    unit: Unit,
    wholes: Sequence[Sequence[str]],
    patterns: Mapping[str, re.Pattern[str]],
) -> Features:
    text = _text(case, unit)
    own_words = words(text)
    own = {"place:": unit.place, "first:": float(unit.sentence == 0)}
    own |= _scaled("word", _grams(own_words))
    own |= _scaled("letters", (letters for word in own_words for letters in _letters(word)))
    own |= _scaled("before", _grams(wholes[unit.sentence - 1] if unit.sentence else ()))
    own |= _scaled("sentence", _grams(wholes[unit.sentence]))
    own |= _scaled("heading", words(unit.heading))
    for key, pattern in patterns.items():
        if count := len(pattern.findall(text)):
            own |= {f"term:{key}": TERM, f"terms:{key}": TERM * math.log(count)}
    return own


def _beside(case: Case, found: Sequence[Unit], at: int) -> Features:
    """Return what stands around a word in its sentence, and its form."""
    unit = found[at]

    def word(step: int) -> str:
        other = found[at + step] if 0 <= at + step < len(found) else None
        same = other is not None and other.sentence == unit.sentence
        return _text(case, other).lower() if other and same else ""

    text, near = _text(case, unit), {step: word(step) for step in (-2, -1, 1, 2)}
    own = {f"{step:+d}:{other}": BESIDE[f"{step:+d}"] for step, other in near.items()}
    own[f"left:{near[-1]} {text.lower()}"] = BESIDE["left"]
    own[f"right:{text.lower()} {near[1]}"] = BESIDE["right"]
    for step in (-1, 1):
        own |= _scaled(f"letters{step:+d}", _letters(near[step]))
    before = case.text[found[at - 1].end : unit.start] if near[-1] else "."
    after = case.text[unit.end : found[at + 1].start] if near[1] else "."
    form = "A" if text.isupper() else "a" if text.islower() else "0" if text[0].isdigit() else "Aa"
    return own | {f"form:{form}": 0.3, f"gap-:{before}": 0.5, f"gap+:{after}": 0.5}


def _text(case: Case, unit: Unit) -> str:
    return case.text[unit.start : unit.end]


def _scaled(kind: str, grams: Iterator[str] | Sequence[str]) -> Features:
    """Return how often each gram is there, as one row of the kind's length."""
    counts = Counter(grams)
    length = math.sqrt(sum(count * count for count in counts.values()))
    return {f"{kind}:{gram}": GRAMS[kind] * count / length for gram, count in counts.items()}


def words(text: str) -> list[str]:
    """Return the words of a text, in small letters."""
    return _WORD.findall(text.lower())


def _grams(row: Sequence[str]) -> Iterator[str]:
    yield from row
    for pair in pairwise(row):
        yield " ".join(pair)


@lru_cache(maxsize=1 << 16)
def _letters(word: str) -> tuple[str, ...]:
    padded = f" {word} "
    return tuple(
        padded[at : at + size] for size in (3, 4, 5) for at in range(max(1, len(padded) - size + 1))
    )


@lru_cache(maxsize=256)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Match words that begin with one of the terms; those in capitals match as they stand."""
    either = "|".join(re.escape(t) if t.isupper() else f"(?i:{re.escape(t)})" for t in terms)
    return re.compile(rf"\b(?:{either})")
