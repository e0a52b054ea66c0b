"""Templates: the placeholder of plain ones, and the escapes of Jinja and its like."""

from __future__ import annotations

import json
import re

PLACEHOLDER = "{{report}}"
# What begins a tag, or to Nunjucks ends a comment; line ends that Jinja 2 would change.
_TAG = re.compile(r"\{(?=[{%#\r])|(?<=#)\}|\r")


def control() -> str:
    """Return the regular expression of control marks, each to be followed by a space."""
    from crb_dspy.program.marks import CONTROL

    return CONTROL.pattern


def fill(template: str, report: str, pattern: str) -> str:
    """Put a report in the place of the first placeholder, its control marks broken."""
    plain = re.sub(pattern, lambda match: f"{match[0]} ", report)
    before, mark, after = template.partition(PLACEHOLDER)
    return f"{before}{plain}{after}" if mark else template


def jinja(text: str) -> str:
    """Return a fixed text as a template of Jinja 2 or Nunjucks that renders to it."""
    return _TAG.sub(lambda match: f"{{{{ {json.dumps(match[0])} }}}}", text)


def jinja_marks(report: str, more: str = "") -> str:
    """Return a template of Jinja 2 and Nunjucks alike that shows a variable, its marks broken.

    The rule of `program.marks.defuse` spelt out. `more` is a filter for what is shown.
    """
    from crb_dspy.program.marks import AFTER, PAIRS, WORDS

    marks = [*PAIRS, *(f"[{end}{word}]" for word in WORDS for end in ("", "/"))]
    # A statement a mark: what Jinja 2 takes for a chain of filters grows with its square.
    broken = "".join(
        f'{{% set whole = whole | replace("{mark}", "{mark[0]} {mark[1:]}") %}}' for mark in marks
    )
    return (
        f"{{% set whole = {report} %}}{broken}"
        f'{{% for piece in whole.split("<") %}}'
        f'{{% if not loop.first %}}<{{% if piece and (piece | first) in "{AFTER}" %}} {{% endif %}}'
        f"{{% endif %}}{{{{ piece{more} }}}}{{% endfor %}}"
    )
