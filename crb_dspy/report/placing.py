"""Where the quotes of a cell stand in its report, and what became of each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crb_dspy.quotes.grounding import Span, ground
from crb_dspy.report.cells import Pair
from crb_dspy.scoring.coverage import cover
from crb_dspy.scoring.places import Places, gold_tokens, locate
from crb_dspy.scoring.reason import negations
from crb_dspy.scoring.tokens import Report, tokenized

FOUND, MISSED, WRONG, UNGROUNDED = "found", "missed", "wrong", "not in the report"
# What gold has nothing to say of.
UNJUDGED = "unjudged"
# Of a quote's characters, from which on it counts as found (gold) or as right (predicted).
SHARE = 0.5


@dataclass(frozen=True)
class Quote:
    """A quote, the places it is shown at, and what it is: gold in each run, a predicted one."""

    text: str
    spans: Places
    kinds: tuple[str, ...]
    negative: bool

    @property
    def kind(self) -> str:
        """What a predicted quote is."""
        return self.kinds[0]


@dataclass(frozen=True)
class Placed:
    """The quotes of a cell in two runs; `lost` are negations that their findings were cut from."""

    gold: tuple[Quote, ...]
    predicted: tuple[tuple[Quote, ...], ...]
    lost: tuple[Places, ...]


def place(text: str, pair: Pair) -> Placed:
    """Place the gold and predicted quotes of a cell in the text of its report.

    A gold quote that stands several times is shown where scoring takes it to be, a predicted one
    where it meets gold, else at its first place.
    """
    report = tokenized(text)
    sought = _gold_places(report, pair.a.gold)
    wanted = [span for spans in sought.values() for span in spans]
    given = [_predicted_places(text, cell.predicted, wanted) for cell in (pair.a, pair.b)]
    lost = tuple(_lost(report, pair.a.gold, cell.predicted) for cell in (pair.a, pair.b))
    return Placed(
        gold=tuple(_gold_quote(report, q, spans, given) for q, spans in sought.items()),
        predicted=tuple(
            tuple(_predicted(report, q, spans, sought, wanted) for q, spans in places.items())
            for places in given
        ),
        lost=lost,
    )


def _gold_places(report: Report, quotes: Iterable[str]) -> dict[str, Places]:
    places = {quote: ground(report.text, quote).spans for quote in quotes}
    meant = gold_tokens(report, sorted({spans for spans in places.values() if spans})).meant
    return {
        quote: _meant(report, spans, meant.get(spans, set())) for quote, spans in places.items()
    }


def _meant(report: Report, spans: Places, tokens: set[int]) -> Places:
    own = tuple(span for span in spans if not tokens.isdisjoint(report.tokens(span)))
    return own or spans[:1]


def _predicted_places(text: str, quotes: Iterable[str], gold: Sequence[Span]) -> dict[str, Places]:
    places = {}
    for quote in quotes:
        spans = ground(text, quote).spans
        places[quote] = tuple(s for s in spans if overlap([s], gold)) or spans[:1]
    return places


def overlap(spans: Iterable[Span], others: Sequence[Span]) -> float:
    """Return which share of the characters of some places lies in others, 0 for no places."""
    own = {at for start, end in spans for at in range(start, end)}
    inside = {at for start, end in others for at in range(start, end)}
    return len(own & inside) / max(1, len(own))


def _gold_quote(
    report: Report, quote: str, spans: Places, given: Sequence[dict[str, Places]]
) -> Quote:
    kinds = []
    for places in given:
        covered = [span for found in places.values() for span in found]
        hit = overlap(spans, covered) >= SHARE if spans else quote in places
        kinds.append(FOUND if hit else MISSED)
    return Quote(quote, spans, tuple(kinds), _negative(report, spans))


def _predicted(
    report: Report, quote: str, spans: Places, sought: dict[str, Places], gold: Sequence[Span]
) -> Quote:
    if spans:
        kind = FOUND if overlap(spans, gold) >= SHARE else WRONG
    else:
        kind = FOUND if sought.get(quote) == () else UNGROUNDED
    return Quote(quote, spans, (kind,), _negative(report, spans))


def _negative(report: Report, spans: Places) -> bool:
    return any(not report.cues.isdisjoint(report.within(span)) for span in spans)


def _lost(report: Report, gold: Sequence[str], predicted: Sequence[str]) -> Places:
    if not (gold and predicted):
        return ()
    given = locate(report, predicted)
    coverage = cover(report, locate(report, gold), given)
    return tuple(report.spans[i] for i in negations(report, coverage, given.ungrounded).lost)
