"""What in a text would tell which report it was taken from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from crb_dspy.quotes.folding import fold

# Words in a row, by what they show. In an instruction so many are no chance; fewer only if they
# are telling, and stand in reports of no other group. A demonstration is a training report's
# own language, which others speak too: of 140 unrelated reports of MACCROBAT, 13 pairs share 8
# words, none shares 12.
LONG, SHORT, COPIED = 8, 5, 12
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f])*|\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r",(?=\d{3}(?:\D|$))")
_MONTH = re.compile(
    r"jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?"
    r"|oct(ober)?|nov(ember)?|dec(ember)?"
)
_IDENTIFIER = re.compile(r"(?=[\w.>:]*[^\W\d_])(?=(?:[\w.>:]*?\d){2})\w[\w.>:]{3,}\w")

Span = tuple[int, int]
Gram = tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """The words and numbers of a text, folded, and the offsets where they stand."""

    text: str
    words: tuple[str, ...]
    spans: tuple[Span, ...]

    def grams(self, size: int) -> Iterator[tuple[int, Gram]]:
        """Yield every run of so many words with its position."""
        return enumerate(zip(*(self.words[i:] for i in range(size)), strict=False))

    def slice(self, start: int, end: int) -> str:
        """Return the text from one word up to another."""
        return self.text[self.spans[start][0] : self.spans[end - 1][1]]


def words_of(text: str) -> Words:
    """Return the words of a text; case, accents, punctuation and spacing do not count."""
    found = [(_folded(match[0]), match.span()) for match in _WORD.finditer(text)]
    return Words(text, tuple(word for word, _ in found), tuple(span for _, span in found))


@lru_cache(maxsize=1 << 16)
def _folded(word: str) -> str:
    if word[0].isdigit():
        return _THOUSANDS.sub("", word)
    return word.lower() if word.isascii() else fold(word).text


def marks(words: Words, told: bool) -> Iterator[tuple[Gram, int, str]]:
    """Yield what would be a leak if a report had it: words, their position, and the kind.

    `told`: it is an instruction, which a model may have written; else a demonstration.
    """
    for size in (LONG,) if told else (COPIED,):
        yield from ((gram, start, "wording") for start, gram in words.grams(size))
    if told:
        short = ((gram, start) for start, gram in words.grams(SHORT) if _telling(gram))
        yield from ((gram, start, "wording") for gram, start in short)
        yield from ((gram, start, "number") for gram, start in _numbers(words))
        yield from ((gram, start, "name") for gram, start in _names(words))


def _telling(gram: Gram) -> bool:
    return sum(len(word) >= (2 if word[0].isdigit() else 5) for word in gram) >= 2


def _numbers(words: Words) -> Iterator[tuple[Gram, int]]:
    """Yield rare numbers by themselves, others between the same words, days with their month."""
    for at, word in enumerate(words.words):
        if not word[0].isdigit():
            continue
        digits = sum(char.isdigit() for char in word)
        if digits >= 4:
            yield (word,), at
        elif (digits == 3 or "." in word) and 0 < at < len(words.words) - 1:
            yield words.words[at - 1 : at + 2], at - 1
    for at, (before, after) in enumerate(pairwise(words.words)):
        day, month = (before, after) if before[0].isdigit() else (after, before)
        if day[0].isdigit() and _MONTH.fullmatch(month):
            yield (before, after), at


def _names(words: Words) -> Iterator[tuple[Gram, int]]:
    """Yield neighbouring capitalised words, and identifiers such as those of genes."""
    starts = {start: at for at, (start, _) in enumerate(words.spans)}
    for at in range(len(words.spans) - 1):
        pair = [words.text[slice(*span)] for span in words.spans[at : at + 2]]
        between = words.text[words.spans[at][1] : words.spans[at + 1][0]]
        if between in (" ", "-") and all(len(w) > 2 and w.istitle() for w in pair):
            yield words.words[at : at + 2], at
    for match in _IDENTIFIER.finditer(words.text):
        if (first := starts.get(match.start())) is not None:
            size = len(words_of(match[0]).words)
            yield words.words[first : first + size], first
