"""Which training cases to show: the typical, the unlike or the brief, for every case alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.quotes.folding import fold

Choice = Callable[[Sequence[Case], Sequence[str], int], list[Case]]


def selected(how: str, cases: Sequence[Case], keys: Sequence[str], size: int) -> list[Case]:
    """Return `size` cases by one of `SELECTIONS`, those with most to find first.

    At most one has nothing to find, and only where at least two are asked for.
    """
    filled = [case for case in cases if _amount(case, keys)]
    empty = [case for case in cases if case not in filled]
    room = size - (1 if size > 1 and empty else 0)
    chosen = SELECTIONS[how](filled, keys, room)
    ranked = sorted(chosen, key=lambda case: (-_amount(case, keys), case.id))
    return ranked + empty[: size - len(ranked)][:1]


def _amount(case: Case, keys: Sequence[str]) -> int:
    return sum(len((case.gold or {}).get(key, ())) for key in keys)


def _words(case: Case, keys: Sequence[str]) -> frozenset[str]:
    quotes = [quote for key in keys for quote in (case.gold or {}).get(key, ())]
    return frozenset(word for quote in quotes for word in fold(quote).text.split())


def _alike(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def _typical(cases: Sequence[Case], keys: Sequence[str], size: int) -> list[Case]:
    """Take those whose findings share most words with those of the others."""
    words = {case.id: _words(case, keys) for case in cases}

    def closeness(case: Case) -> tuple[float, str]:
        return -sum(_alike(words[case.id], other) for other in words.values()), case.id

    return sorted(cases, key=closeness)[:size]


def _diverse(cases: Sequence[Case], keys: Sequence[str], size: int) -> list[Case]:
    """Take the fullest, then again and again the one least like those taken."""
    words = {case.id: _words(case, keys) for case in cases}
    left = sorted(cases, key=lambda case: (-_amount(case, keys), case.id))
    taken: list[Case] = []
    while left and len(taken) < size:
        near = {
            c.id: max((_alike(words[c.id], words[t.id]) for t in taken), default=0) for c in left
        }
        pick = min(left, key=lambda case: near[case.id])
        left.remove(pick)
        taken.append(pick)
    return taken


def _brief(cases: Sequence[Case], keys: Sequence[str], size: int) -> list[Case]:
    """Take those with least to find: the cheapest to show."""
    return sorted(cases, key=lambda case: (_amount(case, keys), case.id))[:size]


SELECTIONS: dict[str, Choice] = {"typical": _typical, "diverse": _diverse, "brief": _brief}


def shown(part: Tunable, findings: Iterable[tuple[Case, Mapping[str, Sequence[str]]]]) -> Tunable:
    """Return a part that shows these cases with these findings as demonstrations."""
    pairs = list(findings)
    return part.with_units(
        {
            name: unit.with_demonstrations(unit.demonstration(*pair) for pair in pairs)
            for name, unit in part.units.items()
        }
    )
