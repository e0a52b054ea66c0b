"""Why cells failed, most frequent first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# How many reasons are shown, and how many characters of each.
SHOWN, WIDTH = 5, 300
_VARYING = re.compile(r"\d+|'[^']{0,300}'|\"[^\"]{0,300}\"")


def reasons(errors: Iterable[str]) -> list[str]:
    """Return a line for each kind of error: how often it came, and how it first read.

    Errors that differ in numbers and quoted texts alone are of one kind.
    """
    kinds: Counter[str] = Counter()
    first: dict[str, str] = {}
    for error in filter(None, errors):
        kind = _VARYING.sub("#", error)[:WIDTH]
        kinds[kind] += 1
        first.setdefault(kind, error)
    lines = [f"{count} x {first[kind][:WIDTH]}" for kind, count in kinds.most_common(SHOWN)]
    left = sum(kinds.values()) - sum(count for _, count in kinds.most_common(SHOWN))
    return [*lines, f"{left} x for other reasons"] if left else lines
