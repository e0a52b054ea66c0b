"""Reading what a model answered: strict JSON where it kept to it, else what can be saved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from crb_dspy.program.candidates import fenced, last, literal, unpacked
from crb_dspy.program.matching import MOST_QUOTES, fits, matched, named, quotes_of

_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"')
# A quote in single ones may have no end: no more than so much of it is looked through.
_SINGLE = re.compile(r"(?<!\w)'((?:[^'\\]|\\.|(?<=\w)'(?=\w)){0,1000})'(?!\w)")
_COLON = re.compile(r"\s*:")
_BULLET = re.compile(r"^[^\S\n]*(?:[-*•–]|\d{1,9}[.)])[^\S\n]+(\S.*)$", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")
# Characters of an answer that are looked at: several times what any answer may have.
MOST = 64_000
_NOTHING = re.compile(
    r"\W*(?:none|null|nil|n/?a|nothing|not (?:mentioned|applicable|reported|available|found|stated)"
    r"|no (?:relevant |such )?(?:findings?|information|mention|quotes?)(?: w(?:as|ere) found)?)\W*",
    re.IGNORECASE,
)


# From what stands under a key to the items of a cell and what was wrong with it.
Reader = Callable[[object], tuple[list[str], str]]


@dataclass(frozen=True)
class Answer:
    """Quotes by category; `irregular` says what was mended, `failed` why nothing could be."""

    findings: dict[str, list[str]] = field(default_factory=dict)
    irregular: dict[str, str] = field(default_factory=dict)
    reasoning: str = ""
    failed: str = ""


def parse(
    text: str,
    keys: Sequence[str],
    *,
    truncated: bool = False,
    titles: Mapping[str, str] | None = None,
    readers: Mapping[str, Reader] = MappingProxyType({}),
) -> Answer:
    """Read an answer that was asked for one list of quotes a category.

    Strict JSON passes as it is. Of several complete answers the last one counts. Mended, and said
    so in `irregular`: code fences, prose around the JSON, Python literals, lists or strings in
    place of the object, keys in other letters or by their `titles`, a wrapper around the object,
    "none" and its like, bullets, quotes cut off by the token limit (complete ones are kept),
    repeated quotes, items that are no texts (left out), categories left out (empty). Failed: an
    empty answer, and text with no list in it. `readers` read what stands under keys that hold
    something else.
    """
    truncated = truncated or len(text) > MOST
    stripped = text[:MOST].strip()
    if not stripped:
        return Answer(failed="empty answer")
    names = named(keys, titles or {})
    value, note = _value(stripped, truncated, names)
    if value is None:
        return Answer(failed=f"no list of quotes in the answer: {stripped[:80]!r}")
    value, read = matched(value, keys, names)
    note = note or read
    findings, irregular = {}, {}
    for key in keys:
        reader = readers.get(key)
        found = value.get(key, _MISSING)
        findings[key], fault = reader(found) if reader else listed(found)
        if fault := "; ".join(filter(None, (note, fault))):
            irregular[key] = fault
    return Answer(findings, irregular, _text(value.get("reasoning") or ""))


_MISSING = object()


def _value(text: str, truncated: bool, names: Mapping[str, str]) -> tuple[object | None, str]:
    """Return the structure in a text and what had to be done to read it."""
    if (value := literal(text)) is not None:
        return value, ""
    if (inside := unpacked(text)) != text:
        return literal(inside), "JSON in a string"
    if _NOTHING.fullmatch(text):
        return [], f"answered {text[:20]!r} in place of a list"
    inner, value = fenced(text)
    if value is not None:
        return value, "JSON in a code fence"
    if (value := last(inner, partial(fits, names=names))) is not None:
        return value, "prose around the JSON"
    if (value := _broken(inner)) is not None:
        return value, "cut off by the token limit" if truncated else "broken JSON"
    if bullets := _BULLET.findall(inner):
        return [bullet.strip().strip("\"'") for bullet in bullets], "bullets in place of JSON"
    return None, ""


def _broken(text: str) -> object | None:
    """Keep the complete strings of JSON that breaks off, by the key they follow."""
    if not re.search(r"[\[{]", text):
        return None
    lists: dict[str, list[str]] = {}
    current = bare = list[str]()
    for match in _strings(text):
        content = _unescape(match.group(1))
        if _COLON.match(text, match.end()):
            current = lists.setdefault(content, [])
        else:
            current.append(content)
    if reasoning := lists.pop("reasoning", None):
        return {"reasoning": " ".join(reasoning), **lists}
    return lists or bare or None


def _strings(text: str) -> Iterator[re.Match[str]]:
    """Yield the complete strings of a text; those in single quotes where there are no others."""
    if '"' not in text:
        yield from _SINGLE.finditer(text)
        return
    at = text.find('"')
    # After one that has no end there is no complete one.
    while at >= 0 and (match := _STRING.match(text, at)):
        yield match
        at = text.find('"', match.end())


def _unescape(content: str) -> str:
    try:
        return str(json.loads(f'"{content}"', strict=False))
    except ValueError:
        return content.replace("\\'", "'")


def listed(value: object) -> tuple[list[str], str]:
    """Return the distinct quotes of a list and what was wrong with it."""
    if value is _MISSING:
        return [], "category left out"
    fault = ""
    if value is None or isinstance(value, str):
        fault = "a string in place of a list" if value else "null"
        inside = literal(value.strip()) if value else None
        value = inside if inside is not None else [value] if value else []
    if isinstance(value, dict):
        fault = "an object in place of a list"
    items, others = quotes_of(value)
    items = [_text(item) for item in items]
    kept = list(dict.fromkeys(item for item in items if not _NOTHING.fullmatch(item)))
    if len(items) > len(set(items)):
        fault = fault or f"repetition: {len(items)} quotes, {len(set(items))} of them distinct"
    elif len(kept) < len(items):
        fault = fault or "'none' in place of an empty list"
    if others:
        shown = ", ".join(repr(_text(other)[:20]) for other in others[:3])
        fault = "; ".join(filter(None, (fault, f"no quotes, left out: {shown}")))
    if len(kept) > MOST_QUOTES:
        fault = f"{len(kept)} quotes, all but the first {MOST_QUOTES} left out"
    return kept[:MOST_QUOTES], fault


def _text(value: object) -> str:
    """Return a value as text that can be written: halves of characters become U+FFFD."""
    return _SURROGATE.sub("\ufffd", value if isinstance(value, str) else _shown(value))


def _shown(value: object) -> str:
    try:
        return str(value)
    except (ValueError, RecursionError):  # a number or a structure that is beyond all bounds
        return ""
