"""What a response holds beside its fields: the answer's text, and what was noted of the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy.lm15 import Response


def marks_of(response: Response) -> Mapping[str, str]:
    """Return what `models/wire.py` notes of a reply: `note`, where its text stood; `failed`."""
    marks: Mapping[str, str] = (response.provider_data or {}).get("crb_dspy") or {}
    return marks


def text_of(response: Response) -> str:
    """Return the text of an answer, "" if it has none."""
    return response.message.text or ""
