"""Which category an answer's keys mean, and which of its items are quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from crb_dspy.program.candidates import literal

# What answers wrap the object in that they were asked for.
_WRAPPERS = """
    answer answers finding findings quote quotes result results output response data items
    list extraction extractions json phrases categories finalanswer arguments parameters
"""
WRAPPERS = frozenset(_WRAPPERS.split())
# Under which names an object holds a quote, a record its category: the first that is there.
QUOTE = ("quote", "quotes", "text", "span", "finding", "findings", "phrase", "evidence", "value")
CATEGORY = ("category", "key", "label", "type", "system", "class")
# The longest quote, in characters, and the most for one category that are looked at: several times
# what any report has.
LONGEST, MOST_QUOTES = 4_000, 256


def plain(name: object) -> str:
    """Return a key without what answers change about it: case, spaces, marks."""
    return re.sub(r"[\W_]+", "", str(name)).casefold()


def fits(value: object, names: Mapping[str, str]) -> bool:
    """Say whether a structure is an answer for categories, by `named` or in a wrapper."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and fits(item, names) for item in value)
    if not isinstance(value, dict):
        return False
    known = {plain(key) for key in value}
    return not names.keys().isdisjoint(known) or not known.isdisjoint({*CATEGORY[:1], *WRAPPERS})


def named(keys: Sequence[str], titles: Mapping[str, str]) -> dict[str, str]:
    """Return each category's key by the plain forms of key and title."""
    by_title = {plain(title): key for key, title in titles.items() if key in keys}
    return {**by_title, **{plain(key): key for key in keys}}


def matched(
    value: object, keys: Sequence[str], names: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """Return what an answer holds by category, and how its keys had to be read.

    A bare list is the one category's that was asked for; of several it is nobody's.
    """
    if not isinstance(value, dict):
        if (records := _records(value, names)) is not None:
            return records, "a list of records in place of an object"
        if isinstance(value, list) and value and fits(value, names):
            return _merged(value, keys, names), "several objects in place of one"
        return ({keys[0]: value} if len(keys) == 1 else {}), "a bare list in place of an object"
    found, notes = _renamed(value, names)
    if any(key in found for key in keys) or len(value) == 0:
        return found, notes
    # One wrapper around the object, perhaps beside the reasoning.
    inside = [its for key, its in value.items() if plain(key) in WRAPPERS]
    if len(inside) == 1 and isinstance(inside[0], dict | list):
        inner, _ = matched(inside[0], keys, names)
        kept = {"reasoning": value["reasoning"]} if "reasoning" in value else {}
        return {**kept, **inner}, "a wrapper around the object"
    return found, notes


def _renamed(value: Mapping[Any, Any], names: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {}
    notes = []
    for key, its in value.items():
        meant = names.get(plain(key), str(key))
        if meant != key:
            if meant in value:
                continue
            notes.append(f"'{str(key)[:40]}' in place of '{meant}'")
        found[meant] = its
    return found, "; ".join(notes)


def _merged(
    value: Sequence[Mapping[Any, Any]], keys: Sequence[str], names: Mapping[str, str]
) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for item in value:
        for key, its in matched(item, keys, names)[0].items():
            whole[key] = [whole[key], its] if key in whole else its
    return whole


def _records(value: object, names: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the quotes of a list of objects that each name their category, None for another."""
    if not isinstance(value, list) or not value:
        return None
    whole: dict[str, Any] = {}
    for item in value:
        own = {plain(key): its for key, its in item.items()} if isinstance(item, dict) else {}
        stated = next((own[name] for name in CATEGORY if name in own), None)
        if stated is None or (key := names.get(plain(stated))) is None:
            return None
        whole.setdefault(key, []).append(item)
    return whole


def quotes_of(value: object) -> tuple[list[str], list[str]]:
    """Return the texts of what should be a list of quotes, however deep, and what is none.

    Of an object, the quote is what stands under a name that says so, else all its texts.
    """
    texts: list[str] = []
    others: list[str] = []
    left: list[object] = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            item = _of_object(item)
        if isinstance(item, list | tuple):
            left += reversed(item)
        elif isinstance(item, str):
            text = item.strip()
            if text[:1] == "{" and _says_quote(inside := literal(text)):
                left.append(inside)
                continue
            (texts if len(text) <= LONGEST else others).append(text)
        elif item is not None:
            others.append(_told(item))
    return list(filter(None, texts)), others


def _says_quote(value: object) -> bool:
    return isinstance(value, dict) and not {plain(key) for key in value}.isdisjoint(QUOTE)


def _of_object(item: Mapping[Any, Any]) -> object:
    own = {plain(key): value for key, value in item.items()}
    for name in QUOTE:
        if isinstance(own.get(name), str | list):
            return own[name]
    # What is said about a quote is no quote.
    return [value for value in item.values() if isinstance(value, str | list | dict)] or [
        value for value in item.values() if value is not None
    ]


def _told(item: object) -> str:
    try:
        return str(item)
    except (ValueError, RecursionError):  # a number that is beyond all bounds
        return "a number beyond all bounds"
