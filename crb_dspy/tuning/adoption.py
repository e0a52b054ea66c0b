"""Which parts are adopted after a search: by what is expected of them, or by what was shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from crb_dspy.data.cases import Case
from crb_dspy.program import Tunable
from crb_dspy.scoring.halves import Halves
from crb_dspy.tuning import gate
from crb_dspy.tuning.choice import Choice, Option, Pick, chosen, options_of
from crb_dspy.tuning.gate import Verdict
from crb_dspy.tuning.headroom import Headroom
from crb_dspy.tuning.ledger import Ledger, identity

# A part by name, and what went wrong with its search.
Found = dict[str, tuple[Tunable, str]]
Seeds = Mapping[str, Sequence[Halves]]
Worth = Callable[[Mapping[str, Tunable], Sequence[Case]], dict[str, list[float]]]


@dataclass(frozen=True)
class Searched:
    """What a search came to: seeds, what each recipe returned, headroom, and the record."""

    seeds: Mapping[str, Tunable]
    found: Found
    rooms: Sequence[Headroom]
    ledgers: Mapping[str, Ledger]
    # Names of candidates that cost no call: ways of using a classifier.
    free: frozenset[str] = frozenset()

    @property
    def why(self) -> dict[str, str]:
        """Why parts were not searched, "" for those that were."""
        return {room.part: room.why for room in self.rooms}


@dataclass(frozen=True)
class Adopted:
    """The parts that replace their seeds, what became of each, and what decided."""

    kept: Mapping[str, Tunable]
    verdicts: list[Verdict]
    together: Verdict | None = None
    choice: Choice | None = None
    # What the whole is expected to score with what each stage of the search brought, in order.
    stages: Mapping[str, float] = field(default_factory=dict)


def by_expectation(searched: Searched, cases: Sequence[Case]) -> Adopted:
    """Take for each part what is expected to score best, by all that was seen of all parts."""
    known = {name: ledger.candidates() for name, ledger in searched.ledgers.items()}
    seeds = {name: own[0].scores for name, own in known.items()}
    if any(case.id not in scores for scores in seeds.values() for case in cases):
        # The budget ended before the seeds had met the cases: nothing can be held against them.
        return Adopted({}, [Verdict(n, gate.KEPT, why) for n, why in searched.why.items()])
    options = [o for name, ledger in searched.ledgers.items() for o in options_of(name, ledger)]
    start = {name: [scores[case.id] for case in cases] for name, scores in seeds.items()}
    choice = chosen(options, start)
    parts = {name: {c.name: c.part for c in own} for name, own in known.items()}
    kept = {name: parts[name][pick.option.name] for name, pick in choice.picks.items()}
    verdicts = [_expected(searched, name, choice.picks.get(name)) for name in searched.seeds]
    return Adopted(kept, verdicts, choice=choice, stages=_stages(searched, options, start, choice))


def _stages(
    searched: Searched, options: Sequence[Option], seeds: Seeds, choice: Choice
) -> dict[str, float]:
    """Return what is expected of what each stage of the search would take, the seed first.

    By all that was seen in the end: what a stage added is no change of mind about an earlier one.
    """
    free = [option for option in options if option.name in searched.free]
    own = [option for option in options if not option.name.startswith("gepa ")]
    found = {"seed": choice.seed}
    if free:
        found["classifier"] = chosen(free, seeds, options).expected
    if len(own) > len(free):
        found["prompts"] = chosen(own, seeds, options).expected
    return found | ({"gepa": choice.expected} if len(own) < len(options) else {})


def _expected(searched: Searched, name: str, pick: Pick | None) -> Verdict:
    trouble, why = searched.found[name][1], searched.why[name]
    if pick:
        told = f"{pick.option.name}{f'; {trouble}' if trouble else ''}"
        return Verdict(name, gate.TAKEN, told, gain=pick.gain, chance=pick.chance)
    if why:
        return Verdict(name, "not searched", why)
    told = "nothing that was tried is expected to gain"
    if searched.ledgers[name].tried == 1:
        told = "no other candidate was found"
    return Verdict(name, gate.KEPT, trouble or told)


def by_proof(searched: Searched, cases: Sequence[Case], alpha: float, worth: Worth) -> Adopted:
    """Take what fresh cases show to be better than its seed; `worth` scores parts on them."""
    seeds, found, why = searched.seeds, searched.found, searched.why
    changed = {n: part for n, (part, _) in found.items() if identity(part) != identity(seeds[n])}
    verdicts, together = gate.confirmed(seeds, changed, cases, alpha, worth)
    judged = any(ledger.judges for ledger in searched.ledgers.values()) or bool(cases)
    for name, (_, trouble) in found.items():
        other = searched.ledgers[name].tried > 1
        best = "the seed was best on validation" if other else "no other candidate was found"
        verdict = Verdict(name, gate.NO_GAIN, trouble or best)
        if why[name] or not judged:
            verdict = Verdict(name, "not searched", why[name])
        verdicts.setdefault(name, verdict)
    kept = {name: found[name][0] for name, verdict in verdicts.items() if verdict.kept}
    return Adopted(kept, [verdicts[name] for name in seeds], together)
