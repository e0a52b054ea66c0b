"""Reading what a model answered: strict JSON where it kept to it, else what can be saved."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_FENCE = re.compile(r"```[a-zA-Z]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SINGLE = re.compile(r"(?<!\w)'((?:[^'\\]|\\.|(?<=\w)'(?=\w))*)'(?!\w)")
_OPENING = re.compile(r"\{\s*[\"']|\[\s*[\"'\]]")
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+(.+?)\s*$", re.MULTILINE)
_NOTHING = re.compile(
    r"\W*(?:none|null|nil|n/?a|nothing|not (?:mentioned|applicable|reported|available|found|stated)"
    r"|no (?:relevant |such )?(?:findings?|information|mention|quotes?)(?: w(?:as|ere) found)?)\W*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """Quotes by category; `irregular` says what was mended, `failed` why nothing could be."""

    findings: dict[str, list[str]] = field(default_factory=dict)
    irregular: dict[str, str] = field(default_factory=dict)
    reasoning: str = ""
    failed: str = ""


def parse(text: str, keys: Sequence[str], *, truncated: bool = False) -> Answer:
    """Read an answer that was asked for one list of quotes a category.

    Strict JSON passes as it is. Mended, and said so in `irregular`: code fences, prose around
    the JSON, Python literals, lists or strings in place of the object, "none" and its like,
    bullets, quotes cut off by the token limit (complete ones are kept), repeated quotes,
    categories left out (empty). Failed: an empty answer, and text with no list in it.
    """
    stripped = text.strip()
    if not stripped:
        return Answer(failed="empty answer")
    value, note = _value(stripped, truncated)
    if value is None:
        return Answer(failed=f"no list of quotes in the answer: {stripped[:80]!r}")
    if not isinstance(value, dict):
        value, note = _keyed(value, keys), note or "a bare list in place of an object"
    findings, irregular = {}, {}
    for key in keys:
        findings[key], fault = _quotes(value.get(key, _MISSING))
        if fault := "; ".join(filter(None, (note, fault))):
            irregular[key] = fault
    return Answer(findings, irregular, str(value.get("reasoning") or ""))


_MISSING = object()


def _value(text: str, truncated: bool) -> tuple[object | None, str]:
    """Return the structure in a text and what had to be done to read it."""
    if (value := _literal(text)) is not None:
        return value, ""
    if _NOTHING.fullmatch(text):
        return [], f"answered {text[:20]!r} in place of a list"
    fence = _FENCE.search(text)
    inner = fence.group(1).strip() if fence else text
    if fence and (value := _literal(inner)) is not None:
        return value, "JSON in a code fence"
    if (value := _embedded(inner)) is not None:
        return value, "prose around the JSON"
    if (value := _broken(inner)) is not None:
        return value, "cut off by the token limit" if truncated else "broken JSON"
    if bullets := _BULLET.findall(inner):
        return [bullet.strip("\"'") for bullet in bullets], "bullets in place of JSON"
    return None, ""


def _literal(text: str) -> object | None:
    """Read JSON or a Python literal; None for anything else, bare words and numbers included."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict | list):
            return value
    return None


def _embedded(text: str) -> object | None:
    """Read the object or list that begins at the first bracket of a text, if it is complete."""
    start = _OPENING.search(text)
    if start is None:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return _literal(text[start.start() : max(text.rfind("}"), text.rfind("]")) + 1])
    found: object = value
    return found


def _broken(text: str) -> object | None:
    """Keep the complete strings of JSON that breaks off, by the key they follow."""
    if not re.search(r"[\[{]", text):
        return None
    lists: dict[str, list[str]] = {}
    current = bare = list[str]()
    string = _STRING if '"' in text else _SINGLE
    for match in string.finditer(text):
        content = _unescape(match.group(1))
        if text[match.end() :].lstrip().startswith(":"):
            current = lists.setdefault(content, [])
        else:
            current.append(content)
    if reasoning := lists.pop("reasoning", None):
        return {"reasoning": " ".join(reasoning), **lists}
    return lists or bare or None


def _unescape(content: str) -> str:
    try:
        return str(json.loads(f'"{content}"', strict=False))
    except ValueError:
        return content.replace("\\'", "'")


def _keyed(value: object, keys: Sequence[str]) -> dict[str, object]:
    """Give a bare list to the one category asked for; of several it is nobody's."""
    return {keys[0]: value} if len(keys) == 1 else {}


def _quotes(value: object) -> tuple[list[str], str]:
    """Return the distinct quotes of a list and what was wrong with it."""
    if value is _MISSING:
        return [], "category left out"
    fault = ""
    if value is None or isinstance(value, str):
        value, fault = [value] if value else [], "a string in place of a list" if value else "null"
    if isinstance(value, dict):
        value, fault = list(value.values()), "an object in place of a list"
    items = _texts(value)
    kept = list(dict.fromkeys(item for item in items if not _NOTHING.fullmatch(item)))
    if len(items) > len(set(items)):
        fault = fault or f"repetition: {len(items)} quotes, {len(set(items))} of them distinct"
    elif len(kept) < len(items):
        fault = fault or "'none' in place of an empty list"
    return kept, fault


def _texts(value: object) -> list[str]:
    """Flatten what should be a list of texts."""
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text] if value is not None and (text := str(value).strip()) else []
