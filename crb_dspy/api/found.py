"""What a program found in one report: quotes by category, and their places, to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import dspy
from markupsafe import Markup, escape

from crb_dspy.data.cases import Case
from crb_dspy.quotes.grounding import Status
from crb_dspy.report.segments import A, Segment, Stroke, segments

_HUE = 137.5


class Found(dspy.Prediction):  # type: ignore[misc]
    """A prediction with quotes under each category key, `findings` with their places, `errors`.

    `findings[key]` are placements: the quote, its status, and its spans [start, end) in
    `case.text`. In a notebook it shows itself as the report with its quotes marked.
    """

    @classmethod
    def of(cls, case: Case, prediction: dspy.Prediction) -> Self:
        """Return a prediction with the case that it is about."""
        return cls(case=case, **prediction.toDict())

    def show(self, path: str | Path = "findings.html") -> Path | None:
        """Show the report in a notebook; elsewhere write it as a page and return where."""
        if in_notebook():
            from IPython.display import display

            display(self)  # type: ignore[no-untyped-call]
            return None
        page = f"<!doctype html><meta charset=utf-8><title>{escape(self.case.id)}</title>"
        Path(path).write_text(f"{page}{self._repr_html_()}\n", "utf-8", errors="replace")
        return Path(path)

    def _repr_html_(self) -> str:
        keys, text = list(self.findings), self.case.text
        strokes = [
            Stroke(span[0], span[1], number, A)
            for number, key in enumerate(keys)
            for place in self.findings[key]
            for span in place.spans[:1]
        ]
        body = Markup("").join(_marked(text, piece, keys) for piece in segments(len(text), strokes))
        return _BOX.format(body=body, notes=Markup("").join(self._notes()))

    def _notes(self) -> Iterator[Markup]:
        for key, places in self.findings.items():
            if places:
                yield _NOTE.format(colour=_colour(list(self.findings).index(key)), key=key)
            for place in places:
                where = " (not in the report)" if place.status is Status.UNGROUNDED else ""
                yield _QUOTE.format(quote=place.quote, where=where)
        for part, error in self.errors.items():
            yield _NOTE.format(colour="none", key=f"{part}: no answer")
            yield _QUOTE.format(quote=error, where="")


_BOX = Markup(
    '<div style="max-width:60em;line-height:1.7">'
    '<div style="white-space:pre-wrap">{body}</div><hr>{notes}</div>'
)
_MARK = Markup('<mark style="background:{colour};color:inherit" title="{keys}">{text}</mark>')
_NOTE = Markup('<div><b style="background:{colour}">{key}</b></div>')
_QUOTE = Markup('<div style="margin-left:1em">{quote}{where}</div>')


def _marked(text: str, piece: Segment, keys: Sequence[str]) -> Markup:
    inner = text[piece.start : piece.end]
    if not piece.layers:
        return escape(inner)
    names = ", ".join(keys[layer.category] for layer in piece.layers)
    return _MARK.format(colour=_colour(piece.layers[0].category), keys=names, text=inner)


def _colour(number: int) -> str:
    # Half transparent, so that it suits a light page and a dark one.
    return f"hsl({(30 + number * _HUE) % 360:.0f} 80% 55% / 0.35)"


def in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this code."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell: Any = get_ipython()
    return hasattr(shell, "kernel")
