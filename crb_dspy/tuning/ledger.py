"""The record of a search: every candidate with its prompt, its scores, and what it cost."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.files import fingerprint
from crb_dspy.program import Tunable
from crb_dspy.scoring.halves import EVEN, Halves, Weights, total
from crb_dspy.tuning.weight import sent

# A row of `candidates.jsonl`.
Record = dict[str, object]


@dataclass
class Candidate:
    """A wording of a part: its name, whence it came, halves by case, calls and tokens."""

    part: Tunable
    name: str
    parent: str = ""
    scores: dict[str, Halves] = field(default_factory=dict)
    calls: int = 0
    tokens: int = 0


class Ledger:
    """Candidates of one part, the seed first; `weights` make one number of their halves."""

    def __init__(
        self, name: str, seed: Tunable, validation: Iterable[Case], weights: Weights = EVEN
    ) -> None:
        self.name, self.weights = name, weights
        self._cases = tuple(validation)
        self._validation = [case.id for case in self._cases]
        self._lock = threading.Lock()
        self._candidates = {identity(seed): Candidate(seed, "seed")}

    def note(self, name: str, part: Tunable, parent: str = "") -> str:
        """Name a candidate, and what it was made from; return its name: the first one stays."""
        with self._lock:
            candidate = self._of(part)
            if not candidate.name:
                candidate.name, candidate.parent = name, parent
                # Cases may be scored before a name is given: names, not chance, make the order.
                key = identity(part)
                self._candidates[key] = self._candidates.pop(key)
            return candidate.name

    def saw(self, part: Tunable, case: str, score: Halves) -> None:
        """Enter what a candidate scored on a case."""
        with self._lock:
            self._of(part).scores[case] = score

    def spent(self, part: Tunable, calls: int, tokens: int) -> None:
        """Enter what a candidate's answers cost."""
        with self._lock:
            candidate = self._of(part)
            candidate.calls += calls
            candidate.tokens += tokens

    def score(self, part: Tunable) -> float | None:
        """Return a candidate's mean score, None until it has met every validation case."""
        with self._lock:
            return self._mean(self._of(part))

    def best(self) -> Tunable:
        """Return the candidate that scored best on all validation cases, the earliest of equals."""
        with self._lock:
            known = [(self._mean(c), c.part) for c in self._candidates.values()]
            first = next(iter(self._candidates.values())).part
        scored = [(score, part) for score, part in known if score is not None]
        return max(scored, key=lambda pair: pair[0])[1] if scored else first

    def rows(self) -> list[Record]:
        """Return a row for each candidate: those with a name in their order, then the others.

        DSPy's optimizers try several at once, so that which came first is chance.
        """
        with self._lock:
            known = self._candidates
            order = [name for name in known if known[name].name]
            order += sorted(set(known) - set(order))
            return [self._row(n, known[name]) for n, name in enumerate(order)]

    def candidates(self) -> list[Candidate]:
        """Return the candidates that have a name, in their order, the seed first.

        Scores are sorted by case: threads end in any order, and a sum's last digit follows it.
        """
        with self._lock:
            return [
                replace(c, scores=dict(sorted(c.scores.items())))
                for c in self._candidates.values()
                if c.name
            ]

    @property
    def judges(self) -> bool:
        """Whether there are validation cases for candidates to meet."""
        return bool(self._validation)

    @property
    def tried(self) -> int:
        """How many candidates there were up to now, the seed included."""
        return len(self._candidates)

    def _of(self, part: Tunable) -> Candidate:
        return self._candidates.setdefault(identity(part), Candidate(part, ""))

    def _mean(self, candidate: Candidate) -> float | None:
        halves = self._whole(candidate)
        return None if halves is None else self.weights.mean(halves)

    def _whole(self, candidate: Candidate) -> Halves | None:
        if not self._validation or any(case not in candidate.scores for case in self._validation):
            return None
        return total(candidate.scores[case] for case in self._validation)

    def _row(self, number: int, candidate: Candidate) -> Record:
        halves = self._whole(candidate)
        return {
            "part": self.name,
            "number": number,
            "candidate": candidate.name or f"candidate {number}",
            "parent": candidate.parent,
            "validation": None if halves is None else _known(halves.score),
            "nonempty_f1": None if halves is None else _known(halves.nonempty_f1),
            "empty_agreement": None if halves is None else _known(halves.empty_agreement),
            "cases": len(candidate.scores),
            "calls": candidate.calls,
            "tokens": candidate.tokens,
            "sent": round(sent(candidate.part, self._cases), 1),
            "classifier": supported(candidate.part),
            "by_case": {c: _known(own.score) for c, own in sorted(candidate.scores.items())},
            "prompt": prompts(candidate.part),
        }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def prompts(part: Tunable) -> list[Record]:
    """Return what a recipe can change of a part: instruction and demonstrations by predictor."""
    return [
        {
            "predictor": f"{name}/{label}".strip("/"),
            "instruction": str(predictor.signature.instructions),
            # DSPy's optimizers leave bare examples here too, which no prompt shows.
            "demonstrations": [_plain(demo) for demo in predictor.demos if demo.get("report")],
        }
        for name, unit in part.units.items()
        for label, predictor in unit.named_predictors()
    ]


def supported(part: Tunable) -> list[Record]:
    """Return how the units of a part use a classifier; nothing where none does."""
    used = ((name, unit.support) for name, unit in part.units.items())
    return [{"unit": name, **support.plain()} for name, support in used if support]


def _plain(demo: Mapping[str, Any]) -> Record:
    return {key: value for key, value in demo.items() if isinstance(value, str | list)}


def identity(part: Tunable) -> str:
    """Return 12 hex digits that change with anything a recipe can change."""
    return fingerprint(prompts(part), *supported(part))


def series(rows: Sequence[Record]) -> list[float]:
    """Return the best validation score after each candidate that has one."""
    best: list[float] = []
    for row in rows:
        if isinstance(score := row["validation"], float):
            best.append(max(score, best[-1]) if best else score)
    return best
