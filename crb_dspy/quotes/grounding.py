"""Where in its report a quote stands, whatever tokenising, case or spelling did to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from crb_dspy.quotes.folding import Folded, fold, is_broken, joined, joins
from crb_dspy.quotes.negation import ENGLISH, folded_cue, forgetting

# Similarity of quote and place, 0 to 100, from which a fuzzy match is taken; folded lengths tried.
FUZZY_THRESHOLD = 90.0
FUZZY_LENGTHS = range(5, 1501)
NEGATION_CUES = ENGLISH
_GLUE_WORDS = (
    "a an and are as at be been by for from had has have he her his in is it its of on or she "
    "that the their there these this those to was were which who with"
)
_GLUE = frozenset(_GLUE_WORDS.split())
# One letter apart, and not a slip of the pen.
_LOOKALIKES = (
    ("macro", "micro"), ("phagia", "phasia"), ("abduct", "adduct"), ("ureter", "urethr"),
    ("perine", "perone"), ("ileum", "ilium"), ("ileal", "ilial"),
)  # fmt: skip
_LETTERS = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"[<>=±~+-]*\d+(?:[.,]\d+)*")
_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_RUN = re.compile(r"[A-Za-z]+|[0-9]+")
# What a model or tokeniser hangs on a quote; a sign or decimal point before a digit is not that.
_BEFORE = re.compile(r"(?:['*_#;:•·…]|[-.,](?!\d))+")
_AFTER = re.compile(r"['*_#;:•·….,]+$")

Span = tuple[int, int]


class Status(StrEnum):
    """How a quote was found in its report, best first."""

    EXACT = "exact"
    NORMALISED = "normalised"
    FUZZY = "fuzzy"
    UNGROUNDED = "ungrounded"


@dataclass(frozen=True)
class Placement:
    """A quote and every place it can mean: character offsets [start, end) in the original text."""

    quote: str
    status: Status
    spans: tuple[Span, ...]


@lru_cache(maxsize=1 << 16)
def ground(text: str, quote: str) -> Placement:
    """Place a quote in a text; never raises.

    Exact: character by character. Normalised: after folding Unicode forms, mojibake, dashes,
    quotation marks, case, white space, space beside punctuation, marks around the quote, and words
    broken at the end of a line.
    Fuzzy: the same words in the same order but for a slip of one letter, glue words and
    punctuation, with the same numbers and negations. A place never begins or ends inside a word
    or number ("ill" is not in "illness", nor "5 mg" in "2.5 mg"). The status is the best level
    that has a place; the spans are, in order, all exact and normalised places, or the fuzzy ones.
    """
    if not quote.strip() or len(quote) > 4 * len(text) + 64:
        return Placement(quote, Status.UNGROUNDED, ())
    exact = _find(text, quote, lambda start, end: _whole(text, start, end))
    folded, full = _folded(text), fold(quote).text
    core = _core(full)
    spans = _union(exact, _places(text, folded, full), _places(text, folded, core))
    if spans:
        return Placement(quote, Status.EXACT if exact else Status.NORMALISED, spans)
    if spans := _mended(text, folded, quote):
        return Placement(quote, Status.NORMALISED, spans)
    spans = _union(_places(text, folded, _near_place(folded, core)))
    return Placement(quote, Status.FUZZY if spans else Status.UNGROUNDED, spans)


def _mended(text: str, folded: Folded, quote: str) -> tuple[Span, ...]:
    """Return the places of a quote where it or the text has words broken at the ends of lines."""
    if not (is_broken(text) or is_broken(quote)):
        return ()
    whole = joined(quote, fold(quote)).text
    return _union(_places(text, joined(text, folded), _core(whole)))


_folded = lru_cache(maxsize=1024)(fold)


def _core(quote: str) -> str:
    return _AFTER.sub("", quote[match.end() :] if (match := _BEFORE.match(quote)) else quote)


def _places(text: str, folded: Folded, needle: str) -> list[Span]:
    def whole(start: int, end: int) -> bool:
        return _whole(text, *folded.span(start, end))

    return [folded.span(*span) for span in _find(folded.text, needle, whole)] if needle else []


def _union(*levels: list[Span]) -> tuple[Span, ...]:
    """Merge the places of several levels in text order; where they overlap the first level's."""
    kept: list[Span] = []
    taken: set[int] = set()
    for spans in levels:
        new = [span for span in spans if not taken & {span[0], span[1] - 1}]
        taken.update(at for start, end in new for at in range(start, end))
        kept += new
    return tuple(sorted(kept))


