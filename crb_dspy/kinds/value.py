"""A short value: a number with its unit, a date, or a text.

    [[category]]
    kind = "value"
    type = "number"      # or "date", or "text"
    unit = "mmol/L"      # what a number without a unit is in
    tolerance = 0.01     # relative

No item means that the report does not say it. An item is the value as it is written; several in
gold are all accepted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup
from pydantic import Field

from crb_dspy.data.kind import Cell, Guess, Items, Judged, Kind, KindOptions
from crb_dspy.data.words import Teaching
from crb_dspy.kinds._guess import guesses
from crb_dspy.kinds._units import Number, normalised

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

_UNKNOWN = re.compile(
    r"\W*(?:unknown|none|null|n/?a|not (?:mentioned|known|stated|given|reported|applicable"
    r"|available|documented|specified)|unspecified|not in the report)\W*",
    re.IGNORECASE,
)
_LONGEST = 200
TEACHING = Teaching(
    rules=(
        "which value is meant where a report has several",
        "in which form",
        "when there is none",
    ),
    tips=(
        "Be short and precise.",
        "Say which value is meant where a report has several of them.",
        "Say in which form and unit the value is given.",
        "Say what is no such value, though it looks like one.",
        "Say when to answer that the report does not say it.",
        "Tell the reader where in a report to look.",
    ),
    draft="Give TITLE as the report says it.",
)


class Options(KindOptions):
    """What a value is, and when two are the same."""

    type: Literal["text", "number", "date"] = "text"
    unit: str = ""
    tolerance: float = Field(1e-6, ge=0)
    # The most frequent one; knowing it is no merit.
    default: str = ""


class Value(Kind):
    """A value, or none; two are the same that are written differently."""

    about = "a number with its unit, a date or a short text; nothing where it is not said"
    Options = Options
    teaching = TEACHING

    @property
    def annotation(self) -> Any:
        """A text."""
        return str | None

    def schema(self, max_tokens: int) -> dict[str, Any]:
        """Return a text, or null."""
        return {"type": ["string", "null"]}

    def asked(self, keys: Items) -> str:
        """Say what is wanted, and what stands for nothing."""
        what = {
            "text": "a short text",
            "number": "a number with its unit" if self.options.unit else "a number",
            "date": "a date (YYYY-MM-DD, or as much as is known)",
        }[self.options.type]
        one = f"{what}, or null if the report does not say it"
        return f"{keys[0]} is {one}" if len(keys) == 1 else f"each of {', '.join(keys)} is {one}"

    def read(self, value: object) -> tuple[list[str], str]:
        """Return the value in an answer; words for "unknown" are none."""
        values = value if isinstance(value, list | tuple) else [value]
        texts = (" ".join(_written(one).split()) for one in values if one is not None)
        kept = list(dict.fromkeys(t for t in texts if t and not _UNKNOWN.fullmatch(t)))
        long = next((text for text in kept if len(text) > _LONGEST), "")
        return kept, f"{len(long)} characters in place of a short value" if long else ""

    def salvaged(self, text: str) -> object | None:
        """Return what follows a key in broken JSON, or a text that is short enough."""
        if match := re.search(rf'"{re.escape(self.key)}"\s*:\s*"((?:[^"\\]|\\.)*)"', text):
            return match[1]
        plain = text.strip().strip("\"'`")
        return plain if len(plain) <= _LONGEST and not re.search(r"[{}\[\]\n]", plain) else None

    def merged(self, text: str, found: Sequence[Items]) -> list[str]:
        """Take what most pieces say that say anything, the first of those."""
        said = [item for items in found for item in items]
        counts = Counter(map(self._normal, said))
        best = max(counts.values(), default=0)
        return next(([item] for item in said if counts[self._normal(item)] == best), [])

    def anchors(self, item: str, text: str) -> list[str]:
        """Return the value, which mostly stands in the report."""
        return [item, *super().anchors(item, text)]

    def plain(self, items: Items) -> Any:
        """Return the value, null for none, a list of several."""
        return list(items) if len(items) > 1 else (*items, None)[0]

    def fitted(self, golds: Sequence[Items]) -> dict[str, Any]:
        """Take the most frequent value, if any comes twice."""
        counts = Counter(self._normal(gold[0]) for gold in golds if gold)
        if self.options.default or not counts or max(counts.values()) < 2:
            return {}
        best = min(counts, key=lambda value: (-counts[value], str(value)))
        written = sorted(gold[0] for gold in golds if gold and self._normal(gold[0]) == best)
        return {"default": written[0]}

    def sought(self, gold: Items) -> bool | None:
        """Say whether there is a value, and another than the most frequent one."""
        usual = self.options.default
        return bool(gold) and not (usual and any(self.same(usual, item) for item in gold))

    def score(self, text: str, gold: Items, predicted: Items) -> Judged:
        """Return 1 for an accepted value, and for none where there is none."""
        if gold and predicted:
            right = all(any(self.same(item, one) for one in gold) for item in predicted)
        else:
            right = not gold and not predicted
        said = " or ".join(gold) or "not in the report"
        return Judged(
            score=float(right),
            reason="right"
            if right
            else f"answered {', '.join(predicted) or 'nothing'}; it is {said}",
            predicted=len(set(predicted)),
            gold=int(bool(self.sought(gold))),
        )

    def metrics(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return accuracy as written and normalised where there is a value, and where none is."""
        stated = [(gold, found) for _, gold, found in cells if gold]
        empty = [not found for _, gold, found in cells if not gold]
        exact = [len(set(found)) == 1 and found[0] in gold for gold, found in stated]
        alike = [self.score("", gold, found).score for gold, found in stated]
        return {
            "exact_accuracy": _mean(exact),
            "normalised_accuracy": _mean(alike),
            "unknown_accuracy": _mean(empty),
        }

    def guesses(self, cases: Sequence[Case]) -> dict[str, Guess]:
        """Return the most frequent value, and a classifier of whole reports."""
        known = [(case.text, (case.gold or {}).get(self.key, ())) for case in cases]
        return guesses([(text, tuple(gold[:1])) for text, gold in known])

    @classmethod
    def named(cls, words: str) -> dict[str, Any]:
        """Take the type and, of a number, its unit."""
        type_, _, unit = words.partition(" ")
        return ({"type": type_} if type_ else {}) | ({"unit": unit} if unit else {})

    def figure(self, cells: Sequence[Cell]) -> str:
        """Return gold beside answers, for the cells that are wrong."""
        row = Markup('<tr><th scope="row" class="name">{}</th><td>{}</td><td>{}</td></tr>')
        wrong = [cell for cell in cells if self.score("", cell[1], cell[2]).score < 1]
        rows = Markup("").join(
            row.format(case, " or ".join(gold) or "–", ", ".join(found) or "–")
            for case, gold, found in wrong
        )
        head = "<thead><tr><th>wrong in</th><th>gold</th><th>answer</th></tr></thead>"
        table = '<table class="numbers texts">' + head + "<tbody>{}</tbody></table>"
        return Markup(table).format(rows)

    def same(self, first: str, second: str) -> bool:
        """Say whether two values are one, whatever their units and notation."""
        a, b = self._normal(first), self._normal(second)
        if isinstance(a, Number) and isinstance(b, Number):
            both = bool(a.unit and b.unit)
            one, two = (number.value if both else number.written for number in (a, b))
            close = math.isclose(one, two, rel_tol=self.options.tolerance, abs_tol=1e-12)
            return a.sign == b.sign and close and (a.unit == b.unit or not both)
        return a == b

    def _normal(self, text: str) -> str | Number:
        return normalised(text, self.options.type, self.options.unit)


def _written(value: object) -> str:
    if isinstance(value, dict):
        known = (value.get(name) for name in ("value", "number", "unit"))
        return " ".join(str(one) for one in known if one is not None)
    return str(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
