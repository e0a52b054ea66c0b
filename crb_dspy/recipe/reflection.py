"""New instructions from a model that is shown mistakes: short, so that small models can do it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Items, Kind, usual
from crb_dspy.data.words import Teaching, taught
from crb_dspy.program import Tunable
from crb_dspy.recipe.contract import Answer

# Mistakes shown at once, and the longest text of each, in characters.
SHOWN = 3
LONGEST = 700


class Improve(dspy.Signature):  # type: ignore[misc]
    """Improve the instruction for a reader who READS.

    You see the instruction in use, what it is about, and mistakes made with it. Write one better
    instruction of one to three sentences that would have prevented the mistakes on any patient's
    report. State general rules (RULES); never mention a patient, a value or a phrase of the
    mistakes.
    """

    instruction: str = dspy.InputField()
    about: str = dspy.InputField()
    mistakes: str = dspy.InputField()
    tip: str = dspy.InputField()
    improved_instruction: str = dspy.OutputField(desc="the new instruction and nothing else")


class Advise(dspy.Signature):  # type: ignore[misc]
    """Find what mistakes in many kinds of findings have in common, and advise against it.

    You see mistakes of a reader who READS, each with the kind of finding. Write one or two
    sentences that every reader should be told. General rules only; never mention a patient, a
    value or a phrase of the mistakes.
    """

    mistakes: str = dspy.InputField()
    advice: str = dspy.OutputField(desc="one or two sentences and nothing else")


@dataclass(frozen=True)
class Mistake:
    """What was wanted, what was found, by category, and why it scored what it did.

    `kinds` say how answers look; those that have none look as the usual kind's.
    """

    gold: Mapping[str, Items]
    found: Mapping[str, Items]
    reason: str
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    @classmethod
    def of(cls, part: Tunable, case: Case, answer: Answer) -> Self:
        """Return what a part should have made of a case, and what it did."""
        gold = {key: (case.gold or {}).get(key, ()) for key in part.keys}
        return cls(gold, answer.quotes or {}, answer.reason, part.kinds)

    def __str__(self) -> str:
        wanted = f"wanted: {self._told(self.gold)}\n" if self.gold else ""
        said = taught_by(self.kinds).said
        return f"{wanted}{said}: {self._told(self.found)}\njudgement: {self.reason[:LONGEST]}"

    def _told(self, items: Mapping[str, Items]) -> str:
        plain = {key: self.kinds.get(key, usual()).plain(own) for key, own in items.items()}
        return json.dumps(plain)[:LONGEST]


def taught_by(kinds: Mapping[str, Kind]) -> Teaching:
    """Return what is told of categories; of none, what is told of the usual kind."""
    return taught([kind.teaching for kind in kinds.values()] or [usual().teaching])


def about(kinds: Mapping[str, Kind]) -> str:
    """Say what an instruction is about: keys, and what stands under them where that is no quote."""
    return ", ".join(k if kind.verbatim else kind.asked([k]) for k, kind in kinds.items())


def proposed(
    lm: Any,
    instruction: str,
    about: str,
    mistakes: Sequence[object],
    tip: str,
    *,
    rollout: int,
    teaching: Teaching,
) -> str:
    """Return a better instruction, "" if the model gave none that can be used."""
    listed = _listed(mistakes) or "none"
    asked = {"instruction": instruction, "about": about, "mistakes": listed, "tip": tip}
    return _asked(lm, _for(Improve, teaching), "improved_instruction", asked, rollout)


def advised(lm: Any, mistakes: Sequence[object], *, rollout: int, teaching: Teaching) -> str:
    """Return general advice from mistakes of many categories, "" if none can be used."""
    asked = {"mistakes": _listed(mistakes)}
    return _asked(lm, _for(Advise, teaching), "advice", asked, rollout)


def _for(signature: type[dspy.Signature], teaching: Teaching) -> type[dspy.Signature]:
    told = signature.instructions.replace("READS", teaching.reader)
    ruled = told.replace("RULES", ", ".join(teaching.rules))
    return signature.with_instructions(ruled)  # type: ignore[no-any-return]


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
