"""The DSPy signatures of a part: one that asks, one that looks again at what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy

from crb_dspy.data.kind import usual
from crb_dspy.data.schema import Category


def signature_for(categories: Sequence[Category], *, cot: bool = False) -> type[dspy.Signature]:
    """Return the signature that asks one report for what some categories hold."""
    one = len(categories) == 1
    holds = {category.key: category.holds for category in categories}
    together = "Quote every finding of the report in the categories below."
    if not all(kind.verbatim for kind in holds.values()):
        together = "Answer from the report what is asked for below."
    instruction = categories[0].instruction if one else together
    fields: dict[str, Any] = {"report": (str, dspy.InputField())}
    if cot:
        fields["reasoning"] = (str, dspy.OutputField(desc="steps towards the quotes"))
    for category in categories:
        kind = holds[category.key]
        described = dspy.OutputField(desc=f"{category.title}: {category.guidance}")
        if type(kind) is not type(usual()):
            described.json_schema_extra["kind"] = kind
        fields[category.key] = (kind.annotation, described)
    signature: type[dspy.Signature] = dspy.make_signature(fields, instruction)
    return signature


def pruning(signature: type[dspy.Signature], key: str) -> type[dspy.Signature]:
    """Return the signature that asks which quotes of an earlier answer belong to a category."""
    field = signature.output_fields[key]
    described = dspy.OutputField(desc=field.json_schema_extra["desc"])
    fields: dict[str, Any] = {
        "report": (str, dspy.InputField()),
        "found": (list[str], dspy.InputField()),
        key: (list[str], described),
    }
    asked: type[dspy.Signature] = dspy.make_signature(
        fields,
        f"An earlier reader was told: {signature.instructions} Of what that reader quoted, copy "
        f"again what truly belongs to {described.json_schema_extra['desc']}. Leave out the rest; "
        "add nothing.",
    )
    return asked
