"""A question that comes first: whether a report has anything of a category at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy

from crb_dspy.data.kind import Kind
from crb_dspy.program.prompt import frame_of
from crb_dspy.program.silence import denies

# Tokens of the answer for each category: its key and one word.
TOKENS = 16


class YesNo(Kind):
    """One item for a yes, none for a no; what is neither leaves it open, as a yes does."""

    about = "yes or no"

    def schema(self, max_tokens: int) -> dict[str, Any]:
        """Return one of two words."""
        return {"type": "string", "enum": ["yes", "no"]}

    def asked(self, keys: Sequence[str]) -> str:
        """Ask for a word under each key."""
        one = f"{keys[0]} is" if len(keys) == 1 else f"each of {', '.join(keys)} is"
        return f"{one} yes if the report says anything of it, else no"

    def read(self, value: object) -> tuple[list[str], str]:
        """Return nothing for a no."""
        return ([] if denies(value) else ["yes"]), ""

    def salvaged(self, text: str) -> object | None:
        """Return a bare answer."""
        return text


def whether(signature: type[dspy.Signature], keys: Sequence[str]) -> type[dspy.Signature]:
    """Return the signature that asks whether a report says anything of some categories.

    The report stands in it as in the question that follows, so that a server computes it once.
    """
    shared = signature.with_updated_fields("report", frame=frame_of(signature))
    fields: dict[str, Any] = {"report": (str, shared.input_fields["report"])}
    for key in keys:
        about = dspy.OutputField(desc=signature.output_fields[key].json_schema_extra["desc"])
        about.json_schema_extra["kind"] = YesNo(key)
        fields[key] = (list[str], about)
    one = fields[keys[0]][1].json_schema_extra["desc"].rstrip(".")
    of = one if len(keys) == 1 else "each category below"
    asked: type[dspy.Signature] = dspy.make_signature(
        fields, f"Does this report say anything of {of}?"
    )
    return asked
