"""The structures in an answer's text: of several that are complete, the last one is meant."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

_FENCE = re.compile(r"```[a-zA-Z]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_OPENING = re.compile(r"\{\s*[\"'}]|\[\s*[\"'\]{]")
# Beginnings that lead nowhere after which no more are tried: each may be read to the end.
VAIN = 40


def literal(text: str) -> object | None:
    """Read JSON or a Python literal; None for anything else, bare words and numbers included."""
    for reading in (json.loads, ast.literal_eval):
        try:
            value = reading(text)
        # A set of lists is a TypeError.
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict | list):
            return value
    return None


def unpacked(text: str) -> str:
    """Return the text of a JSON string that holds JSON, else the text."""
    if text[:1] == text[-1:] == '"':
        with suppress(ValueError, RecursionError):
            inner = json.loads(text)
            if isinstance(inner, str) and literal(inner) is not None:
                return inner
    return text


def fenced(text: str) -> tuple[str, object | None]:
    """Return the inside of the last code fence that can be read, and what it holds.

    The inside of the first fence and None if none can, the text itself if there is no fence.
    """
    inner = [match.group(1).strip() for match in _FENCE.finditer(text)]
    for content in reversed(inner):
        if (value := literal(content)) is not None:
            return content, value
    return (inner[0] if inner else text), None


def last(text: str, fits: Callable[[object], bool]) -> object | None:
    """Return the last complete structure of a text that fits, else the last one; None without."""
    found = list(_complete(text))
    fitting = [value for value in found if fits(value)]
    if fitting or found:
        return (fitting or found)[-1]
    if start := _OPENING.search(text):
        return literal(text[start.start() : max(text.rfind("}"), text.rfind("]")) + 1])
    return None


def _complete(text: str) -> Iterator[object]:
    """Yield what is complete, outermost; after a damaged beginning, objects alone.

    A list in there would be a part of what is damaged. What breaks off ends it.
    """
    decoder, at, vain = json.JSONDecoder(), 0, 0
    while vain < VAIN and (start := _OPENING.search(text, at)):
        try:
            value, at = decoder.raw_decode(text, start.start())
        except RecursionError:
            return
        except ValueError as error:
            # A number of thousands of digits is no JSONDecodeError.
            if isinstance(error, json.JSONDecodeError) and (
                error.pos >= len(text) or error.msg.startswith("Unterminated")
            ):
                return
            at, vain = start.start() + 1, vain + 1
            continue
        if not vain or isinstance(value, dict):
            yield value
