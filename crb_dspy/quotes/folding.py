"""One form for texts that differ in Unicode, case, dashes, marks and spacing only."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_VARIANTS = str.maketrans({
    **dict.fromkeys("‐‑‒–—―−﹘﹣", "-"),
    **dict.fromkeys("\"`´‘’‚‛“”„‟′″«»‹›ʹʼ", "'"),
    **dict.fromkeys("º˚∘", "°"), **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("≥⩾", ">="), **dict.fromkeys("≤⩽", "<="), "×": "x",
})  # fmt: skip
# UTF-8 read as Windows-1252: a lead byte's character, then those of its continuation bytes. The
# two commonest leads may have been torn apart by a tokeniser ("37 Â ° C").
_BYTE = {chr(byte): byte for byte in range(0x80, 0x100)} | {
    bytes([byte]).decode("cp1252"): byte
    for byte in range(0x80, 0x100)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_NEXT = "[" + "".join(re.escape(char) for char, byte in _BYTE.items() if byte < 0xC0) + "]"
_TORN = rf"\u00c2 ?{_NEXT}|\u00e2 ?{_NEXT} ?{_NEXT}"
_MOJIBAKE = rf"[\u00c3-\u00df]{_NEXT}|{_TORN}|[\u00e0-\u00ef]{_NEXT}{{2}}"
# Accents, but not the strokes: "≠" without its stroke would be "=".
_ACCENT = re.compile("[\u0300-\u0333\u0339-\u036f]")
_PIECE = re.compile(rf"([a-zA-Z]+|[0-9]+)|(\s+)|{_MOJIBAKE}|&(?:[a-zA-Z]+|#[0-9]+);|.", re.DOTALL)


@dataclass(frozen=True)
class Folded:
    """A folded text and, for each of its characters, the offsets [start, end) it came from."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Give the original offsets of a non-empty range of the folded text."""
        return self.starts[start], self.ends[end - 1]


def joins(before: str, after: str) -> bool:
    """Tell whether two neighbouring characters belong to one word or one number.

    A letter beside a digit does not, nor do letters of scripts that put no space between words.
    """
    if before.isdigit() or after.isdigit():
        return before.isdigit() and after.isdigit()
    return before.isalpha() and after.isalpha() and max(before, after) < "\u2e80"


def fold(text: str) -> Folded:
    """Fold a text; a space is kept only where it parts two letters or two digits."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    gap = False
    for match in _PIECE.finditer(text):
        if match.lastindex == 2:
            gap = True
            continue
        start, end = match.span()
        plain = match.lastindex == 1
        piece = match[0].lower() if plain else _fold_piece(match[0])
        if not piece:  # an accent or invisible character goes with the one before it
            if ends and not gap:
                ends[-1] = end
            continue
        if gap and out and joins(out[-1][-1], piece[0]):
            out.append(" ")
            starts.append(ends[-1])
            ends.append(start)
        gap = False
        out.append(piece)
        starts.extend(range(start, end) if plain else [start] * len(piece))
        ends.extend(range(start + 1, end + 1) if plain else [end] * len(piece))
    return Folded("".join(out), tuple(starts), tuple(ends))


# What may part a word at the end of a line, visible or not: soft hyphens, zero-width characters.
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_BROKEN = re.compile(rf"[-‐‑{INVISIBLE}][{INVISIBLE} \t]*[\r\n]|[\r\n][ \t]*[{INVISIBLE}]")

# What stands between two letters of a folded text and may be inside of one word.
_PARTED = re.compile(r"(?<=[^\W\d_])[- ]+(?=[^\W\d_])")


def is_broken(text: str) -> bool:
    """Say whether a word of a text may be broken at the end of a line."""
    return bool(_BROKEN.search(text))


def joined(text: str, folded: Folded) -> Folded:
    """Return a folded text without hyphens inside words, words broken at line ends made whole.

    Nobody can tell which hyphen at a line's end belongs to its word, so that none counts.
    """
    plain, starts = folded.text, folded.starts
    left_out: set[int] = set()
    for run in _PARTED.finditer(plain):
        between = text[starts[run.start() - 1] + 1 : starts[run.end()]]
        if "-" in run[0] or is_broken(between):
            left_out.update(range(*run.span()))
    kept = [at for at in range(len(plain)) if at not in left_out]
    return Folded(
        "".join(plain[at] for at in kept),
        tuple(starts[at] for at in kept),
        tuple(folded.ends[at] for at in kept),
    )


@lru_cache(maxsize=4096)
def _fold_piece(piece: str) -> str:
    return "".join(map(_fold_character, _repaired(piece)))


def _repaired(piece: str) -> str:
    if len(piece) == 1:
        return piece
    if piece[0] == "&":
        return html.unescape(piece)
    try:
        return bytes(_BYTE[char] for char in piece if char != " ").decode("utf-8")
    except UnicodeDecodeError:
        return piece


def _fold_character(char: str) -> str:
    if unicodedata.category(char) in ("Cc", "Cf"):
        return ""
    plain = unicodedata.normalize("NFKD", char.translate(_VARIANTS)).casefold()
    return _ACCENT.sub("", plain).translate(_VARIANTS).strip()
