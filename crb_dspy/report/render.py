"""The view as one HTML file that asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from crb_dspy.report.view import SHOWN, View

_FOLDER = Path(__file__).parent
_SCRIPTS = ("page.js", "correct.js")
_STYLES = ("page.css", "candidates.css")
# Characters of a quote or an error that a list shows; the whole quote is marked in its report.
_CLIP = 400
# Single halves of a surrogate pair can't be written to a file.
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = {
    "f": ("found", "in gold and quoted"),
    "m": ("missed", "in gold, not quoted"),
    "w": ("wrong", "quoted, not in gold"),
    "l": ("negation lost", "finding quoted without its “no”"),
    "u": ("not in the report", "quoted, stands nowhere"),
    "e": ("no answer", "the model’s answer could not be used"),
}


def page(view: View) -> str:
    """Return the page as HTML, to be written as UTF-8; text from reports is always escaped."""
    script = "".join((_FOLDER / name).read_text("utf-8") for name in _SCRIPTS)
    html = (
        _environment()
        .get_template("page.html")
        .render(
            view=view,
            names=view.heading.names,
            kinds=_KINDS,
            shown=SHOWN,
            scale=_scale(view),
            style=Markup("".join((_FOLDER / name).read_text("utf-8") for name in _STYLES)),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return _SURROGATE.sub("\ufffd", html)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = _signed
    environment.filters["score"] = lambda value: "–" if math.isnan(value) else f"{value:.3f}"
    environment.filters["label"] = lambda key: key.replace("_", " ")
    environment.filters["code"] = _code
    environment.filters["clip"] = lambda text: (
        text if len(text) <= _CLIP else f"{text[: _CLIP - 1]}…"
    )
    return environment


def _signed(value: float) -> str:
    """Write a difference with its sign, a true minus, and – where there is none."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")


def _code(text: str) -> Markup:
    """Write what stands between backticks as code, everything else escaped."""
    pieces = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if n % 2 else escape(piece)
        for n, piece in enumerate(pieces)
    )


def _scale(view: View) -> float:
    """Return the largest bound of any interval: the half width of the plots."""
    bounds = [
        abs(value)
        for row in view.categories
        for value in (row.difference.low, row.difference.high, row.difference.difference)
        if not math.isnan(value)
    ]
    return max([0.05, *bounds])
