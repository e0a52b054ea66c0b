"""New instructions from a model that is shown mistakes: short, so that small models can do it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

# Mistakes shown at once, and the longest text of each, in characters.
SHOWN = 3
LONGEST = 700


class Improve(dspy.Signature):  # type: ignore[misc]
    """Improve the instruction for a reader who copies findings from clinical case reports.

    You see the instruction in use, what it is about, and mistakes made with it. Write one better
    instruction of one to three sentences that would have prevented the mistakes on any patient's
    report. State general rules (what belongs, what does not, how long a quote is, whether absent
    findings count); never mention a patient, a value or a phrase of the mistakes.
    """

    instruction: str = dspy.InputField()
    about: str = dspy.InputField()
    mistakes: str = dspy.InputField()
    tip: str = dspy.InputField()
    improved_instruction: str = dspy.OutputField(desc="the new instruction and nothing else")


class Advise(dspy.Signature):  # type: ignore[misc]
    """Find what mistakes in many kinds of findings have in common, and advise against it.

    You see mistakes of readers who copied findings from clinical case reports, each with the kind
    of finding. Write one or two sentences that every reader should be told. General rules only;
    never mention a patient, a value or a phrase of the mistakes.
    """

    mistakes: str = dspy.InputField()
    advice: str = dspy.OutputField(desc="one or two sentences and nothing else")


@dataclass(frozen=True)
class Mistake:
    """What was wanted, what was found, by category, and why it scored what it did."""

    gold: Mapping[str, Sequence[str]]
    found: Mapping[str, Sequence[str]]
    reason: str

    def __str__(self) -> str:
        gold, found = json.dumps(self.gold), json.dumps(self.found)
        return (
            f"wanted: {gold[:LONGEST]}\nquoted: {found[:LONGEST]}\n"
            f"judgement: {self.reason[:LONGEST]}"
        )


def proposed(
    lm: Any, instruction: str, about: str, mistakes: Sequence[object], tip: str, *, rollout: int
) -> str:
    """Return a better instruction, "" if the model gave none that can be used."""
    listed = _listed(mistakes) or "none"
    asked = {"instruction": instruction, "about": about, "mistakes": listed, "tip": tip}
    return _asked(lm, Improve, "improved_instruction", asked, rollout)


def advised(lm: Any, mistakes: Sequence[object], *, rollout: int) -> str:
    """Return general advice from mistakes of many categories, "" if none can be used."""
    return _asked(lm, Advise, "advice", {"mistakes": _listed(mistakes)}, rollout)


def _asked(
    lm: Any, signature: type[dspy.Signature], field: str, inputs: Mapping[str, str], rollout: int
) -> str:
    config = {"temperature": 1.0, "rollout_id": rollout, "max_tokens": 300}
    try:
        with dspy.context(lm=lm or dspy.settings.lm):
            text = dspy.Predict(signature)(**inputs, config=config)[field]
    # A weak model may not keep to the form or have no room, and a proposal less is no harm.
    except (AdapterParseError, LMError, ValueError, TypeError):
        return ""
    return _clean(str(text or ""))


def _clean(text: str) -> str:
    """Return one line without the marks that models put around an instruction."""
    bare = re.sub(r"^\W*(improved[ _])?instruction\W*:", "", text.strip(), flags=re.I)
    return " ".join(bare.split()).strip(" \"'`*")


def _listed(mistakes: Sequence[object]) -> str:
    return "\n\n".join(f"{n}.\n{mistake}" for n, mistake in enumerate(mistakes, 1))
