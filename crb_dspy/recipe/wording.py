"""A small library of wordings: choices a person would try, none of which needs a model.

Each kind of category has its own: gold of one data set is whole clauses, that of another single
terms, and what suits quotes is no advice for a date.
"""

from __future__ import annotations

from collections.abc import Mapping

from crb_dspy.data.kind import usual
from crb_dspy.program import Part

# Each choice adds a sentence to the instruction; "" adds none.
CHOICES: Mapping[str, Mapping[str, str]] = usual().wordings


def choices_of(part: Part) -> dict[str, dict[str, str]]:
    """Return the wordings that the kinds of a part know, by what they are about."""
    found: dict[str, dict[str, str]] = {}
    for kind in part.kinds.values():
        for name, texts in kind.wordings.items():
            known = found.setdefault(name, {})
            for choice, text in texts.items():
                told = known.setdefault(choice, "")
                if text not in told:
                    known[choice] = f"{told} {text}".strip()
    return found


def definition(part: Part) -> str:
    """Return a sentence with the definition of a part's category, "" if it asks for several."""
    if len(part.keys) > 1:
        return ""
    described = part.predict.signature.output_fields[part.keys[0]].json_schema_extra["desc"]
    return f"What belongs here: {described.partition(': ')[2]}."


def worded(part: Part, chosen: Mapping[str, str], *, defined: bool = False) -> str:
    """Return a part's instruction with the sentences of the chosen wordings after it.

    What its kinds have no sentence for adds none.
    """
    known = choices_of(part)
    sentences = [known.get(name, {}).get(choice, "") for name, choice in chosen.items()]
    return " ".join(filter(None, [part.instruction, definition(part) * defined, *sentences]))
