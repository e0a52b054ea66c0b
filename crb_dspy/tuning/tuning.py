"""What is tuned, by which recipe, under which rules: all that a search is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crb_dspy import recipe
from crb_dspy.data.splits import Sides
from crb_dspy.evaluation.rows import DEFAULT
from crb_dspy.program import ExtractionProgram, Tunable
from crb_dspy.scoring.objectives import Objective

# Candidates and cases of the headroom test, and how many times dearer the search must be.
PROBES, PROBED, DEARER = 3, 6, 4


@dataclass(frozen=True)
class Tuning:
    """A program, a recipe with its options, and how parts are searched and gated.

    `expected`: a part takes the candidate that is expected to score best, by all that the
    search saw; else fresh cases must show that it is better, `gate` being the one-sided chance
    of being wrong. `joint`: the program is searched as a whole.
    `shared`: one reflection over all parts advises each. `force`: parts without headroom are
    searched too.
    """

    program: ExtractionProgram
    recipe: recipe.Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
    gate: float = 0.1
    seed: int = 0
    threads: int = 1
    joint: bool = False
    shared: bool = False
    force: bool = False
    expected: bool = True
    objective: Objective = DEFAULT

    @property
    def seeds(self) -> dict[str, Tunable]:
        """What is searched, by name: each part on its own, or the whole program."""
        return {"program": self.program} if self.joint else dict(self.program.parts)

    def assembled(self, kept: Mapping[str, Any]) -> ExtractionProgram:
        """Return the program with the tuned parts that are kept."""
        if self.joint:
            whole: ExtractionProgram = kept.get("program", self.program)
            return whole
        return self.program.with_parts(kept)

    @property
    def supported(self) -> bool:
        """Whether the recipe tries a sentence classifier beside the model."""
        return recipe.supported(self.recipe) and not self.joint

    def calls(self, sides: Sides) -> int | None:
        """Return what the recipe asks for one part at most, None where it states nothing."""
        return recipe.calls(self.recipe, len(sides.train), len(sides.choose), self.options)

    def reflections(self, sides: Sides) -> int:
        """Return what the recipe asks of the reflection model for one part."""
        return recipe.reflections(self.recipe, len(sides.train), len(sides.choose), self.options)

    def probes(self, sides: Sides) -> int:
        """Return the calls of the headroom test, 0 where the search is not dear enough for one."""
        one = self.calls(sides)
        # The seed too, though its answers are known by then.
        test = (PROBES + 1) * min(PROBED, len(sides.choose))
        if self.force or one is None or one < DEARER * test:
            return 0
        return test * len(self.program.parts)
