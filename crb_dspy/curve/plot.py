"""The curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crb_dspy.curve.stands import Stand

# Told apart by those who see no red and green, and by their marks in print.
_LOOKS = {
    "baseline": ("#777777", "o"),
    "sentence classifier": ("#d55e00", "s"),
    "tuned": ("#0072b2", "^"),
}


def write(found: Sequence[Stand], path: Path) -> Path:
    """Draw the score of each system against the number of cases, with its interval; as PNG."""
    # Without pyplot no window is opened and nothing is kept.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [stand.size for stand in found]
    # Beside each other, since intervals would hide one another.
    apart = (max(sizes) - min(sizes) or 1) / 80
    for number, (name, (colour, mark)) in enumerate(_LOOKS.items(), -1):
        scores = [stand.scores[name] for stand in found]
        means = [score.mean for score in scores]
        below = [score.mean - score.low for score in scores]
        above = [score.high - score.mean for score in scores]
        look = {"color": colour, "marker": mark, "capsize": 3, "label": name}
        beside = [size + number * apart for size in sizes]
        axes.errorbar(beside, means, yerr=[below, above], **look)  # type: ignore[arg-type]
    axes.set_xticks(sizes)
    axes.set_ylim(0, 1)
    axes.set_xlabel("annotated cases that tune")
    axes.set_ylabel("score, 95 % interval")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
