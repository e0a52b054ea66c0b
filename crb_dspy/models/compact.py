"""Answers that begin where they say something and end with it, in the layout that models choose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# How models begin an object by themselves: what is begun otherwise is gone on with otherwise.
_OPENING = "```json\n{\n  "
_SPACE = "space: /[ \\n\\t]*/"


def shortened(body: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a request to the embedded engine that wastes no token, and how its answer is begun.

    Where a JSON schema is asked for that is an object of texts and lists of texts, the answer is
    begun up to the first value, and ends with the last. Within the values the layout stays the
    model's own: forced off it, a model quotes something else. Any other request stays as it is.
    """
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema") or {}
    properties = schema.get("properties") or {}
    if not properties or not all(map(_plain, properties.values())):
        return dict(body), ""
    rest = {name: its for name, its in body.items() if name != "response_format"}
    begun = f"{_OPENING}{_name(next(iter(properties)))}:"
    messages = [*body["messages"], {"role": "assistant", "content": begun}]
    return {**rest, "messages": messages, "grammar": _grammar(properties)}, begun


def completed(text: str, begun: str, *, cut: bool) -> str:
    """Return the whole answer to such a request, whether a server repeats what was begun or not."""
    return f"{{{begun.removeprefix(_OPENING)}{text.removeprefix(begun)}{'' if cut else '}'}"


def _plain(schema: Mapping[str, Any]) -> bool:
    listed = schema.get("type") == "array" and schema.get("items") == {"type": "string"}
    return listed or dict(schema) == {"type": "string"}


def _grammar(properties: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the rules for an object from its first value to its last, for llguidance."""
    names = [f' space "," space {_name(_name(key))} space ":" space' for key in properties]
    values = [f" value_{number}" for number in range(len(names))]
    root = "".join(map("".join, zip([" space", *names[1:]], values, strict=True)))
    rules = [
        f"{its.strip()}: %json {json.dumps(s)}"
        for its, s in zip(values, properties.values(), strict=True)
    ]
    return "\n".join(["%llguidance {}", f"start:{root}", *rules, _SPACE, ""])


def _name(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
