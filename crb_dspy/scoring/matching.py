"""Who gets whom, where each may be had once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def matched(slots: Sequence[Sequence[int]]) -> set[int]:
    """Give slots one of their candidates each, none twice, so that as many as can be are taken."""
    owner: dict[int, int] = {}
    held: dict[int, int] = {}
    for slot in range(len(slots)):
        token, through = _free(slots, slot, owner)
        while token is not None:
            taker = through[token]
            owner[token] = taker
            # Its former token, if it has one, goes to the slot that asked for it.
            held[taker], token = token, held.get(taker)
    return set(owner)


def _free(
    slots: Sequence[Sequence[int]], slot: int, owner: Mapping[int, int]
) -> tuple[int | None, dict[int, int]]:
    """Find a candidate that nobody has, and through which slot each was asked for."""
    through: dict[int, int] = {}
    asking = [slot]
    for asker in asking:
        for token in slots[asker]:
            if token not in through:
                through[token] = asker
                if token not in owner:
                    return token, through
                asking.append(owner[token])
    return None, through