def _find(haystack: str, needle: str, whole: Callable[[int, int], bool]) -> list[Span]:
    run = _RUN.match(needle)
    step = len(run[0]) if run else 1  # no place can begin inside the word where one was refused
    found, at = [], haystack.find(needle)
    while at >= 0:
        end = at + len(needle)
        if accepted := whole(at, end):
            found.append((at, end))
        at = haystack.find(needle, end if accepted else at + step)
    return found


def _whole(text: str, start: int, end: int) -> bool:
    return not (_cuts(text, start) or _cuts(text, end))


def _cuts(text: str, at: int) -> bool:
    """Tell whether an offset falls inside a word or a number."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if joins(before, after):
        return True
    if after in ".,":
        return before.isdigit() and text[at + 1 : at + 2].isdigit()
    return before in ".," and after.isdigit() and text[at - 2 : at - 1].isdigit()


def _near_place(folded: Folded, quote: str) -> str:
    """Return the place in the folded text that says the same as the quote, or ""."""
    if len(quote) not in FUZZY_LENGTHS or not _known(folded, quote):
        return ""
    window = fuzz.partial_ratio_alignment(quote, folded.text, score_cutoff=FUZZY_THRESHOLD - 10)
    if window is None or len(quote) > len(folded.text):
        return ""
    place = _snap(folded.text, quote, (window.dest_start, window.dest_end))
    alike = fuzz.ratio(quote, place) >= FUZZY_THRESHOLD and _faithful(quote, place)
    return place if alike else ""


def _known(folded: Folded, quote: str) -> bool:
    """Tell, before anything costly, whether every word of the quote is one of the text's."""
    vocabulary = _vocabulary(folded.text)
    return all(
        word in vocabulary
        or process.extractOne(word, vocabulary, scorer=OSA.distance, score_cutoff=1)
        for word in _words(quote)
    )


@lru_cache(maxsize=1024)
def _vocabulary(folded: str) -> frozenset[str]:
    return frozenset(_words(folded))


def _snap(text: str, quote: str, window: Span) -> str:
    """Move a window's ends, each within a tenth of the quote, to the word ends that fit best."""
    slack = 12 + len(quote) // 8
    low, high = max(0, window[0] - slack), window[1] + slack
    tokens = list(_TOKEN.finditer(text, low, high))
    starts = [t.start() for t in tokens if abs(t.start() - window[0]) <= slack]
    ends = [t.end() for t in tokens if abs(t.end() - window[1]) <= slack]
    start = max(starts, key=lambda at: fuzz.ratio(quote, text[at : window[1]]), default=window[0])
    end = max(ends, key=lambda at: fuzz.ratio(quote, text[start:at]), default=window[1])
    return text[start:end]


def _faithful(quote: str, place: str) -> bool:
    """Tell whether a place has the numbers, the negations and, in order, the words of a quote."""
    if _NUMBER.findall(quote) != _NUMBER.findall(place):
        return False
    cue = folded_cue()
    if cue.findall(quote) != cue.findall(place):
        return False
    words = _words(place)
    return all(any(_alike(word, other) for other in words) for word in _words(quote))


def _words(folded: str) -> Iterator[str]:
    """Yield the words that carry meaning, British and American spelling as one."""
    for word in _LETTERS.findall(folded):
        if word not in _GLUE:
            yield word.replace("ae", "e").replace("oe", "e")


def _alike(word: str, other: str) -> bool:
    if word == other or word + "s" == other or word == other + "s":
        return True
    if min(len(word), len(other)) < 5 or word[0] != other[0] or OSA.distance(word, other) > 1:
        return False
    return not any({word.replace(a, b), word.replace(b, a)} & {other} for a, b in _LOOKALIKES)


forgetting(ground.cache_clear)


def forget() -> None:
    """Drop what is remembered about texts, which a long stream of reports would only fill."""
    for known in (ground, _folded, _vocabulary):
        known.cache_clear()
