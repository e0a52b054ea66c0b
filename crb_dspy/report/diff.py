"""A seed prompt against its tuned one: line by line, and word by word where a line changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

# Products of words above which a changed passage is shown whole: word diffs are quadratic.
_WORD_LIMIT = 250_000
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
Piece = tuple[str, str]


@dataclass(frozen=True)
class Hunk:
    """Lines that are the "same" in both, or "changed" as pieces: "same", "del" or "ins"."""

    kind: str
    lines: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class PromptDiff:
    """A part of a program, and how its prompt was changed."""

    name: str
    changed: bool
    hunks: tuple[Hunk, ...]


def compare(name: str, seed: str, tuned: str) -> PromptDiff:
    """Compare the prompts of a part; the pieces of all hunks give back both texts."""
    if seed == tuned:
        return PromptDiff(name, False, (Hunk("same", seed.count("\n") + 1, (("same", seed),)),))
    return PromptDiff(name, True, tuple(_hunks(seed.splitlines(True), tuned.splitlines(True))))


def _hunks(seed: Sequence[str], tuned: Sequence[str]) -> Iterator[Hunk]:
    matcher = SequenceMatcher(None, seed, tuned, autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        before, after = "".join(seed[i:j]), "".join(tuned[k:m])
        if kind == "equal":
            yield Hunk("same", j - i, (("same", before),))
        else:
            yield Hunk("changed", max(j - i, m - k), tuple(_pieces(before, after)))


def _pieces(before: str, after: str) -> Iterator[Piece]:
    a, b = _WORD.findall(before), _WORD.findall(after)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    # Texts that share little are easier to read one after the other.
    if len(a) * len(b) > _WORD_LIMIT or matcher.ratio() < 0.4:
        yield from ((kind, text) for kind, text in (("del", before), ("ins", after)) if text)
        return
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            yield "same", "".join(a[i:j])
            continue
        if i < j:
            yield "del", "".join(a[i:j])
        if k < m:
            yield "ins", "".join(b[k:m])
