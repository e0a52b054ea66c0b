"""A comparison for reading: tables for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from crb_dspy.compare.comparison import Comparison, Gain, Strategy, score_of
from crb_dspy.compare.sentences import sentence

WIDTH = 100
# The least that a strategy's name is cut to.
_NAME = 16
MEASURED, PUBLISHED = "measured here", "published, not re-scored"

_PAPER = (
    "metrics of the paper, 0 to 100; published: over its 138 cases, here: over these test cases"
)
# What costs are called in words.
_MEANT = {
    "report_tokens": "the tokens of one report, read by the tuned program",
    "asked": "the requests of a compile, cached ones too",
    "calls": "the calls of a compile",
    "tokens": "the tokens of a compile",
    "usd": "the dollars of a compile",
    "seconds": "the seconds of a compile",
}

Table = list[list[str]]


@dataclass(frozen=True)
class Reference:
    """A mean over categories, 0 to 100, of a paper's metric: ours, or one that was published."""

    metric: str
    name: str
    value: float
    source: str


def ranking(comparison: Comparison) -> Table:
    """Return the baseline and every strategy against it, a row each, below a heading."""
    level = f"{comparison.gains[0].difference.level:.0%}".replace("%", " %")
    head = ["", "strategy", "score", "diff", f"{level} interval", "Holm p", "w/t/l"]
    base = comparison.baseline
    own = ["0", base.label, f"{base.score:.3f}", "baseline", "", "", ""]
    rows = [[*own, *_cost(comparison, base)]]
    for number, gain in enumerate(comparison.gains, 1):
        rows.append([str(number), *_against(gain), *_cost(comparison, gain.strategy)])
    for name, score in comparison.board.beside.items():
        rows.append(["-", name, f"{score:.3f}", "no model", *[""] * (len(rows[0]) - 4)])
    return [[*head, comparison.cost, "front"], *rows]


def by_category(comparison: Comparison) -> Table:
    """Return differences by category, a row a strategy, by its number."""
    rows = [
        [str(number), *(f"{difference:+.2f}" for difference, _ in gain.categories.values())]
        for number, gain in enumerate(comparison.gains, 1)
    ]
    return [["", *comparison.board.categories], *rows]


def notes(comparison: Comparison) -> list[str]:
    """Return what must be known to read the tables."""
    board, cost = comparison.board, comparison.cost
    groups = len(set(board.groups))
    in_groups = f"in {groups} group{'s' * (groups != 1)}"
    pairs = len(comparison.gains)
    said = [
        f"{len(board.cases)} test cases {in_groups}, {len(board.categories)} categories: "
        f"{', '.join(board.categories)}",
        f"score: {_meant(comparison)}",
        "interval: what none of two tests rules out, for its pair alone; w/t/l: won, tied, lost",
        "Holm p: the larger of sign flips and bootstrap-t of groups, corrected for "
        f"{pairs} comparison{'s' * (pairs != 1)}",
    ]
    if limits := [gain.detectable for gain in comparison.gains if gain.detectable > 0]:
        span = f" ({max(limits):.3f} at worst)" if max(limits) - min(limits) >= 0.0005 else ""
        said.append(
            f"likely to show (power 0.8, corrected): a difference of {min(limits):.3f}{span}"
        )
    said.append(f"front *: none is better in both score and {cost}, {_MEANT[cost]}")
    if comparison.cached and cost != "asked":
        said.append(f"the cache answered some requests: their runs took more than these {cost}")
    return said


def _meant(comparison: Comparison) -> str:
    """Say what the runs were scored by."""
    objective = comparison.baseline.params.get("objective", "score")
    if objective != "score":
        return f"the objective {objective}, mean over cells, which may be gamed"
    return "harmonic mean of agreement where there is gold and of silence where there is none"


def terminal(
    comparison: Comparison, references: Sequence[Reference] = (), width: int = WIDTH
) -> str:
    """Return the comparison as plain text that fits so many columns."""
    told = [textwrap.fill(note, width, subsequent_indent="  ") for note in notes(comparison)]
    verdict = textwrap.fill(sentence(comparison), width)
    blocks = [verdict, _fitted(ranking(comparison), width), "\n".join(told)]
    table = by_category(comparison)
    # As many categories beside each other as all of them leave room for.
    step = (width - len(table[-1][0])) // (max(map(len, [*table[0], "+0.00"])) + 1)
    blocks.append("difference by category, not tested")
    for start in range(1, len(table[0]), step):
        blocks.append(_fitted([[row[0], *row[start : start + step]] for row in table], width))
    if references:
        paper = textwrap.fill(_PAPER, width, subsequent_indent="  ")
        blocks += [paper, _fitted(_published(references), width)]
    return "\n\n".join(blocks) + "\n"


