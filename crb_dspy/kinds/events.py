"""Findings with their time: hours from admission, negative before it.

    [[category]]
    kind = "events"
    threshold = 0.75                 # similarity from which on two events may be one
    embeddings = "MODEL"             # of sentence-transformers, in place of words

Annotations are pairs [event, hours], hours null where it is not known. An item is the hours, ` h: `
and the event: "-24 h: fever", "? h: rash".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from pydantic import BaseModel, Field

from crb_dspy.data.kind import Cell, Guess, Items, Judged, Kind, KindOptions
from crb_dspy.data.words import Teaching
from crb_dspy.kinds._timeline import Matched, Timed, agreement, drawn, figures, hours_of, paired
from crb_dspy.quotes.folding import fold
from crb_dspy.quotes.grounding import ground
from crb_dspy.retrieval.embeddings import vectors

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

TOKENS_AN_EVENT = 24
_ITEM = re.compile(r"(\?|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?) h: (.*)", re.DOTALL)
_OBJECT = re.compile(r"\{[^{}]*\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


class Event(BaseModel):
    """An event and its time in hours from admission."""

    event: str
    hours: float | None = None


_LEGEND = (
    "Gold above the line, answers below it; filled where both have the event. Time from admission "
    "by its logarithm; what has no time is not drawn."
)
TEACHING = Teaching(
    reader="lists the events of clinical case reports with their time in hours from admission",
    rules=("what is an event", "what is none", "how short its name is", "how times are counted"),
    said="listed",
    tips=(
        "Be short and precise.",
        "Say what counts as an event and what does not.",
        "Say how short the name of an event is, and that several are told apart.",
        "Say what times are counted from, and how vague ones are read.",
        "Say what time findings at admission, history and the discharge have.",
        "Tell the reader to be complete.",
    ),
    draft="List all events of TITLE, each with its hours from admission.",
)


class Options(KindOptions):
    """When two events are taken for one."""

    threshold: float = Field(0.75, gt=0, le=1)
    embeddings: str = ""


class Events(Kind):
    """A list of events, matched one to one to gold; a pair counts as much as its times agree."""

    about = "findings with their time in hours from admission"
    Options = Options
    teaching = TEACHING
    listed = True

    @property
    def annotation(self) -> Any:
        """A list of events."""
        return list[Event]

    def schema(self, max_tokens: int) -> dict[str, Any]:
        """Return a list of objects of event and hours."""
        event = {
            "type": "object",
            "properties": {"event": {"type": "string"}, "hours": {"type": ["number", "null"]}},
            "required": ["event", "hours"],
            "additionalProperties": False,
        }
        most = max(8, max_tokens // TOKENS_AN_EVENT)
        return {"type": "array", "items": event, "maxItems": most}

    def asked(self, keys: Items) -> str:
        """Ask for a list of objects."""
        which = (
            f"{keys[0]} is the list" if len(keys) == 1 else f"each of {', '.join(keys)} is a list"
        )
        hours = "hours (a number: hours from admission, negative before it, null if not known)"
        return f"{which} of objects of event (in the report's words) and {hours}"

    def read(self, value: object) -> tuple[list[str], str]:
        """Return the events of a list of objects, pairs or items."""
        if isinstance(value, dict):
            known = next((own for own in value.values() if isinstance(own, list)), None)
            value = [value] if "event" in value or known is None else known
        values = value if isinstance(value, list | tuple) else [value] if value else []
        events = [event for one in values if (event := _event(one))]
        lost = len(values) - len(events)
        fault = f"{lost} of {len(values)} events cannot be read" if lost else ""
        return list(dict.fromkeys(_item(*event) for event in events)), fault

    def salvaged(self, text: str) -> object | None:
        """Return the complete objects of a list that breaks off."""
        found = []
        for match in _OBJECT.finditer(text):
            try:
                found.append(json.loads(match[0]))
            except ValueError:
                continue
        return [one for one in found if isinstance(one, dict) and "event" in one] or None

    def merged(self, text: str, found: Sequence[Items]) -> list[str]:
        """Join events, the same one at the same time once."""
        every = [item for items in found for item in items]
        kept = {
            (fold(event).text, hours): item for item in every for hours, event in [parsed(item)]
        }
        return list(kept.values())

    def quoted(self, item: str) -> str | None:
        """Return the event, which is mostly in the report's words."""
        return parsed(item)[1]

    def plain(self, items: Items) -> Any:
        """Return a list of objects."""
        return [{"event": event, "hours": hours} for hours, event in map(parsed, items)]

    def told(self, item: str) -> dict[str, Any]:
        """Return event and hours."""
        hours, event = parsed(item)
        return {"event": event, "hours": hours}

    def score(self, text: str, gold: Items, predicted: Items) -> Judged:
        """Return F1 over events, each matched pair counting as much as its times agree.

        They agree by 1 - ln(1 + difference in hours) / ln(1 + a year), 0 where only one is known.
        """
        wanted, given = _distinct(gold), _distinct(predicted)
        pairs = self._pairs(wanted, given)
        worth = sum(agreement(wanted[i][0], given[j][0]) for i, j in pairs)
        value = 2 * worth / (len(wanted) + len(given)) if wanted or given else 1.0
        return Judged(
            score=value,
            reason=_reason(wanted, given, pairs),
            predicted=len(given),
            gold=len(wanted),
            ungrounded=sum(not ground(text, event).spans for _, event in given),
        )

    def hits(self, gold: Items, found: Items) -> tuple[set[str], set[str]]:
        """Return the events that are matched."""
        wanted, given = _distinct(gold), _distinct(found)
        pairs = self._pairs(wanted, given)
        return {_item(*wanted[i]) for i, _ in pairs}, {_item(*given[j]) for _, j in pairs}

    def metrics(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return those of textual time series; see `_timeline.figures`."""
        reports, predicted = [], 0
        for _, gold, found in cells:
            wanted, given = _distinct(gold), _distinct(found)
            predicted += len(given)
            pairs = dict(self._pairs(wanted, given))
            times = [given[pairs[i]][0] if i in pairs else None for i in range(len(wanted))]
            rows = zip(range(len(wanted)), times, strict=True)
            reports.append([Matched(i in pairs, wanted[i][0], hours) for i, hours in rows])
        return figures(reports, predicted)

    def guesses(self, cases: Sequence[Case]) -> dict[str, Guess]:
        """Return every sentence as an event at admission."""
        return {"every sentence at admission": _sentences}

    def shown(self, item: str) -> str:
        """Return the event after its time."""
        hours, event = parsed(item)
        return f"{'time unknown' if hours is None else f'{hours:+g} h'}: {event}"

    def figure(self, cells: Sequence[Cell]) -> str:
        """Return a timeline of every report: gold above, answers below, matched ones filled."""
        lines = [Markup('<p class="small">{}</p>').format(_LEGEND)]
        for case, gold, found in cells:
            wanted, given = _distinct(gold), _distinct(found)
            lines.append(drawn(case, wanted, given, self._pairs(wanted, given)))
        return Markup("").join(lines)

    def _pairs(self, gold: Sequence[Timed], found: Sequence[Timed]) -> list[tuple[int, int]]:
        """Match events one to one, for as much agreement of times as there can be."""
        one, two = [event for _, event in gold], [event for _, event in found]
        alike = _similar(tuple(one), tuple(two), self.options.embeddings)
        worth = [[agreement(a, b) for b, _ in found] for a, _ in gold]
        return paired(alike, worth, self.options.threshold)


def parsed(item: str) -> Timed:
    """Return hours and event of an item."""
    match = _ITEM.fullmatch(item)
    if not match:
        return None, item
    return None if match[1] == "?" else float(match[1]), match[2]


def _event(value: object) -> Timed | None:
    hours: object = None
    if isinstance(value, dict):
        event = next((value[n] for n in ("event", "name", "finding", "text") if n in value), "")
        hours = next((value[n] for n in ("hours", "time", "hour") if n in value), None)
    elif isinstance(value, list | tuple) and value:
        event, hours = value[0], value[1] if len(value) > 1 else None
    elif isinstance(value, str):
        hours, event = parsed(value)
    else:
        return None
    told = " ".join(str(event or "").split())
    return (hours_of(hours), told) if told else None


def _item(hours: float | None, event: str) -> str:
    return f"{'?' if hours is None else f'{hours:.10g}'} h: {event}"


def _distinct(items: Items) -> list[Timed]:
    """Return the events of a cell, each once, in an order that does not hang on theirs."""
    known = {(fold(event).text, hours): (hours, event) for hours, event in map(parsed, items)}
    return [known[key] for key in sorted(known, key=lambda k: (k[0], k[1] is None, k[1] or 0.0))]


@lru_cache(maxsize=1 << 12)
def _similar(one: tuple[str, ...], two: tuple[str, ...], model: str) -> list[list[float]]:
    """Return the similarity of events, 0 to 1: of their words, or of a model's embeddings."""
    if not one or not two:
        return [[] for _ in one]
    if model:
        import numpy as np

        a, b = (np.array(vectors(model, side)) for side in (one, two))
        cosines: list[list[float]] = (a @ b.T).tolist()
        return cosines
    from rapidfuzz import fuzz, process

    folded = [[fold(event).text for event in side] for side in (one, two)]
    table = process.cdist(*folded, scorer=fuzz.token_sort_ratio)
    return [[float(value) / 100 for value in row] for row in table]


def _sentences(case: Case) -> list[str]:
    bodies = case.sections.values()
    return [_item(0.0, s.strip()) for b in bodies for s in _SENTENCE.split(b) if s.strip()]


def _reason(gold: Sequence[Timed], found: Sequence[Timed], pairs: Sequence[tuple[int, int]]) -> str:
    if not gold and not found:
        return "rightly empty"
    left = [event for i, (_, event) in enumerate(gold) if i not in dict(pairs)]
    taken = {j for _, j in pairs}
    extra = [event for j, (_, event) in enumerate(found) if j not in taken]
    off = sorted(pairs, key=lambda p: agreement(gold[p[0]][0], found[p[1]][0]))[:1]
    told = [f"{len(pairs)} of {len(gold)} events found"]
    told += [f"missed: {', '.join(left[:3])}"] if left else []
    told += [f"wrong: {', '.join(extra[:3])}"] if extra else []
    for i, j in off:
        if gold[i][0] != found[j][0]:
            told.append(f"{gold[i][1]} is at {gold[i][0]} h, not {found[j][0]}")
    text = "; ".join(told)
    return text if len(text) <= 300 else f"{text[:299]}…"
