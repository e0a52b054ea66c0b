"""Whether there is anything to quote, by the model's own account: probabilities, or a no."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy.lm15 import TokenLogprob

# How many of the likeliest tokens a server is asked for, which is what OpenAI allows.
ALTERNATIVES = 20


def denies(value: object) -> bool:
    """Say whether an answer to a yes/no question is a clear no; anything else leaves it open."""
    return value is False or bool(re.match(r"\W*no\b", str(value), re.IGNORECASE))


def silences(tokens: Sequence[TokenLogprob], keys: Sequence[str]) -> dict[str, float]:
    """Return the probability of `[]` against a first quote, by category.

    It is read where a category's list opens: off the alternatives of the token that opens it, and
    of the one after, where that is a token of its own. What the answer's constraint forbids is left
    out of account. A category whose list is not found, or whose server told no alternatives, is
    missing.
    """
    text = "".join(token.token for token in tokens)
    ends, at = [], 0
    for token in tokens:
        ends.append(at := at + len(token.token))
    found = {}
    for key in keys:
        opening = re.search(rf'"{re.escape(key)}"\s*:\s*\[', text)
        if opening is None:
            continue
        number = next(n for n, end in enumerate(ends) if end >= opening.end())
        if (silent := _silent(tokens, number)) is not None:
            found[key] = silent
    return found


def _silent(tokens: Sequence[TokenLogprob], number: int) -> float | None:
    """Return the probability that the list which a token opens holds nothing."""
    chosen = tokens[number]
    # What stands before the bracket in the token, as `: [`, stands before it in its rivals too.
    before = chosen.token[: chosen.token.rindex("[")]
    shares = _shares(chosen)
    rivals = {t.removeprefix(before): p for t, p in shares.items() if t.startswith(before)}
    empty = math.fsum(p for t, p in rivals.items() if re.match(r"\[\s*\]", t))
    filled = math.fsum(p for t, p in rivals.items() if re.match(r'\[\s*"', t))
    opened = math.fsum(p for t, p in rivals.items() if not t.removeprefix("[").strip() and t)
    if opened and chosen.token.rstrip().endswith("[") and number + 1 < len(tokens):
        after = _shares(tokens[number + 1])
        closing = math.fsum(p for t, p in after.items() if t.lstrip().startswith("]"))
        quoting = math.fsum(p for t, p in after.items() if t.lstrip().startswith('"'))
        if closing + quoting:
            empty += opened * closing / (closing + quoting)
            filled += opened * quoting / (closing + quoting)
    return empty / (empty + filled) if empty + filled else None


def _shares(token: TokenLogprob) -> Mapping[str, float]:
    """Return the probability of a token and of its alternatives; {} where none was told."""
    if not token.top:
        return {}
    told = {other.token: math.exp(other.logprob) for other in token.top}
    return {token.token: math.exp(token.logprob)} | told
