"""What can go wrong, by who can mend it."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from pydantic import ValidationError

# Names of variables that hold secrets; shorter values than the least are no secrets but words.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
LEAST = 8
# What keys of well-known providers look like, and logins in addresses.
_SHAPES = re.compile(
    r"\b(?:sk|rk|pk|gsk|xai|hf|pplx|nvapi|gh[opsu]|r8)[-_][\w-]{16,}|\bAIza[\w-]{30,}"
    r"|\bAKIA[A-Z0-9]{12,}|(?<=earer )[\w.~+/-]{8,}=*|(?<=://)[^\s/@:]*:[^\s/@]*(?=@)"
)
# Secrets that are in no variable: logins taken out of addresses.
_HIDDEN: set[str] = set()


class CrbError(Exception):
    """Any failure of this project that is not a bug; its text is one line for a person."""


class UserError(CrbError):
    """The request cannot be met as it stands: says what, where, and what to do (exit code 2)."""


class RunError(CrbError):
    """A run that was started could not go on: model, budget or export (exit code 1)."""


def one_line(error: BaseException, most: int = 300) -> str:
    """Return what an error says as one short line without secrets.

    Servers quote what they were sent, keys included, and in whatever letters.
    """
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return scrubbed(text).encode("utf-8", "replace").decode()[:most]


def hide(secret: str) -> None:
    """Let a text count as a secret from now on, as long as this process lives."""
    if secret:
        _HIDDEN.add(secret)


def scrubbed(text: str) -> str:
    """Return a text without secrets and without what looks like one."""
    return _SHAPES.sub("***", without_secrets(text, least=4))


def without_secrets(text: str, least: int = LEAST) -> str:
    """Return a text without the secrets of the environment and of addresses, however encoded.

    Hidden texts shorter than `least` characters may be words, and stay.
    """
    named = (os.environ.get(name, "") for name in _names(_variables()))
    secrets = {value for value in named if len(value) >= LEAST}
    secrets |= {value for value in _HIDDEN if len(value) >= least}
    if not secrets:
        return text
    return _written(frozenset(secrets)).sub("***", text)


def suspicious(text: str) -> bool:
    """Say whether a text is a secret or looks like one."""
    return without_secrets(text) == "***" or bool(_SHAPES.search(text))


def _variables() -> frozenset[bytes | str]:
    # Every answer is looked through, and reading a whole environment takes longer than that.
    return frozenset(getattr(os.environ, "_data", os.environ))


@lru_cache(maxsize=8)
def _names(variables: frozenset[bytes | str]) -> tuple[str, ...]:
    """Return the variables that hold secrets, by their names."""
    return tuple(name for name in map(os.fsdecode, variables) if _SECRET.search(name))


@lru_cache(maxsize=8)
def _written(secrets: frozenset[str]) -> re.Pattern[str]:
    """Return what finds secrets in all letters in which they are written."""
    forms = {form for secret in secrets for form in _forms(secret)}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "replace")
    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], html.escape(secret))
    for quoted in (quote(secret, ""), quote(secret), quote_plus(secret)):
        yield from (quoted, quote(quoted, ""))
    if len(data) < LEAST:
        return
    yield from (data.hex(), secret[::-1])
    for before in range(3):
        # Of its first and last letters others are part, wherever it stands in what is encoded.
        whole = base64.b64encode(bytes(before) + data).decode()
        first, last = (0, 2, 3)[before], len(data) + before
        inner = whole[first : last // 3 * 4 + (0, 1, 2)[last % 3]]
        yield from (inner, inner.translate(str.maketrans("+/", "-_")), quote(inner, ""))


def unknown(kind: str, name: str, choices: Sequence[str]) -> str:
    """Say in one line that a name is not among the choices, nearest first."""
    near = _nearest(name, choices)
    hint = f"did you mean '{near}'? " if near else ""
    return f"unknown {kind} '{name}': {hint}choose from {', '.join(choices)}"


def _nearest(name: str, choices: Sequence[str]) -> str:
    """Return the choice that was meant, "" if none is like it; capitals are of no account."""
    plain = {choice.casefold(): choice for choice in reversed(choices)}
    wanted = name.strip().casefold()
    if near := get_close_matches(wanted, plain, n=1, cutoff=0.5):
        return plain[near[0]]
    whole = [choice for key, choice in plain.items() if wanted and key.startswith(wanted)]
    return whole[-1] if whole else ""


def explained(error: ValidationError) -> str:
    """Say in one line what was wrong with a value, and where."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    # Where a variable should be named, some give the key; addresses may hold a password.
    shown = first["type"] != "missing" and not place.endswith(("_key_env", "api_base"))
    given = f" = {first['input']!r}"[:200] if shown else ""
    said = str(first["msg"])
    return f"{place}{given}: {said[:1].lower()}{said[1:]}"
