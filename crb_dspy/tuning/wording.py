"""A small library of wordings: choices a person would try, none of which needs a model."""

from __future__ import annotations

from collections.abc import Mapping

from crb_dspy.program import Part

# Each choice adds a sentence to the instruction; "" adds none. Gold of one data set is whole
# clauses, that of another single terms: which fits is what the search is to find out.
LENGTH = {
    "": "",
    "term": "Quote only the shortest term, one to four words, never a whole sentence.",
    "phrase": "Quote the whole phrase of each finding, with its values and qualifiers.",
    "one": "Each quote is one finding: split lists of findings into single quotes.",
}
NEGATION = {
    "": "",
    "counts": "Findings said to be absent or normal count too: quote them with their negation.",
    "never": "Leave out what is said to be absent, negative or normal.",
}
CARE = {
    "": "",
    "complete": "Go through the report from beginning to end and leave out no such finding.",
    "certain": "Quote only what clearly belongs here; when in doubt, leave it out.",
    "once": "Quote nothing twice.",
}
CHOICES: Mapping[str, Mapping[str, str]] = {"length": LENGTH, "negation": NEGATION, "care": CARE}


def definition(part: Part) -> str:
    """Return a sentence with the definition of a part's category, "" if it asks for several."""
    if len(part.keys) > 1:
        return ""
    described = part.predict.signature.output_fields[part.keys[0]].json_schema_extra["desc"]
    return f"What belongs here: {described.partition(': ')[2]}."


def worded(part: Part, chosen: Mapping[str, str], *, defined: bool = False) -> str:
    """Return a part's instruction with the sentences of the chosen wordings after it."""
    sentences = [CHOICES[name][choice] for name, choice in chosen.items()]
    return " ".join(filter(None, [part.instruction, definition(part) * defined, *sentences]))
