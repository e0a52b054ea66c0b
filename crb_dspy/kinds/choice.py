"""One of, or several of, written options.

    [[category]]
    kind = "choice"
    options = ["current", "former", "never", "not mentioned"]

`default` is the option that is taken where an annotation is missing. `many` allows any number of
options, none included; `evidence` asks for the words of the report that say so.
An item is an option, after it perhaps ` | ` and its evidence.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from crb_dspy.data.kind import Cell, Guess, Items, Judged, Kind, KindOptions
from crb_dspy.data.words import Teaching
from crb_dspy.kinds._guess import guesses
from crb_dspy.kinds._labels import drawn, figures
from crb_dspy.quotes.grounding import ground

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

SEP = " | "
TEACHING = Teaching(
    rules=("when each option is right", "which is right where the report does not say it"),
    tips=(
        "Be short and precise.",
        "Say when each option is right.",
        "Say what tells options apart that lie close together.",
        "Say which option is right where the report does not say it.",
        "Say what decides where the report says several things.",
        "Warn of words that suggest the wrong option.",
    ),
    draft="Say which option is right: TITLE.",
)


class Options(KindOptions):
    """The options, and which of them stands for nothing found."""

    options: list[str] = Field(min_length=1)
    many: bool = False
    default: str = ""
    evidence: bool = False

    @field_validator("options")
    @classmethod
    def _plain(cls, options: list[str]) -> list[str]:
        folded = [_folded(option) for option in options]
        if len(set(folded)) < len(folded) or not all(folded) or any("|" in o for o in options):
            raise ValueError("must be different texts without |")
        return options

    @model_validator(mode="after")
    def _known(self) -> Options:
        if self.default and self.default not in self.options:
            raise ValueError(f"default = {self.default!r}: is none of the options")
        if not self.many and len(self.options) < 2:
            raise ValueError("options: one of at least two is chosen")
        return self


class Choice(Kind):
    """An option, or with `many` a set of them; a cell of one option is right or wrong."""

    about = "one of, or several of, written options, perhaps with evidence"
    Options = Options
    teaching = TEACHING

    @property
    def annotation(self) -> Any:
        """One of the options, or a list of them."""
        one: Any = str if self.options.evidence else Literal[tuple(self.options.options)]
        return list[one] if self.options.many else one

    def schema(self, max_tokens: int) -> dict[str, Any]:
        """Return an option, an object of option and quote, or a list of such."""
        one: dict[str, Any] = {"type": "string", "enum": list(self.options.options)}
        if self.options.evidence:
            one = {
                "type": "object",
                "properties": {"choice": one, "quote": {"type": "string"}},
                "required": ["choice", "quote"],
                "additionalProperties": False,
            }
        most = len(self.options.options)
        return {"type": "array", "items": one, "maxItems": most} if self.options.many else one

    def asked(self, keys: Items) -> str:
        """Name the options."""
        own = " / ".join(self.options.options)
        one, which = f"one of: {own}", "the list" if len(keys) == 1 else "a list"
        if self.options.evidence:
            quote = "quote (the words of the report that say so, or an empty text)"
            one = f"an object of choice ({one}) and {quote}"
        if self.options.many:
            one = f"{which} of all that apply ({one}), empty if none does"
        return f"{keys[0]} is {one}" if len(keys) == 1 else f"each of {', '.join(keys)} is {one}"

    def read(self, value: object) -> tuple[list[str], str]:
        """Return the options in an answer, as the schema writes them."""
        values = value if isinstance(value, list | tuple) else [] if value is None else [value]
        found, faults = [], []
        for one in values:
            item, fault = self._item(one)
            found += [item] if item else []
            faults += [fault] if fault else []
        kept = {_option(item): item for item in reversed(found)}
        items = [kept[option] for option in dict.fromkeys(map(_option, found))]
        if not self.options.many and len(items) != 1 and not faults:
            faults = ["no option" if not items else f"{len(items)} options in place of one"]
        return items, "; ".join(faults)

    def salvaged(self, text: str) -> object | None:
        """Return the one option that a text names; of several nobody knows."""
        named = self._named(text)
        return named if len(named) == 1 or (named and self.options.many) else None

    def merged(self, text: str, found: Sequence[Items]) -> list[str]:
        """Join options; of one, take what most pieces say that say anything."""
        every = [item for items in found for item in items]
        if self.options.many:
            return self.read(every)[0]
        said = [item for item in every if _option(item) != self.options.default] or every
        counts = Counter(map(_option, said))
        best = max(counts.values(), default=0)
        return next(([item] for item in said if counts[_option(item)] == best), [])

    def quoted(self, item: str) -> str | None:
        """Return the evidence of an option, if there is some."""
        return item.partition(SEP)[2] or None

    def gold(self, value: object) -> tuple[str, ...]:
        """Return annotated options; the default where there is no annotation."""
        missing = value is None or (value in ([], "") and not self.options.many)
        if missing:
            default = self.options.default
            return (default,) if default and not self.options.many else ()
        return super().gold(value)

    def plain(self, items: Items) -> Any:
        """Return what the model should have answered."""
        made: list[Any] = [_option(item) for item in items]
        if self.options.evidence:
            made = [{"choice": _option(i), "quote": self.quoted(i) or ""} for i in items]
        return made if self.options.many else (made or [None])[0]

    def told(self, item: str) -> dict[str, Any]:
        """Return the option."""
        return {"choice": _option(item)}

    def fitted(self, golds: Sequence[Items]) -> dict[str, Any]:
        """Take the most frequent option for the default: knowing it is no merit."""
        if self.options.default or self.options.many:
            return {}
        counts = Counter(_option(item) for gold in golds for item in gold)
        best = max(self.options.options, key=lambda option: counts[option])
        return {"default": best} if counts else {}

    def sought(self, gold: Items) -> bool | None:
        """Say whether another option than the default is right."""
        if self.options.many:
            return bool(gold)
        return {_option(item) for item in gold} != {self.options.default} if gold else None

    def score(self, text: str, gold: Items, predicted: Items) -> Judged:
        """Return 1 for the right option, 0 for another; with `many`, F1 over options."""
        wanted, given = ({_option(item) for item in items} for items in (gold, predicted))
        if self.options.many:
            value = 2 * len(wanted & given) / (len(wanted) + len(given)) if wanted | given else 1.0
        else:
            value = float(wanted == given) if wanted else math.nan
        quotes = [quote for item in predicted if (quote := self.quoted(item))]
        return Judged(
            score=value,
            reason=_reason(wanted, given),
            predicted=len(given),
            gold=len(wanted) if self.sought(gold) else 0,
            ungrounded=sum(not ground(text, quote).spans for quote in set(quotes)),
        )

    def hits(self, gold: Items, found: Items) -> tuple[set[str], set[str]]:
        """Return the options that both have, whatever their evidence."""
        both = _set(gold) & _set(found)
        return {i for i in gold if _option(i) in both}, {i for i in found if _option(i) in both}

    def metrics(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return accuracy, precision, recall and F1 (macro and micro), and Cohen's kappa."""
        pairs = [(_set(gold), _set(found)) for _, gold, found in cells]
        pairs = [pair for pair in pairs if pair[0] or self.options.many]
        return figures(pairs, self.options.options)

    def guesses(self, cases: Sequence[Case]) -> dict[str, Guess]:
        """Return the most frequent answer, and a classifier of whole reports."""
        known = [(case, (case.gold or {}).get(self.key, ())) for case in cases]
        kept = [(case, gold) for case, gold in known if gold or self.options.many]
        return guesses([(case.text, tuple(sorted(_set(gold)))) for case, gold in kept])

    @property
    def offered(self) -> Items:
        """The options."""
        return tuple(self.options.options)

    @property
    def many(self) -> bool:
        """As the schema says."""
        return bool(self.options.many)

    def chosen(self, item: str) -> str:
        """Return the option, without its evidence."""
        return _option(item)

    @classmethod
    def named(cls, words: str) -> dict[str, Any]:
        """Take the options, | between them."""
        return {"options": [option.strip() for option in words.split("|")]}

    def shown(self, item: str) -> str:
        """Return the option, and its evidence in quotation marks."""
        quote = self.quoted(item)
        return f"{_option(item)} (“{quote}”)" if quote else _option(item)

    def figure(self, cells: Sequence[Cell]) -> str:
        """Return the confusion matrix: gold down, answers across."""
        return drawn([(_set(gold), _set(found)) for _, gold, found in cells], self.options.options)

    def _item(self, value: object) -> tuple[str, str]:
        """Return the item that one value means, and what is wrong with it."""
        quote = ""
        if isinstance(value, dict):
            quote = str(value.get("quote") or value.get("evidence") or "").strip()
            value = next((value[n] for n in ("choice", "value", "answer") if n in value), None)
        if isinstance(value, bool):
            value = "yes" if value else "no"
        text, _, own = str(value if value is not None else "").partition(SEP)
        named = self._named(text)
        if len(named) != 1:
            return "", f"not one of the options: {text[:60]!r}" if text.strip() else ""
        quote = " ".join((own or quote).split())
        return f"{named[0]}{SEP}{quote}" if quote else named[0], ""

    def _named(self, text: str) -> list[str]:
        """Return the option that a text is, else those that stand in it, the longest first."""
        folded, found = _folded(text), []
        for option in sorted(self.options.options, key=lambda o: -len(o)):
            own = _folded(option)
            if own == folded:
                return [option]
            if re.search(rf"(?<!\w){re.escape(own)}(?!\w)", folded):
                folded = folded.replace(own, " ")
                found.append(option)
        return [option for option in self.options.options if option in found]


def _option(item: str) -> str:
    return item.partition(SEP)[0]


def _set(items: Items) -> frozenset[str]:
    return frozenset(map(_option, items))


def _folded(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+|[+<>=]", text.casefold()))


def _reason(wanted: set[str], given: set[str]) -> str:
    if not wanted and not given:
        return "rightly none"
    if wanted == given:
        return "right"
    right, found = (", ".join(sorted(own)) or "nothing" for own in (wanted, given))
    return f"answered {found}; right is {right}"
