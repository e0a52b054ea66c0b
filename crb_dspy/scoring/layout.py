"""Tables of metrics as lines that fit their reader's screen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from crb_dspy.scoring import paper, spans
from crb_dspy.scoring.objective import summarise
from crb_dspy.scoring.table import FAMILIES

Columns = Mapping[str, Mapping[str, float]]
# How the field's measures are called above their columns.
_TITLES = {
    "token": "tokens",
    "quote_exact": "quotes, exact",
    "quote_overlap": "quotes, overlapping",
}
_GAP = "  "
_COUNTS = {"polarity_errors"}
_KINDS = "of kinds"


def families(names: Sequence[str]) -> dict[str, list[str]]:
    """Sort the names of metrics by the family that they belong to, those of kinds as one more."""
    own = dict.fromkeys([*summarise(()), "precision", "recall"], FAMILIES[0])
    own |= dict.fromkeys(paper.PAPER, "paper")
    own |= dict.fromkeys([*spans.pooled(()), *spans.averaged(())], "field")
    shown = (*FAMILIES, _KINDS)
    told = {family: [n for n in names if own.get(n, _KINDS) == family] for family in shown}
    return {family: found for family, found in told.items() if found}


def metrics_table(names: Sequence[str], columns: Columns, width: int) -> list[str]:
    """Return a table with a row a metric, as wide as it may be, further columns below."""
    blocks = [
        [head, *(number(own.get(name, math.nan), 0 if name in _COUNTS else 3) for name in names)]
        for head, own in columns.items()
    ]
    return list(_beside(["", *names], blocks, width))


def field_table(summary: Mapping[str, float], categories: Columns, width: int) -> list[str]:
    """Return precision, recall and F1 over tokens and over quotes, as papers show them.

    A row each for the averages, with and without negative findings, and for every category; how
    many quotes there are stands above.
    """
    sizes = [
        f"{summary[f'quote_{side}']:.0f} {side}, {summary[f'quote_{side}_positive']:.0f} positive"
        for side in ("gold", "predicted")
    ]
    rows = {
        f"{average}{', positive' * bool(kept)}": (summary, f"{average}{kept}")
        for kept in spans.SETS
        for average in ("micro", "macro")
    }
    rows |= {key: (own, "micro") for key, own in categories.items() if "quote_gold" in own}
    blocks = [_measure(measure, list(rows.values())) for measure in spans.MEASURES]
    return [f"quotes: {'; '.join(sizes)}", "", *_beside(["", "", *rows], blocks, width)]


def number(value: float, places: int = 3) -> str:
    """Return a metric as text, nothing where it is undefined."""
    return "" if value != value else f"{value:.{places}f}"


def _measure(measure: str, rows: Sequence[tuple[Mapping[str, float], str]]) -> list[str]:
    lines = [
        [number(own[f"{measure}_{ratio}_{kind}"]) for ratio in spans.RATIOS] for own, kind in rows
    ]
    cells = (_GAP.join(f"{text:>5}" for text in line) for line in [["P", "R", "F1"], *lines])
    return [_TITLES[measure], *cells]


def _beside(labels: Sequence[str], blocks: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the lines of blocks that stand beside each other, of those that are left below."""
    first = max(map(len, labels))
    left = [(max(map(len, block)), block) for block in blocks]
    while left:
        shown, room = 1, width - first - len(_GAP) - left[0][0]
        while shown < len(left) and (room := room - len(_GAP) - left[shown][0]) >= 0:
            shown += 1
        for at, label in enumerate(labels):
            cells = (f"{block[at]:>{size}}" for size, block in left[:shown])
            yield _GAP.join([f"{label:{first}}", *cells]).rstrip()
        left = left[shown:]
        if left:
            yield ""
