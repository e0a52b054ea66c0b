"""Extraction programs: which parts ask a report for which categories."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import dspy

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema
from crb_dspy.data.words import framed
from crb_dspy.program.parts import Part, attempt
from crb_dspy.retrieval.support import Learnt, Support


class ExtractionProgram(dspy.Module):  # type: ignore[misc]
    """A strategy: which parts ask for which categories. Subclasses say it in `build`.

    `forward(case)` returns a Prediction with a list of items for every category key of the
    schema, and `findings`: the same with offsets in `case.text` and a status for each quote. A
    part that fails leaves its categories empty and is named in `errors`. Quotes that are not in
    the report are kept and marked, or dropped if `keep_ungrounded` is false.
    """

    def __init__(self, schema: Schema, *, keep_ungrounded: bool = True, **options: Any) -> None:
        super().__init__()
        self.keys, self.kinds = schema.keys, schema.kinds
        self.names = []
        alike = framed([kind.frame for kind in self.kinds.values()])
        for name, part in self.build(schema, **options).items():
            part.keep_ungrounded = keep_ungrounded
            if alike is not framed([kind.frame for kind in part.kinds.values()]):
                part = part.framed(alike)
            # As attributes, since names like `parts['GI']` are refused by MLflow.
            setattr(self, name, part)
            self.names.append(name)

    def build(self, schema: Schema, *_: Any, **options: Any) -> Mapping[str, Part]:
        """Return the parts by name; together they answer for every category.

        Keyword-only parameters of a subclass are its options.
        """
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order in which they are asked."""
        return {name: getattr(self, name) for name in self.names}

    @property
    def few_shot(self) -> bool:
        """Whether a part shows demonstrations: its own, or those nearest to the report."""
        parts = self.parts.values()
        return any(p.predict.demos or (p.support and p.support.use.showing) for p in parts)

    @property
    def units(self) -> dict[str, Part]:
        """What a recipe that tunes the whole program at once can tune: the parts."""
        return self.parts

    def with_units(self, units: Mapping[str, Part]) -> Self:
        """Return a copy with these parts."""
        return self.with_parts(units)

    def with_parts(self, parts: Mapping[str, Part]) -> Self:
        """Return a copy in which the named parts are replaced."""
        tuned = copy.deepcopy(self)
        for name, part in parts.items():
            setattr(tuned, name, part)
        return tuned

    @property
    def learns(self) -> bool:
        """Whether some part wants a sentence classifier from the start."""
        return any(part.use for part in self.parts.values())

    def taught(self, learnt: Learnt) -> Self:
        """Return a copy whose parts have the classifiers that they want."""
        return self.with_parts(
            {
                name: part.with_support(Support(learnt, part.use))
                for name, part in self.parts.items()
                if part.use
            }
        )

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask every part, one after another.

        TypeError for what is no case, ValueError where DSPy has no model to ask: neither is a
        failure of a model, which would be an error in the prediction.
        """
        if not isinstance(case, Case):
            raise TypeError(f"a Case is wanted, not {type(case).__name__}; load() takes texts too")
        readings = {name: attempt(part, case) for name, part in self.parts.items()}
        asked = dspy.settings.lm or all(part.predict.lm for part in self.parts.values())
        if not asked and all(reading.error for reading in readings.values()):
            raise ValueError("no model: dspy.configure(lm=...), or take crb_dspy.load(...)")
        quotes: dict[str, Sequence[str]] = dict.fromkeys(self.keys, ())
        irregular: dict[str, str] = {}
        for reading in readings.values():
            quotes.update(reading.quotes)
            irregular.update(reading.irregular)
        errors = {name: reading.error for name, reading in readings.items() if reading.error}
        kinds = self.kinds
        findings = {key: kinds[key].placed(case.text, found) for key, found in quotes.items()}
        return dspy.Prediction(**quotes, findings=findings, irregular=irregular, errors=errors)


def with_support(part: Tunable, support: Support) -> Tunable:
    """Return a part or program whose every unit has this classifier beside the model.

    What a unit's own classifier shows the model stays: the same is asked.
    """
    units: Mapping[str, Part] = part.units
    return part.with_units(
        {name: unit.with_support(support.over(unit.support)) for name, unit in units.items()}
    )


# What a recipe tunes: a part on its own, or jointly a whole program.
Tunable = Part | ExtractionProgram
