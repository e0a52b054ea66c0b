"""Where the quotes of a cell stand in its report, and which tokens gold means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crb_dspy.grounding import Span, ground
from crb_dspy.scoring.tokens import Report, read

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

    `inside` are all words of gold, function words and other places included.
    """

    tokens: set[int] = field(default_factory=set)
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
            own = read(quote, report.level)
            located.unknown.update(own.words[i] for i in own.tokens((0, len(quote))))
    located.places = sorted(set(located.places))
    return located


def gold_tokens(report: Report, quotes: Sequence[Places]) -> Gold:
    """Settle what gold quotes mean.

    One that stands several times means the places where it touches another (as the halves of a
    split quote do), or else the first place that no other takes, with the rest standing for it.
    """
    gold = Gold()
    edges = Edges(report.text, (span for spans in quotes for span in spans))
    taken = {i for spans in quotes if len(spans) == 1 for i in report.within(spans[0])}
    pending = []
    for spans in quotes:
        meant = spans if len(spans) == 1 else edges.touching(spans)
        if not meant:
            free = (span for span in spans if taken.isdisjoint(report.within(span)))
            meant = (next(free, spans[0]),)
            pending.append((meant[0], spans))
        for span in meant:
            gold.tokens.update(report.tokens(span))
            gold.inside.update(report.within(span))
    for own, spans in pending:
        for span in spans:
            gold.inside.update(report.within(span))
            pairs = zip(report.tokens(span), report.tokens(own), strict=False)
            gold.stands_for.update((i, j) for i, j in pairs if i not in gold.tokens)
    return gold
