"""Choosing with few cases: what a search found, pooled over parts, shrunk, and put together.

Each part's gain is seen on a dozen cells, too few to tell it from luck. But a kind of candidate (a
wording, a way of combining) is tried on every part, so its gains inform each other. A gain is
taken for the sum of what all candidates of the part share (how bad its seed is) and of what this
one differs by; the former lies around the mean of parts, the latter around that of its kind, and
all variances are read off the table itself (moments: DerSimonian and Laird 1986).
Cells with and without gold are two such tables. The score joins their sums by a harmonic mean,
which is no sum over parts; so for each of some weights between the halves every part takes its best
candidate, and the best of the programs so assembled is changed part by part while that gains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from crb_dspy.recipe.context import BALANCES
from crb_dspy.retrieval.support import asks
from crb_dspy.scoring.halves import Halves, harmonic, total
from crb_dspy.tuning.ledger import Ledger
from crb_dspy.tuning.shrinkage import shrunk

# Cells that a part is taken to have beyond those seen: a category that the choosing cases lack may
# still be met later.
UNSEEN = 0.5
# How probable a part's gain must be. What is hardly more likely to gain than to harm brings next to
# nothing, and where parts are few, one that harms is not made up for by others. Where the whole is
# as good as sure to gain, all that is expected to is taken.
SURE, SHOWN = 0.6, 0.95
# What asking the model must bring a cell, on average, where a classifier stands in its place.
PRICE = 0.02


@dataclass(frozen=True)
class Option:
    """A candidate of a part, its kind, and by case what it scored more than the seed.

    The cases are the same, in the same order, for all options of a part; one that was not met has
    no cells.
    """

    part: str
    name: str
    kind: str
    gains: tuple[Halves, ...]
    # Whether it met all cases; one that was given up informs the others, but is not taken.
    whole: bool = True
    # Whether the model is ever asked.
    asks: bool = True


@dataclass(frozen=True)
class Pick:
    """What a part takes: `gain` in the score of the whole, and the chance that there is one."""

    option: Option
    gain: float
    chance: float


@dataclass(frozen=True)
class Choice:
    """The picks by part (a part that keeps its seed has none), and the whole's expected score."""

    picks: Mapping[str, Pick] = field(default_factory=dict)
    seed: float = math.nan
    expected: float = math.nan


def options_of(part: str, ledger: Ledger) -> list[Option]:
    """Return what a part's record offers beside its seed: what it gained on the cases it met."""
    seed, *others = ledger.candidates()
    return [
        Option(
            part,
            other.name,
            kind_of(other.name),
            tuple(
                other.scores[case] - own if case in other.scores else Halves()
                for case, own in seed.scores.items()
            ),
            whole=ledger.score(other.part) is not None,
            asks=asks(other.part.units.values()),
        )
        for other in others
    ]


def kind_of(name: str) -> str:
    """Return what candidates of several parts share: their name but for numbers of draws."""
    return re.sub(r"^\d+: |\s\d+$", "", name)


def chosen(
    options: Sequence[Option],
    seeds: Mapping[str, Iterable[Halves]],
    known: Sequence[Option] = (),
) -> Choice:
    """Choose for each part the option, or its seed, with which the whole is expected to score best.

    `seeds` are what the seeds of all parts scored, case by case. Options that ask no model cost
    nothing, so they are chosen first; one that asks must then be expected to gain on that. What is
    expected is told by all that is `known` (by default the options), which may be more by now.
    """
    cases = {part: list(own) for part, own in seeds.items()}
    taken = _taken([option for option in options if not option.asks], cases)
    asking = [option for option in options if option.asks]
    if asking:
        gained = {part: option.gains for part, option in taken.items()}
        # A gain is of the same cells, so that their number is not added.
        start = {
            part: [score - (Halves() - gain) for score, gain in zip(own, gained[part], strict=True)]
            if part in gained
            else own
            for part, own in cases.items()
        }
        more = _taken([_beyond(o, gained.get(o.part)) for o in asking], start)
        named = {(option.part, option.name): option for option in asking}
        taken |= {part: named[part, option.name] for part, option in more.items()}
    table = _Table({part: total(own) for part, own in cases.items()})
    believed = {(b.option.part, b.option.name): b for b in table.beliefs(known or options)}
    final = {part: believed[part, option.name] for part, option in taken.items()}
    picks = {part: table.pick(part, final) for part in sorted(final)}
    return Choice(picks, table.score(()), table.score(final.values()))


def _beyond(option: Option, gained: Sequence[Halves] | None) -> Option:
    """Return an option with what it gains on one that is taken already."""
    if not gained:
        return option
    pairs = zip(option.gains, gained, strict=True)
    return replace(option, gains=tuple(gain - own - _price(gain) for gain, own in pairs))


def _price(gain: Halves) -> Halves:
    """Return what the cells of a gain must bring for the model to be asked about them."""
    return Halves(PRICE * gain.n_filled, 0.0, PRICE * gain.n_empty)


def _taken(options: Sequence[Option], seeds: Mapping[str, Sequence[Halves]]) -> dict[str, Option]:
    """Return what parts take of some options."""
    table = _Table({part: total(cases) for part, cases in seeds.items()})
    beliefs = table.beliefs(options)
    frontier = [(balance, table.best(beliefs, balance)) for balance in BALANCES]
    ranked = sorted(frontier, key=lambda pair: -round(table.score(pair[1].values()), 9))
    climbed = [
        (balance, table.climbed(taken, beliefs)) for balance, taken in [*ranked[:3], (0.5, {})]
    ]
    balance, taken = max(climbed, key=lambda pair: round(table.score(pair[1].values()), 9))
    if table.chance(taken.values(), balance) < SHOWN:
        taken = {part: own for part, own in taken.items() if table.chance([own], balance) >= SURE}
    return {part: own.option for part, own in taken.items()}


