"""Reading an answer by the kinds of its categories."""

from __future__ import annotations

from collections.abc import Mapping

from crb_dspy.data.kind import Kind
from crb_dspy.program.answers import Answer, Reader, parse

# What `parse` says of answers of which it could keep texts only.
_CUT, _BROKEN = "cut off by the token limit", "broken JSON"
_BARE = "a bare text in place of JSON"


def read(
    text: str,
    kinds: Mapping[str, Kind],
    *,
    truncated: bool = False,
    titles: Mapping[str, str] | None = None,
) -> Answer:
    """Read an answer that was asked for what these categories hold; see `answers.parse`."""
    own = {key: kind for key, kind in kinds.items() if not kind.verbatim}
    readers = {key: _reader(kind) for key, kind in own.items()}
    answer = parse(text, list(kinds), truncated=truncated, titles=titles, readers=readers)
    if not own or not text.strip():
        return answer
    bare = len(kinds) == 1 and not any(mark in text for mark in "{[")
    said = _BARE if bare else _CUT if truncated else _BROKEN
    found = {}
    for key, kind in own.items():
        broken = answer.failed or answer.irregular.get(key, "").startswith((_CUT, _BROKEN))
        if bare or broken:
            value = kind.salvaged(text)
            if value is not None:
                found[key] = kind.read(value)[0]
    if not found:
        return answer
    left: dict[str, list[str]] = {key: [] for key in kinds}
    missing = {key: "category left out" for key in kinds if answer.failed}
    return Answer(
        {**left, **answer.findings, **found},
        {**missing, **answer.irregular, **dict.fromkeys(found, said)},
        answer.reasoning,
    )


def _reader(kind: Kind) -> Reader:
    def reading(value: object) -> tuple[list[str], str]:
        # What is left out is neither.
        known = isinstance(value, str | int | float | list | tuple | dict)
        return kind.read(value if known else None)

    return reading
