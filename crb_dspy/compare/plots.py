"""Three figures of a comparison: differences, categories by strategies, score against cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crb_dspy.compare.comparison import Comparison
from crb_dspy.compare.sentences import sentence

# Told apart by those who see no red and green, and by their marks in print.
COLOURS = {"improved": "#0072b2", "worse": "#d55e00", "no gain shown": "#777777"}
MARKS = {"improved": "^", "worse": "v", "no gain shown": "o"}
# With more strategies than this the numbers in a heat map can't be read.
_NUMBERED = 20


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the figures as PNG files into a folder that is there; return their paths."""
    drawings: dict[str, Callable[[Comparison], Any]] = {
        "differences.png": differences,
        "categories.png": categories,
        "pareto.png": pareto,
    }
    paths = []
    for name, draw in drawings.items():
        paths.append(folder / name)
        draw(comparison).savefig(paths[-1], dpi=110, metadata={"Software": None})
    return paths


def differences(comparison: Comparison) -> Any:
    """Draw a forest plot: each strategy's difference from the baseline with its interval."""
    gains = comparison.gains[::-1]
    figure, axes = _figure(9, 1.6 + 0.3 * len(gains))
    for row, gain in enumerate(gains):
        found, verdict = gain.difference, gain.verdict
        known = not math.isnan(found.low)
        margins = (found.difference - found.low, found.high - found.difference)
        axes.errorbar(
            found.difference,
            row,
            xerr=[[margin] for margin in margins] if known else 0.0,
            color=COLOURS[verdict],
            marker=MARKS[verdict],
            capsize=3,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(gains)), [_short(gain.strategy.label) for gain in gains])
    axes.set_ylim(-0.6, len(gains) - 0.4)
    axes.set_xlabel(f"difference in score from {_short(comparison.baseline.label)}")
    axes.set_title(_wrapped(sentence(comparison)), fontsize=9, loc="left")
    return figure


def categories(comparison: Comparison) -> Any:
    """Draw a heat map: difference from the baseline by strategy and category."""
    gains, keys = comparison.gains, comparison.board.categories
    values = [[value for value, _ in gain.categories.values()] for gain in gains]
    figure, axes = _figure(3.5 + 0.55 * len(keys), 1.8 + 0.3 * len(gains))
    most = max(0.05, *(abs(value) for row in values for value in row))
    image = axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axes.set_xticks(range(len(keys)), keys, rotation=60, ha="right")
    axes.set_yticks(range(len(gains)), [_short(gain.strategy.label) for gain in gains])
    for row, line in enumerate(values if len(gains) <= _NUMBERED else []):
        for column, value in enumerate(line):
            shade = "white" if abs(value) > 0.6 * most else "black"
            axes.text(column, row, f"{value:+.2f}", ha="center", va="center", size=7, color=shade)
    figure.colorbar(image, label=f"difference from {_short(comparison.baseline.label)}")
    return figure


def pareto(comparison: Comparison) -> Any:
    """Draw score against cost, with the front of those that none beats in both."""
    figure, axes = _figure(9, 5)
    priced = [
        (comparison.price(strategy), strategy.score, strategy.label)
        for strategy in comparison.board.strategies
        if not math.isnan(comparison.price(strategy))
    ]
    front = sorted((cost, score) for cost, score, label in priced if label in comparison.front)
    if front:
        axes.step(*zip(*front, strict=True), where="post", color="#bbbbbb")
    for cost, score, label in priced:
        best = label in comparison.front
        axes.plot(cost, score, marker="o" if best else "x", color="#0072b2" if best else "#777777")
        if best or len(priced) <= _NUMBERED:
            offset = (5, 4)
            axes.annotate(_short(label), (cost, score), offset, textcoords="offset points", size=8)
    if priced and min(cost for cost, *_ in priced) > 0:
        axes.set_xscale("log")
    note = ", answers from the cache counted" if comparison.cost == "asked" else ""
    of = "tokens of one report" if comparison.cost == "report_tokens" else comparison.cost
    whole = "" if comparison.cost == "report_tokens" else " of the whole compile"
    axes.set_xlabel(f"{of}{whole}{note}")
    axes.set_ylabel("score on test cases")
    return figure


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # No pyplot: it keeps figures, and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _short(label: str, most: int = 44) -> str:
    # A dollar sign would begin a formula.
    text = label.replace("$", r"\$")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _wrapped(text: str, width: int = 90) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), width))
