"""What a recipe may use: answers on cases, chance, and the record of its candidates."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind
from crb_dspy.program import Tunable
from crb_dspy.recipe import reflection
from crb_dspy.recipe.bridge import student
from crb_dspy.recipe.contract import Answer
from crb_dspy.recipe.sampling import portions
from crb_dspy.retrieval.support import Support
from crb_dspy.scoring.halves import EVEN, Halves, Weights, total

# An instruction from a model may be this many times as long as the one it replaces, or 600.
LONGER = 4

Answers = Callable[[Tunable, Sequence[Case]], list[Answer]]
Scores = Callable[[Tunable, Sequence[Case]], dict[str, Halves]]
# How much the first half of the score may count, of 1.
BALANCES = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True)
class Context:
    """What a recipe may use: answers on cases, chance that can be repeated, and the record.

    `answers(part, cases)` asks a part about cases, in order. `note(name, part, parent)` gives a
    candidate its name in the record, unless it has one, and returns it. `share` is this part's
    share of the search, 1 being what the options say. `guidance` is what one reflection over all
    parts advises, "" if it was not asked for. `reflection` is the model that writes instructions,
    None for the task model. `weights` are what cells with and without gold count in a score.
    `student(part)` wraps a part for DSPy's own optimizers and `metric` scores its predictions: a
    plain float, with feedback only where GEPA names a predictor (a `dspy.Prediction` of score 0
    counts as true).
    """

    answers: Answers
    random: random.Random
    note: Callable[[str, Tunable, str], str]
    share: float = 1.0
    guidance: str = ""
    threads: int = 1
    reflection: Any = None
    student: Callable[[Tunable], dspy.Module] = student
    metric: Callable[..., Any] = lambda *_: 0.0
    weights: Weights = EVEN
    # Ways of using a sentence classifier that cost no call, by name.
    supports: Mapping[str, Support] = field(default_factory=dict)
    # Halves by case id, each part asked once about a case; made of `answers` unless it is given.
    scores: Scores = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.scores is None:
            object.__setattr__(self, "scores", recalled(self.answers))

    def score(self, part: Tunable, cases: Sequence[Case]) -> float:
        """Return the mean score of a part over cases, by the weights of the search."""
        return self.weights.mean(total(answer.sums for answer in self.answers(part, cases)))

    def trial(
        self,
        name: str,
        part: Tunable,
        cases: Sequence[Case],
        parent: str = "",
        rival: Tunable | None = None,
    ) -> float:
        """Return the mean score of a candidate over validation cases, and put it on record.

        Given a `rival`, the best so far, the candidate meets a sixth of the cases at a time, and
        no more of them once it is behind by more than a standard error, whatever the two halves
        of the score may weigh.
        """
        self.note(name, part, parent)
        if rival is not None:
            theirs, gains = self.scores(rival, cases), list[Halves]()
            for some in portions(cases, part.keys):
                mine = self.scores(part, some)
                gains += [mine[case.id] - theirs[case.id] for case in some]
                if len(gains) < len(cases) and behind(gains, total(theirs.values())):
                    # Comparable with others: the cases that it met may be easier than all.
                    gain = self.weights.mean(total(gains))
                    return max(0.0, self.weights.mean(total(theirs.values())) + gain)
        return self.weights.mean(total(self.scores(part, cases).values()))

    def rounds(self, options: int) -> int:
        """Return how many candidates this part gets where the options say `options`, at least 1.

        Rounded down, so that all parts together stay within the estimate.
        """
        return max(1, int(options * self.share + 1e-9))

    def mistakes(self, part: Tunable, cases: Sequence[Case]) -> list[tuple[Case, Answer]]:
        """Return the cases on which a part scores less than 1, worst first, in a random order."""
        pairs = list(zip(cases, self.answers(part, cases), strict=True))
        wrong = [(case, answer) for case, answer in pairs if answer.score < 1]
        self.random.shuffle(wrong)
        return sorted(wrong, key=lambda pair: pair[1].score)

    def proposal(
        self,
        instruction: str,
        about: str | Mapping[str, Kind],
        mistakes: Sequence[object],
        tip: str,
    ) -> str:
        """Return a new instruction from the reflection model; the old one if nothing usable came.

        `about` are the kinds of the categories by key (`part.kinds`), or words. Each is asked with
        a `rollout_id` of its own, so that equal questions may have different answers, and a
        repeated run the same ones.
        """
        kinds = {} if isinstance(about, str) else about
        text = reflection.proposed(
            self.reflection,
            instruction,
            about if isinstance(about, str) else reflection.about(kinds),
            mistakes,
            tip,
            rollout=self.random.getrandbits(30),
            teaching=reflection.taught_by(kinds),
        )
        return text if 0 < len(text) <= max(600, LONGER * len(instruction)) else instruction


def recalled(answers: Answers) -> Scores:
    """Return scores by case of what `answers` gives, each part asked about a case once."""
    met: dict[Tunable, dict[str, Halves]] = {}

    def scores(part: Tunable, cases: Sequence[Case]) -> dict[str, Halves]:
        known = met.setdefault(part, {})
        if new := [case for case in cases if case.id not in known]:
            found = zip(new, answers(part, new), strict=True)
            known |= {case.id: answer.sums for case, answer in found}
        return {case.id: known[case.id] for case in cases}

    return scores


def behind(gains: Sequence[Halves], whole: Halves) -> bool:
    """Say whether a candidate is behind by more than a standard error at every weight.

    `gains` are what it scored more than another on some cases, `whole` all cells there are: of a
    half that it has not met yet nothing is known, and so it is not behind.
    """
    met = total(gains)
    if (whole.n_filled and not met.n_filled) or (whole.n_empty and not met.n_empty):
        return False
    weighed = (Weights.balanced(balance, met) for balance in BALANCES)
    values = (weights.by_case(gains) for weights in weighed)
    return all(statistics.fmean(own) + _error(own) < 0 for own in values)


def _error(values: Sequence[float]) -> float:
    """Return the standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values))
