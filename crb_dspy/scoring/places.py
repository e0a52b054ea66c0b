"""Where the quotes of a cell stand in its report, and which tokens gold means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crb_dspy.quotes.grounding import Span, ground
from crb_dspy.scoring.tokens import Report, tokenized

Places = tuple[Span, ...]


@dataclass
class Quotes:
    """Distinct quotes by their places in a report; those that have none, and their tokens."""

    places: list[Places] = field(default_factory=list)
    ungrounded: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many quotes there are."""
        return len(self.places) + len(self.ungrounded)


@dataclass
class Gold:
    """The tokens to be found; `stands_for` leads from other places of a quote to its own.

    `meant` holds the tokens of each quote; `inside` are all words of gold, function words and
    other places included.
    """

    tokens: set[int] = field(default_factory=set)
    meant: dict[Places, set[int]] = field(default_factory=dict)
    stands_for: dict[int, int] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)

    def of(self, tokens: Iterable[int]) -> list[int]:
        """Return the gold tokens that some tokens are or stand for."""
        meant = (self.stands_for.get(token, token) for token in tokens)
        return [token for token in meant if token in self.tokens]


class Edges:
    """Where places begin and end, white space aside: what a neighbour touches."""

    def __init__(self, text: str, spans: Iterable[Span]) -> None:
        self._text = text
        self._starts: set[int] = set()
        self._ends: set[int] = set()
        self.add(spans)

    def add(self, spans: Iterable[Span]) -> None:
        """Take in more places."""
        for start, end in spans:
            self._starts.add(start)
            self._ends.add(end)

    def touching(self, spans: Iterable[Span]) -> Places:
        """Return those places that follow or precede one of these."""
        return tuple(span for span in spans if self.before(span) or self.after(span))

    def before(self, span: Span) -> bool:
        """Tell whether a place follows one of these."""
        at = span[0]
        while at and self._text[at - 1].isspace():
            at -= 1
        return at in self._ends

    def after(self, span: Span) -> bool:
        """Tell whether a place precedes one of these."""
        at = span[1]
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        return at in self._starts


def locate(report: Report, quotes: Iterable[str]) -> Quotes:
    """Place quotes in a report; order and repetition leave no trace."""
    located = Quotes()
    for quote in sorted(set(quotes)):
        if spans := ground(report.text, quote).spans:
            located.places.append(spans)
        else:
            located.ungrounded.append(quote)
            own = tokenized(quote, report.level)
            located.unknown.update(own.words[i] for i in own.tokens((0, len(quote))))
    located.places = sorted(set(located.places))
    return located


def gold_tokens(report: Report, quotes: Sequence[Places]) -> Gold:
    """Settle what gold quotes mean.

    Quotes that touch are one again, as before they were split. What stands several times means
    the first place that nothing else takes, with the rest standing for it.
    """
    gold = Gold()
    run_of = _runs(report.text, {span for spans in quotes for span in spans})
    wholes: dict[Places, list[Span]] = {}
    same: dict[tuple[str, ...], set[Span]] = {}
    for spans in quotes:
        runs = [run_of[span] for span in spans]
        runs = [run for run in runs if len(run) > 1] or runs
        wholes[spans] = [(run[0][0], max(end for _, end in run)) for run in runs]
        for whole in wholes[spans]:
            same.setdefault(tuple(report.words[i] for i in report.within(whole)), set()).add(whole)
    chosen = _choose(report, gold, sorted(map(sorted, same.values())))
    for spans in quotes:
        own = [whole for whole in wholes[spans] if whole in chosen]
        parts = (s for s in spans if any(a <= s[0] and s[1] <= b for a, b in own))
        gold.meant[spans] = {token for span in parts for token in report.tokens(span)}
    return gold


def _runs(text: str, spans: Iterable[Span]) -> dict[Span, list[Span]]:
    """Return for each place the run of touching places that it belongs to."""
    runs: dict[Span, list[Span]] = {}
    by_end: dict[int, list[Span]] = {}
    for span in sorted(spans):
        run = by_end.get(len(text[: span[0]].rstrip()), [])
        run.append(span)
        runs[span] = by_end[span[1]] = run
    return runs


def _choose(report: Report, gold: Gold, quotes: Sequence[Sequence[Span]]) -> set[Span]:
    """Take one place of each quote into gold; the others stand for it."""
    taken = {i for spans in quotes if len(spans) == 1 for i in report.within(spans[0])}
    chosen = {}
    for spans in quotes:
        own = next((s for s in spans if taken.isdisjoint(report.within(s))), spans[0])
        chosen[own] = spans
        gold.tokens.update(report.tokens(own))
    for own, spans in chosen.items():
        for span in spans:
            gold.inside.update(report.within(span))
            pairs = zip(report.tokens(span), report.tokens(own), strict=False)
            gold.stands_for.update((i, j) for i, j in pairs if i not in gold.tokens)
    return set(chosen)
