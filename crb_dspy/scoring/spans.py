"""Precision, recall and F1 as papers on extraction report them: over tokens, and over quotes.

A quote is found exactly where its first and last word are gold's, and overlapping where it shares
a word with gold; one gold quote for one predicted quote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crb_dspy.quotes.grounding import Span, ground
from crb_dspy.scoring.coverage import cover
from crb_dspy.scoring.matching import matched
from crb_dspy.scoring.places import locate
from crb_dspy.scoring.tokens import Report, tokenized

MEASURES = ("token", "quote_exact", "quote_overlap")
# Everything, and what is left without the negative findings of gold and prediction.
SETS = ("", "_positive")
RATIOS = ("precision", "recall", "f1")
_KEYS = tuple((measure, kept) for kept in SETS for measure in MEASURES)


@dataclass(frozen=True)
class Tally:
    """How many there are in gold, how many were predicted, and how many of these are right."""

    gold: int = 0
    predicted: int = 0
    found: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.gold + other.gold, self.predicted + other.predicted, self.found + other.found
        )

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Precision, recall and F1; NaN where there is nothing to divide by."""
        both = self.gold + self.predicted
        return (
            _ratio(self.found, self.predicted),
            _ratio(self.found, self.gold),
            _ratio(2 * self.found, both),
        )


# By measure and set.
Counts = Mapping[tuple[str, str], Tally]


def count(text: str, gold: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Count what the field counts in one cell.

    Blank quotes are no quotes, and those that mean the same place are one. A quote that stands
    several times may mean any of its places; one that is not in the report is found only by a
    gold quote of the same words.
    """
    if not gold and not predicted:
        return dict.fromkeys(_KEYS, Tally())
    report = tokenized(text)
    wanted, given = _distinct(report, gold), _distinct(report, predicted)
    tallies = _tallies(report, wanted, given)
    counts = {(measure, ""): tally for measure, tally in tallies.items()}
    if any(quote.negative for quote in (*wanted, *given)):
        wanted, given = _positive(wanted), _positive(given)
        tallies = _tallies(report, wanted, given)
    return counts | {(measure, "_positive"): tally for measure, tally in tallies.items()}


def pooled(cells: Iterable[Counts]) -> dict[str, float]:
    """Return the micro averages of some cells and what they are made of, by name; NaN if undefined.

    As `token_f1_micro` or `quote_exact_recall_micro_positive`, and counts as `token_found`.
    """
    totals = _total(cells)
    metrics: dict[str, float] = {}
    for (measure, kept), tally in totals.items():
        for ratio, value in zip(RATIOS, tally.ratios, strict=True):
            metrics[f"{measure}_{ratio}_micro{kept}"] = value
    for (measure, kept), tally in totals.items():
        unit = measure.partition("_")[0]
        metrics[f"{unit}_gold{kept}"] = float(tally.gold)
        metrics[f"{unit}_predicted{kept}"] = float(tally.predicted)
        metrics[f"{measure}_found{kept}"] = float(tally.found)
    return metrics


def averaged(categories: Iterable[Iterable[Counts]]) -> dict[str, float]:
    """Return the macro averages over categories, each being pooled first, by name.

    Categories count that have gold or a prediction; what is undefined in one of them (precision
    where nothing was predicted, recall where there is no gold) is 0 there. NaN if there is none.
    """
    totals = [_total(cells) for cells in categories]
    metrics: dict[str, float] = {}
    for key in _KEYS:
        known = [total[key].ratios for total in totals if total[key].gold or total[key].predicted]
        for at, ratio in enumerate(RATIOS):
            values = [0.0 if math.isnan(ratios[at]) else ratios[at] for ratios in known]
            metrics[f"{key[0]}_{ratio}_macro{key[1]}"] = _ratio(math.fsum(values), len(values))
    return metrics


@dataclass(frozen=True)
class _Quote:
    """A quote, its places from word to word, and whether it is mostly negation."""

    text: str
    places: frozenset[Span]
    negative: bool


def _distinct(report: Report, quotes: Iterable[str]) -> list[_Quote]:
    found: dict[object, _Quote] = {}
    for text in sorted({quote.strip() for quote in quotes} - {""}):
        spans = ground(report.text, text).spans
        own, first = (report, spans[0]) if spans else (tokenized(text), (0, len(text)))
        quote = _Quote(text, frozenset(_trimmed(report, s) for s in spans), _negative(own, first))
        found.setdefault(quote.places or text, quote)
    return list(found.values())


def _trimmed(report: Report, span: Span) -> Span:
    """Return a place without the marks around its words, if it has words."""
    words = report.within(span)
    return (report.starts[words[0]], report.ends[words[-1]]) if words else span


def _negative(report: Report, span: Span) -> bool:
    """Tell whether half of a quote's content words negate or are negated.

    A paragraph with a negation somewhere in it is no negative finding.
    """
    if not (cues := report.cues.intersection(report.within(span))):
        return False
    tokens = cues.union(report.tokens(span))
    denied = {token for cue in cues for token in report.scope(cue)} & tokens
    return bool(denied) and 2 * len(denied | cues) >= len(tokens)


def _positive(quotes: Iterable[_Quote]) -> list[_Quote]:
    return [quote for quote in quotes if not quote.negative]


def _tallies(
    report: Report, gold: Sequence[_Quote], predicted: Sequence[_Quote]
) -> dict[str, Tally]:
    sizes = (len(gold), len(predicted))
    return {
        "token": _tokens(report, gold, predicted),
        "quote_exact": Tally(*sizes, _matches(gold, predicted, _exact)),
        "quote_overlap": Tally(*sizes, _matches(gold, predicted, _overlap)),
    }


def _tokens(report: Report, gold: Iterable[_Quote], predicted: Iterable[_Quote]) -> Tally:
    """Count content words as the objective does; words of quotes that stand nowhere are wrong."""
    sought = locate(report, [quote.text for quote in gold])
    given = locate(report, [quote.text for quote in predicted])
    coverage = cover(report, sought, given)
    found = len(coverage.found) + len(sought.unknown & given.unknown)
    extra = len(coverage.extra) + len(given.unknown - sought.unknown)
    return Tally(len(coverage.gold) + len(sought.unknown), found + extra, found)


def _matches(
    gold: Sequence[_Quote], predicted: Sequence[_Quote], same: Callable[[_Quote, _Quote], bool]
) -> int:
    """Return how many pairs there can be at most, nobody being in two."""
    alike = [[at for at, own in enumerate(gold) if same(own, quote)] for quote in predicted]
    return len(matched(alike))


def _exact(gold: _Quote, predicted: _Quote) -> bool:
    if gold.places and predicted.places:
        return not gold.places.isdisjoint(predicted.places)
    return gold.text == predicted.text


def _overlap(gold: _Quote, predicted: _Quote) -> bool:
    return _exact(gold, predicted) or any(
        a < end and start < b for a, b in gold.places for start, end in predicted.places
    )


def _total(cells: Iterable[Counts]) -> dict[tuple[str, str], Tally]:
    totals = dict.fromkeys(_KEYS, Tally())
    for counts in cells:
        for key in _KEYS:
            totals[key] += counts[key]
    return totals


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
