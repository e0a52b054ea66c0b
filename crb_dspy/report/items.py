"""Cells that hold something else than quotes: what was right in them, and how a kind shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from crb_dspy.data.kind import Cell as Told
from crb_dspy.data.kind import Kind
from crb_dspy.data.schema import Schema
from crb_dspy.quotes.grounding import ground
from crb_dspy.report.cells import Pair
from crb_dspy.report.placing import FOUND, MISSED, UNJUDGED, WRONG, Placed, Quote
from crb_dspy.scoring.places import Places


@dataclass(frozen=True)
class Figure:
    """A category as its kind shows it: its metrics in two runs, and a drawing of the second."""

    number: int
    key: str
    title: str
    metrics: tuple[tuple[str, float, float], ...]
    html: Markup


def place_items(text: str, pair: Pair, kind: Kind) -> Placed:
    """Return the items of a cell in two runs, each at the place of what it quotes, if anything."""
    gold = pair.a.gold
    hits = [kind.hits(gold, cell.predicted) for cell in (pair.a, pair.b)]

    def quote(item: str, kinds: Iterable[str]) -> Quote:
        return Quote(kind.shown(item), _spans(text, kind.quoted(item)), tuple(kinds), False)

    return Placed(
        gold=tuple(
            quote(item, (FOUND if item in found else MISSED for found, _ in hits)) for item in gold
        ),
        predicted=tuple(
            tuple(quote(i, [_outcome(kind, gold, i, right)]) for i in cell.predicted)
            for cell, (_, right) in zip((pair.a, pair.b), hits, strict=True)
        ),
        lost=((), ()),
    )


def _outcome(kind: Kind, gold: Sequence[str], item: str, right: set[str]) -> str:
    return UNJUDGED if not kind.judged(gold, item) else FOUND if item in right else WRONG


def figures(pairs: Sequence[Pair], schema: Schema) -> tuple[Figure, ...]:
    """Return what the kinds of categories show that hold no quotes."""
    found = []
    for number, category in enumerate(schema.categories):
        own = [pair for pair in pairs if pair.a.category == category.key]
        kind = category.holds
        if kind.verbatim or not own:
            continue
        sides: list[list[Told]] = [
            [(cell.case, cell.gold, cell.predicted) for cell in side]
            for side in ([pair.a for pair in own], [pair.b for pair in own])
        ]
        before, after = (kind.metrics(side) for side in sides)
        nan = float("nan")
        names = dict.fromkeys([*before, *after])
        metrics = tuple((n, before.get(n, nan), after.get(n, nan)) for n in names)
        # Kinds escape what comes from items.
        html = Markup(kind.figure(sides[1]))
        found.append(Figure(number, category.key, category.title, metrics, html))
    return tuple(found)


def _spans(text: str, quote: str | None) -> Places:
    return () if quote is None else ground(text, quote).spans[:1]