@dataclass(frozen=True)
class _Belief:
    """What is believed of an option's mean gain in each half: mean and variance."""

    option: Option
    mean: tuple[float, float]
    variance: tuple[float, float]


class _Table:
    """The cells of all parts in both halves, and what the seeds make of them."""

    def __init__(self, seeds: Mapping[str, Halves]) -> None:
        whole = total(seeds.values())
        self.halved = bool(whole.n_empty)
        unseen = UNSEEN if self.halved else 0.0
        sizes = {p: (h.n_filled + unseen, h.n_empty + unseen) for p, h in seeds.items()}
        all_ = [sum(size[half] for size in sizes.values()) or 1.0 for half in (0, 1)]
        # What share of each half's cells a part has.
        self.share = {p: (own[0] / all_[0], own[1] / all_[1]) for p, own in sizes.items()}
        self.seed = (_share(whole.filled, whole.n_filled), _share(whole.empty, whole.n_empty))

    def beliefs(self, options: Sequence[Option]) -> list[_Belief]:
        """Return what the whole table teaches about each option."""
        if not options:
            return []
        kinds, parts = [o.kind for o in options], [o.part for o in options]
        most = max(len(option.gains) for option in options)
        (first, doubt), (second, other) = (
            shrunk(np.array([_seen(option, half, most) for option in options]), kinds, parts)
            for half in (0, 1)
        )
        rows = zip(
            options, first.tolist(), second.tolist(), doubt.tolist(), other.tolist(), strict=True
        )
        return [_Belief(o, (a, b), (c, d)) for o, a, b, c, d in rows if o.whole]

    def best(self, beliefs: Iterable[_Belief], balance: float) -> dict[str, _Belief]:
        """Return the option that gains most at a weight, for each part that has one that gains."""
        taken: dict[str, _Belief] = {}
        for belief in beliefs:
            part = belief.option.part
            gain = self.gain(belief, balance)
            if gain > (self.gain(taken[part], balance) if part in taken else 0.0):
                taken[part] = belief
        return taken

    def climbed(
        self, taken: Mapping[str, _Belief], beliefs: Sequence[_Belief]
    ) -> dict[str, _Belief]:
        """Change one part at a time, as long as the whole gains.

        Parts that are alike take the same at every weight, so that what some of them should take
        lies between two programs of the frontier.
        """
        own, score = dict(taken), self.score(taken.values())
        while True:
            tried = [{**own, belief.option.part: belief} for belief in beliefs]
            tried += [{p: b for p, b in own.items() if p != part} for part in own]
            if not tried:
                return own
            best = max(tried, key=lambda other: self.score(other.values()))
            if self.score(best.values()) <= score + 1e-9:
                return own
            own, score = best, self.score(best.values())

    def gain(self, belief: _Belief, balance: float) -> float:
        """Return what an option is expected to gain at a weight, over its part's cells."""
        share = self.share[belief.option.part]
        weights = (balance, 1 - balance) if self.halved else (1.0, 0.0)
        return sum(w * s * m for w, s, m in zip(weights, share, belief.mean, strict=True))

    def score(self, taken: Iterable[_Belief]) -> float:
        """Return the expected score of the program with these options."""
        return harmonic(*self._halves(taken))

    def _halves(self, taken: Iterable[_Belief]) -> tuple[float, float]:
        first, second = self.seed
        for belief in taken:
            share = self.share[belief.option.part]
            first += share[0] * belief.mean[0]
            second += share[1] * belief.mean[1]
        return _bounded(first), _bounded(second)

    def pick(self, part: str, taken: Mapping[str, _Belief]) -> Pick:
        """Return what a part takes and what the whole would lose without it."""
        belief = taken[part]
        others = [other for name, other in taken.items() if name != part]
        first, second = self._halves(taken.values())
        gain = harmonic(first, second) - self.score(others)
        # What the halves weigh where the whole has come to: the slopes of a harmonic mean.
        both = first**2 + second**2
        balance = second**2 / both if both > 0 else 0.5
        return Pick(belief.option, gain, self.chance([belief], balance))

    def chance(self, taken: Collection[_Belief], balance: float) -> float:
        """Return how probable it is that options of different parts gain together at a weight."""
        weights = (balance, 1 - balance) if self.halved else (1.0, 0.0)
        spread = math.sqrt(
            sum(
                (w * s) ** 2 * v
                for belief in taken
                for w, s, v in zip(
                    weights, self.share[belief.option.part], belief.variance, strict=True
                )
            )
        )
        gain = sum(self.gain(belief, balance) for belief in taken)
        sure = gain / spread if spread else math.inf
        return 0.5 * (1 + math.erf(sure / math.sqrt(2)))


def _bounded(half: float) -> float:
    return half if math.isnan(half) else min(1.0, max(0.0, half))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _seen(option: Option, half: int, cases: int) -> list[float]:
    """Return the mean gain of each case's cells in a half, NaN for a case that has none."""
    gains = [gain.empty_agreement if half else gain.nonempty_f1 for gain in option.gains]
    return gains + [math.nan] * (cases - len(gains))
