"""Words that negate a finding: English ones always, those of a schema's language beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from crb_dspy.quotes.folding import fold

_ENGLISH = (
    "no not non nor neither never none nothing without denied denies deny denying absent absence "
    "negative lack lacked lacking lacks free cannot excluded unlikely except"
)
ENGLISH = frozenset(_ENGLISH.split())
# By code, as a schema names them. Words that also mean something else ("noch", "frei") are out.
LANGUAGES = {
    "es": (
        "no sin ni nunca jamás tampoco ningún ninguna ninguno nada niega niegan negaba negó "
        "negativo negativa negativos negativas ausencia ausente ausentes descarta descartó"
    ),
    "it": (
        "non no senza né nessun nessuno nessuna mai nulla nega negava negano negativo negativa "
        "negativi negative assenza assente assenti privo priva escluso esclusa"
    ),
    "fr": (
        "non ne pas sans ni aucun aucune jamais rien nie niait absence absent absente absents "
        "absentes négatif négative négatifs négatives dépourvu dépourvue exclu exclue"
    ),
    "de": (
        "kein keine keinen keinem keiner keines nicht nichts ohne nie niemals weder fehlt fehlte "
        "fehlen fehlend fehlende fehlender fehlendes verneint verneinte negativ negative negativer "
        "negatives ausgeschlossen"
    ),
}
_SPOKEN: set[str] = set()
# What remembers anything that depends on these words.
_FORGETTING: list[Callable[[], None]] = []


def words(named: Iterable[str]) -> frozenset[str]:
    """Return what a schema's `negations` mean: words, and all of a language for its code."""
    found: set[str] = set()
    for name in named:
        found |= set(LANGUAGES[name].split()) if name in LANGUAGES else {name.lower()}
    return frozenset(found)


def speak(named: Iterable[str]) -> None:
    """Let these words negate beside the English ones, in place of those named before.

    For the whole process: a run has one schema.
    """
    wanted = words(named)
    if wanted != _SPOKEN:
        _SPOKEN.clear()
        _SPOKEN.update(wanted)
        for forget in _FORGETTING:
            forget()


def spoken() -> frozenset[str]:
    """Return the words that negate beside the English ones."""
    return frozenset(_SPOKEN)


def forgetting(forget: Callable[[], None]) -> None:
    """Let something be forgotten when other words negate."""
    _FORGETTING.append(forget)


def folded_cue() -> re.Pattern[str]:
    """Return what finds words that negate in a folded text."""
    return _pattern(spoken())


@lru_cache(maxsize=8)
def _pattern(more: frozenset[str]) -> re.Pattern[str]:
    every = sorted({fold(word).text for word in ENGLISH | more})
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, every))})\b|n't\b|\bruled out\b")
