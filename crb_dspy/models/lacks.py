"""What a server can't take: learnt from its refusals, and left out from then on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# By feature, how refusals name it; in the order in which they are tried where none is named.
_NAMED = {
    "schema keywords": r"maxItems|max_items|additionalProperties|\bstrict\b|schema keyword"
    r"|unsupported (?:json )?schema|invalid schema|grammar",
    "response_format": r"response[_ ]?format|json[_ ]?schema|structured[_ ]outputs?|guided"
    r"|responseSchema|output_config|json mode|json_object",
    "temperature": r"temperature",
    "seed": r"\bseed\b",
    "max_tokens": r"max_tokens|max_completion_tokens",
    "logprobs": r"log[_ ]?prob",
    "stream": r"\bstream(?:ing)?\b",
    "system": r"system (?:role|message|prompt|instruction)|\brole\b.{0,40}system"
    r"|system.{0,20}\brole|roles must alternate|developer instruction|only user and assistant",
}
FEATURES = tuple(_NAMED)
# Keywords of a schema that servers are known to refuse; the words of the prompt say as much.
_KEYWORDS = ("maxItems", "minItems", "additionalProperties")


def blamed(said: str) -> list[str]:
    """Return the features that a refusal names, most particular first."""
    return [name for name, form in _NAMED.items() if re.search(form, said, re.IGNORECASE)]


def has(given: Mapping[str, Any], feature: str) -> bool:
    """Say whether the arguments of a call have a feature that could be left out."""
    return without(given, (feature,)) != given


def without(given: Mapping[str, Any], lacking: Iterator[str] | tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of a call without these features, the rest as it was.

    A system prompt goes to the front of the user's message.
    """
    left = dict(given)
    for feature in lacking:
        left = _LEFT_OUT.get(feature, _dropped)(left, feature)
    return left


def _dropped(given: dict[str, Any], feature: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != feature}


def _plain_schema(given: dict[str, Any], _: str) -> dict[str, Any]:
    if (form := given.get("response_format")) is None or "json_schema" not in form:
        return given
    inner = {name: value for name, value in form["json_schema"].items() if name != "strict"}
    return given | {"response_format": {**form, "json_schema": _bare(inner)}}


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _bare(its) for name, its in schema.items() if name not in _KEYWORDS}
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema


def _renamed_limit(given: dict[str, Any], _: str) -> dict[str, Any]:
    if "max_tokens" not in given:
        return given
    left = _dropped(given, "max_tokens")
    return left | {"max_completion_tokens": given["max_tokens"]}


def _untold(given: dict[str, Any], _: str) -> dict[str, Any]:
    return _dropped(_dropped(given, "logprobs"), "top_logprobs")


def _unstreamed(given: dict[str, Any], _: str) -> dict[str, Any]:
    if "stream" not in (given.get("extra_body") or {}):
        return given
    return given | {"extra_body": _dropped(given["extra_body"], "stream")}


def _joined_roles(given: dict[str, Any], _: str) -> dict[str, Any]:
    first, *rest = given["messages"]
    if first["role"] != "system" or not rest:
        return given
    content = rest[0]["content"]
    if isinstance(content, str):
        content = f"{first['content']}\n\n{content}"
    else:
        content = [{"type": "text", "text": f"{first['content']}\n\n"}, *content]
    return given | {"messages": [{**rest[0], "content": content}, *rest[1:]]}


_LEFT_OUT = {
    "schema keywords": _plain_schema,
    "max_tokens": _renamed_limit,
    "logprobs": _untold,
    "stream": _unstreamed,
    "system": _joined_roles,
}


def guesses(unknown: list[str]) -> list[list[str]]:
    """Return what to leave out of a call that was refused in other words, one after another.

    Nothing, since it may pass; each feature alone; all of them.
    """
    return [[], *([name] for name in unknown), unknown]