def markdown(comparison: Comparison, references: Sequence[Reference] = ()) -> str:
    """Return the comparison as Markdown."""
    listed = "\n".join(f"- {note}" for note in notes(comparison))
    blocks = [f"**{sentence(comparison)}**", _piped(ranking(comparison)), listed]
    blocks += ["Difference by category, not tested:", _piped(by_category(comparison))]
    if references:
        blocks += [_PAPER, _piped(_published(references))]
    return "\n\n".join(blocks) + "\n"


def values(comparison: Comparison, references: Sequence[Reference] = ()) -> str:
    """Return the comparison as CSV, a row a strategy and category (`all`: the score itself)."""
    out = io.StringIO()
    names = "source strategy run metric category value difference low high p holm_p"
    rest = "wins ties losses detectable cost_of cost front"
    writer = csv.DictWriter(out, [*names.split(), *rest.split()], lineterminator="\n")
    writer.writeheader()
    writer.writerow(_whole(comparison, comparison.baseline))
    for gain in comparison.gains:
        own, found = gain.strategy, gain.difference
        statistics = {
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "holm_p": gain.holm,
            "wins": found.wins,
            "ties": found.ties,
            "losses": found.losses,
            "detectable": gain.detectable,
        }
        writer.writerow(_whole(comparison, own) | statistics)
        for key, (difference, margin) in gain.categories.items():
            bounds = {"low": difference - margin, "high": difference + margin}
            column = comparison.board.categories.index(key)
            value = score_of(own.part(slice(column, column + 1)))
            about = {"category": key, "value": value, "difference": difference}
            writer.writerow(_source(own) | about | bounds)
    for reference in references:
        about = {"source": reference.source, "strategy": reference.name, "category": "all"}
        writer.writerow(about | {"metric": reference.metric, "value": reference.value})
    return out.getvalue()


def _against(gain: Gain) -> list[str]:
    found = gain.difference
    known = not math.isnan(found.low)
    return [
        gain.strategy.label,
        f"{gain.strategy.score:.3f}",
        f"{found.difference:+.3f}",
        f"{found.low:+.3f} to {found.high:+.3f}" if known else "none",
        f"{gain.holm:.2g}",
        f"{found.wins}/{found.ties}/{found.losses}",
    ]


def _cost(comparison: Comparison, strategy: Strategy) -> list[str]:
    price = comparison.price(strategy)
    places = ",.4f" if comparison.cost == "usd" else ",.0f"
    shown = "" if math.isnan(price) else f"{price:{places}}"
    return [shown, "*" if strategy.label in comparison.front else ""]


def _source(strategy: Strategy) -> dict[str, object]:
    return {
        "source": MEASURED,
        "strategy": strategy.label,
        "run": strategy.run,
        "metric": "score",
    }


def _whole(comparison: Comparison, strategy: Strategy) -> dict[str, object]:
    price = comparison.price(strategy)
    return _source(strategy) | {
        "category": "all",
        "value": strategy.score,
        "cost_of": comparison.cost,
        "cost": "" if math.isnan(price) else price,
        "front": strategy.label in comparison.front,
    }


def _published(references: Sequence[Reference]) -> Table:
    ordered = sorted(references, key=lambda r: (r.metric, -r.value))
    rows = [[r.metric, f"{r.value:.1f}", r.source, r.name] for r in ordered]
    return [["metric", "mean", "source", "strategy"], *rows]


def _fitted(table: Table, width: int) -> str:
    """Align columns; the first of them is text, the strategy's name gives way to the rest."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    named = table[0].index("strategy") if "strategy" in table[0] else None
    if named is not None:
        room = width - sum(widths) - len(widths) + 1 + widths[named]
        widths[named] = min(widths[named], max(room, _NAME))
    texts = {named, *(place for place, name in enumerate(table[0]) if name in ("metric", "source"))}
    return "\n".join(
        " ".join(
            _cut(cell, size).ljust(size) if place in texts else cell.rjust(size)
            for place, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def _cut(text: str, width: int) -> str:
    """Leave out the middle of what is too long: names differ at their ends."""
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[-half:]}"


def _piped(table: Table) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])
