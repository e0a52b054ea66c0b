"""Sentences, clauses and words of a report, with their places in its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from crb_dspy.data.cases import Case

Size = Literal["sentences", "clauses", "words"]
SIZES: tuple[Size, ...] = ("sentences", "clauses", "words")
# From a section and the ends of a sentence of it to the places of its parts.
Cut = Callable[[str, int, int], Iterable[tuple[int, int]]]

# Words before a full stop that does not end a sentence; some only before a number ("Fig. 2").
_WORDS = (
    "al approx ca cf co cp dept diff dr drs e.g esp gen i.e incl inc jr mr mrs ms ph.d prof resp"
    " sp spp sr st supp suppl viz vs"
)
_NUMBERED = "eq fig figs max min no nos nr pt ref refs tab temp vol"
_SHORT, _BEFORE_NUMBERS = frozenset(_WORDS.split()), frozenset(_NUMBERED.split())
_WORD = re.compile(r"[^\s(\[{/]+$")
_CLOSERS = "\"'”’»)\\]}"
_OPENERS = "\"'“‘«(\\[{"
# What may end a sentence: its marks with what closes after them, or the end of a line.
_END = re.compile(rf"[。！？]+[{_CLOSERS}]*|[.!?…]+[{_CLOSERS}]*(?=\s)|\s*\n")
_NUMBER = re.compile(rf"\s*[{_OPENERS}]*\d")
_LOWER = re.compile(rf"\s*[{_OPENERS}]*[^\W\d_]")
_BULLET = re.compile(r"\s*(?:[-–—*•·‣▪◦●■]\s|\(?(?:\d{1,2}|[a-z])[.)]\s)")
_CLAUSE = re.compile(r"[;；，、]|,(?=\s)")
_LONE = re.compile(r"\w+(?:[-'’.]\w+)*")


@dataclass(frozen=True)
class Unit:
    """A sentence, clause or word: its offsets in the report's text, heading, and where it stands.

    `place` is its relative place in the section, from 0 to below 1; `sentence` numbers the
    sentence of the report that it is, or is a part of.
    """

    start: int
    end: int
    heading: str
    place: float
    sentence: int


def units(case: Case, size: Size) -> tuple[Unit, ...]:
    """Return the sentences, clauses or words of a report, in order: disjoint, never of a heading.

    Sentences or clauses together cover every character of the sections that is not white space.
    """
    if size == "sentences":
        return _sentences(case)
    return _parts(case, _clauses if size == "clauses" else _words)


@lru_cache(maxsize=4096)
def _split(body: str) -> tuple[tuple[int, int], ...]:
    """Return where the sentences of a section are."""
    cuts = [match.end() for match in _END.finditer(body) if _ends(body, match)]
    return tuple(_filled(body, 0, len(body), cuts))


def _sentences(case: Case) -> tuple[Unit, ...]:
    found: list[Unit] = []
    for heading, at, body in _bodies(case):
        for start, end in _split(body):
            unit = Unit(at + start, at + end, heading, start / len(body), len(found))
            found.append(unit)
    return tuple(found)


def _parts(case: Case, cut: Cut) -> tuple[Unit, ...]:
    """Return what the sentences of a report are cut into."""
    found = []
    sentences = iter(_sentences(case))
    for heading, at, body in _bodies(case):
        for first, last in _split(body):
            sentence = next(sentences).sentence
            for start, end in cut(body, first, last):
                found.append(Unit(at + start, at + end, heading, start / len(body), sentence))
    return tuple(found)


def _clauses(body: str, first: int, last: int) -> Iterable[tuple[int, int]]:
    return _filled(body, first, last, [m.end() for m in _CLAUSE.finditer(body, first, last)])


def _words(body: str, first: int, last: int) -> Iterable[tuple[int, int]]:
    return (match.span() for match in _LONE.finditer(body, first, last))


def _bodies(case: Case) -> Iterator[tuple[str, int, str]]:
    """Yield each section's heading, the offset of its text in the report, and its text."""
    at = 0
    for heading, body in case.sections.items():
        at += len(f"## {heading}\n")
        yield heading, at, body
        at += len(body) + len("\n\n")


def _filled(text: str, start: int, end: int, cuts: list[int]) -> Iterator[tuple[int, int]]:
    """Yield what lies between cuts without the white space around it, if anything does."""
    for cut in (*cuts, end):
        piece = text[start:cut]
        if inner := piece.strip():
            first = start + piece.index(inner)
            yield first, first + len(inner)
        start = cut


def _ends(body: str, match: re.Match[str]) -> bool:
    """Tell whether a sentence ends where it could."""
    after = body[match.end() :][:40]
    if "\n" in match[0]:
        return (
            not (following := after.lstrip())
            or not following[0].islower()
            or bool(_BULLET.match(after))
        )
    if match[0][0] in "。！？":
        return True
    if (letter := _LOWER.match(after)) and letter[0][-1].islower():
        return False
    word = _WORD.search(body[max(0, match.start() - 20) : match.start()])
    before = word[0].lower() if word and match[0] == "." else ""
    if before in _BEFORE_NUMBERS:
        return not _NUMBER.match(after)
    return before not in _SHORT
