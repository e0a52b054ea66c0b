"""Timelines: which events are one, how well their times agree, and how that looks.

Metrics as for textual time series (T2S2): a gold event is matched or not; times are compared over
matched events.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from markupsafe import Markup

# The area under the curve of errors is over ln(1 + hours) from 0 to here, as published.
WIDEST = math.log(60 * 24 * 365.26)
# A year, over which agreement of times falls from 1 to 0 with the logarithm of their difference.
YEAR = 24 * 365.26
_HOURS = {"min": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0, "mo": 730.5, "y": 8766.24}
_SPAN = re.compile(
    r"([-+]?\d+(?:\.\d+)?)\s*(min|h|d|w|mo|y)?[a-z]*\.?\s*(before|prior|ago|earlier)?",
    re.IGNORECASE,
)
Timed = tuple[float | None, str]


@dataclass(frozen=True)
class Matched:
    """A gold event: whether it has a match, its hours, and those of the match."""

    found: bool
    hours: float | None
    predicted: float | None


def paired(
    alike: Sequence[Sequence[float]], worth: Sequence[Sequence[float]], threshold: float
) -> list[tuple[int, int]]:
    """Return pairs (row, column), one to one, of those that are alike, worth most in all."""
    from scipy.optimize import linear_sum_assignment

    similar = np.array(alike, dtype=float)
    if not similar.size:
        return []
    # To be found at all counts a little, so that events without a time are matched too.
    value = np.where(similar >= threshold, np.array(worth) + 1e-3 * similar, 0.0)
    rows, columns = linear_sum_assignment(value, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(i, j) for i, j in pairs if similar[i, j] >= threshold]


def figures(reports: Sequence[Sequence[Matched]], predicted: int | None = None) -> dict[str, float]:
    """Return the metrics of reports, each a list of gold events; `predicted` counts answers.

    Match rate (of all gold events), concordance (median over reports, with its quartiles),
    median absolute error in hours, area under the log-time curve; precision and F1 of events.
    """
    events = [event for report in reports for event in report]
    hits = [event for event in events if event.found]
    errors = [
        abs(e.hours - e.predicted) for e in hits if e.hours is not None and e.predicted is not None
    ]
    each = [value for report in reports if not math.isnan(value := concordance(report))]
    quarters = np.percentile(each, [50, 25, 75]).tolist() if each else [math.nan] * 3
    found = {
        "match_rate": _ratio(len(hits), len(events)),
        "concordance": quarters[0],
        "concordance_25": quarters[1],
        "concordance_75": quarters[2],
        "median_error_hours": float(np.median(errors)) if errors else math.nan,
        "log_time_area": log_time_area(errors),
    }
    if predicted is None:
        return found
    return found | {
        "event_precision": _ratio(len(hits), predicted),
        "event_f1": _ratio(2 * len(hits), len(events) + predicted),
    }


def concordance(report: Sequence[Matched]) -> float:
    """Return the share of pairs of matched events that come in gold's order, ties counting half.

    Over events of different gold time; those without a predicted time come last. NaN of no pair.
    """
    known = [e for e in report if e.found and e.hours is not None]
    times = [(e.hours, math.inf if e.predicted is None else e.predicted) for e in known]
    right: list[float] = []
    for (a, x), (b, y) in combinations(times, 2):
        if a != b:
            first, second = (x, y) if (a or 0) < (b or 0) else (y, x)
            right.append(0.5 if first == second else float(first < second))
    return _ratio(math.fsum(right), len(right))


def log_time_area(errors: Sequence[float]) -> float:
    """Return the area under the share of errors below ln(1 + hours), 1 for none at all."""
    rest = [max(0.0, 1 - math.log1p(error) / WIDEST) for error in errors]
    return _ratio(math.fsum(rest), len(rest))


def drawn(
    case: str, gold: Sequence[Timed], found: Sequence[Timed], pairs: Sequence[tuple[int, int]]
) -> Markup:
    """Return a report's events on a line of time, gold above and answers below."""
    sides = ((gold, {i for i, _ in pairs}, 12), (found, {j for _, j in pairs}, 28))
    dots = Markup("").join(
        _dot(_at(hours), height, event, hours, number in matched)
        for events, matched, height in sides
        for number, (hours, event) in enumerate(events)
        if hours is not None
    )
    line = '<line x1="0" x2="600" y1="20" y2="20" stroke="currentColor"/>'
    caption = f"{len(pairs)} of {len(gold)} events matched, {len(found)} answered"
    return Markup(
        "<figure><figcaption>{}: {}</figcaption>"
        '<svg viewBox="0 0 600 54" width="600" role="img" aria-label="{}">' + line + "{}{}</svg>"
        "</figure>"
    ).format(case, caption, f"timeline of {case}", _ticks(), dots)


def _ticks() -> Markup:
    """Return the times that the line is read by."""
    line = '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="currentColor"/>'
    text = '<text x="{0:.1f}" y="50" font-size="10" fill="currentColor" text-anchor="middle">'
    tick = Markup(line + text + "{3}</text>")
    far = [("1 day", 24), ("1 month", 730), ("1 year", 8766)]
    ticks = [tick.format(_at(0), 2, 38, "admission")]
    for name, hours in far:
        ticks += [
            tick.format(_at(-hours), 17, 23, f"−{name}"),
            tick.format(_at(hours), 17, 23, name),
        ]
    return Markup("").join(ticks)


def _dot(x: float, y: int, event: str, hours: float | None, matched: bool) -> Markup:
    filled = "currentColor" if matched else "none"
    return Markup(
        '<circle cx="{:.1f}" cy="{}" r="3.5" fill="{}" stroke="currentColor">'
        "<title>{:g} h: {}</title></circle>"
    ).format(x, y, filled, hours, event)


def _at(hours: float | None) -> float:
    """Return where a time stands on the line: admission in the middle, logarithms to both sides."""
    value = hours or 0.0
    far = min(1.0, math.log1p(abs(value)) / WIDEST)
    return 300 + math.copysign(295 * far, value)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def agreement(one: float | None, other: float | None) -> float:
    """Return how well two times agree, 0 to 1."""
    if one is None or other is None:
        return float(one == other)
    return max(0.0, 1 - math.log1p(abs(one - other)) / math.log1p(YEAR))


def hours_of(value: object) -> float | None:
    """Return hours from a number, or from words as "2 days before"; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    text = str(value).strip().casefold().replace("−", "-")
    if text in ("admission", "at admission", "on admission", "presentation"):
        return 0.0
    match = _SPAN.search(text)
    if not match:
        return None
    hours = float(match[1]) * _HOURS[(match[2] or "h").lower()]
    return -abs(hours) if match[3] else hours
