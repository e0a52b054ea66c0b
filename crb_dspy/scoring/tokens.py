"""A report as words: which of them count, which negate, and where clauses end."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import islice, takewhile

from crb_dspy.quotes import negation
from crb_dspy.quotes.grounding import NEGATION_CUES, Span

# Letters of scripts without spaces stand alone, and a digit never joins a letter: a word is the
# least that grounding can place. "didn't" is two words, so that its negation can be lost.
_LETTER = r"[^\W\d_\u2e80-\U0010ffff]"
_WORD = re.compile(rf"\d+(?:[.,]\d+)*|{_LETTER}+?(?=n['’]t\b)|n['’]t\b|{_LETTER}+|[^\W_]")
_MARK = re.compile(r"\S")
_FUNCTION = (
    "a an the this that these those such and or but as if than then so also both either whether "
    "of in on at to from with by for into onto upon about between among through via per "
    "during after before since until while when where which who whom whose what how "
    "he him his she her hers it its they them their theirs we our you your himself herself itself "
    "is are was were be been being am has have had having do does did done will would shall should "
    "can could may might must there here any very s"
)
_FUNCTION_WORDS = frozenset(_FUNCTION.split()) - NEGATION_CUES
_CONTRAST = frozenset(["but", "however", "although", "though", "except"])
# Words that negate only in company, or name something else in it.
_NEEDS_NEXT = {"free": ("of", "from"), "ruled": ("out",)}
_NOT_AFTER = {"negative": ("gram", "rh", "rhesus")}
_CUES = (NEGATION_CUES | {"n't", "n’t", "ruled"}) - {"non", "except"}


class Level(IntEnum):
    """What counts as a token: content words, all words, or every mark."""

    CONTENT = 0
    WORDS = 1
    MARKS = 2


@dataclass(frozen=True)
class Report:
    """A text cut into words; tokens are the indices of those that count."""

    text: str
    level: Level
    spans: tuple[Span, ...]
    words: tuple[str, ...]
    counts: tuple[bool, ...]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each word starts."""
        return tuple(start for start, _ in self.spans)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Where each word ends."""
        return tuple(end for _, end in self.spans)

    @cached_property
    def cues(self) -> frozenset[int]:
        """The words that negate a finding."""
        cues = _CUES | negation.spoken()
        return frozenset(i for i, word in enumerate(self.words) if word in cues and self._cue(i))

    @cached_property
    def clauses(self) -> tuple[int, ...]:
        """The number of the clause that each word stands in."""
        number, clauses, end = 0, [], 0
        for (start, stop), word in zip(self.spans, self.words, strict=True):
            gap = self.text[end:start]
            number += word in _CONTRAST or any(mark in gap for mark in ".;:\n")
            clauses.append(number)
            end = stop
        return tuple(clauses)

    def within(self, span: Span) -> range:
        """The words that stand in a place whole."""
        return range(bisect_left(self.starts, span[0]), bisect_right(self.ends, span[1]))

    def tokens(self, span: Span) -> tuple[int, ...]:
        """The tokens that stand in a place whole."""
        return tuple(i for i in self.within(span) if self.counts[i])

    def scope(self, cue: int) -> tuple[int, ...]:
        """Up to four tokens that a cue negates: those after it in its clause, else before it."""
        after = range(cue + 1, min(cue + 13, len(self.words)))
        before = range(cue - 1, max(cue - 13, -1), -1)
        return self._near(cue, after) or self._near(cue, before)

    def _near(self, cue: int, reach: range) -> tuple[int, ...]:
        same = self.clauses[cue]
        clause = takewhile(lambda i: self.clauses[i] == same and i not in self.cues, reach)
        return tuple(islice((i for i in clause if self.counts[i]), 4))

    def _cue(self, at: int) -> bool:
        word = self.words[at]
        following = self.words[at + 1 : at + 2]
        before = self.words[max(at - 1, 0) : at]
        if word in _NEEDS_NEXT and not set(following) & set(_NEEDS_NEXT[word]):
            return False
        return not set(before) & set(_NOT_AFTER.get(word, ()))


@lru_cache(maxsize=4096)
def tokenized(text: str, level: Level = Level.CONTENT) -> Report:
    """Cut a text into words and say which of them count at a level."""
    pattern = _MARK if level is Level.MARKS else _WORD
    matches = list(pattern.finditer(text))
    words = tuple(match[0].lower() for match in matches)
    counts = tuple(level > Level.CONTENT or word not in _FUNCTION_WORDS for word in words)
    return Report(text, level, tuple(match.span() for match in matches), words, counts)


negation.forgetting(tokenized.cache_clear)
