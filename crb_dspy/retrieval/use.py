"""How a part uses what a sentence classifier says of a report: what it asks, shows and keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from crb_dspy.data.cases import Case
from crb_dspy.quotes.grounding import ground
from crb_dspy.retrieval.sentences import SIZES, Size, Unit
from crb_dspy.retrieval.weighing import Views, Weighing, apart

# Sentences of a report that stand for it where nearest examples are sought.
TELLING = 3
GAP = "[...]"
# Why a category is not asked about whose classifier is taken alone.
INSTEAD = "not asked: the classifier stands in the place of the model"
# What decides how the model is asked, whatever becomes of its quotes.
ASKING = ("reads", "nearest", "empty", "pruned", "silence", "whether")


@dataclass(frozen=True)
class Use:
    """How a part uses a classifier of sentences, clauses or words.

    A category is asked about where some unit of the report reaches `floor` (with NEVER, nowhere);
    of the model's quotes those are kept that touch such a unit; units from `threshold` on are
    quoted whole (with NEVER, none is). A `weighing` decides about quotes and units instead. The
    model reads the report, or where `reads` is above 0 its sentences from there on, with their
    neighbours. It is shown the `nearest` annotated sentences of other reports with what was quoted
    from them, and `empty` ones that hold nothing.
    `pruned`: the model is asked a second time which of its quotes belong there. `silence`: the
    probability of `[]`, by the model's own account, from which on a category is left empty; at 1 no
    server is asked for it. `whether`: a question comes first, to answer with yes or no: whether the
    report has anything of a category.
    """

    # A threshold that no probability reaches.
    NEVER: ClassVar[float] = 2.0

    size: Size
    floor: float
    threshold: float
    reads: float = 0.0
    nearest: int = 0
    empty: int = 0
    pruned: bool = False
    silence: float = 1.0
    whether: bool = False
    weighing: Weighing | None = None

    @property
    def asking(self) -> bool:
        """Whether the model is ever asked."""
        return self.floor <= 1

    @property
    def showing(self) -> bool:
        """Whether it shows examples."""
        return bool(self.nearest or self.empty)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The units it needs to know of."""
        wanted = {self.size}
        if self.weighing or self.showing or self.reads:
            wanted |= {"sentences"}
        if self.weighing:
            wanted |= {self.weighing.fine}
        return tuple(size for size in SIZES if size in wanted)

    def over(self, other: Use) -> Use:
        """Return it with what `other` shows the model, so that the same is asked."""
        return replace(self, **{name: getattr(other, name) for name in ASKING})

    def why_silent(self, views: Views) -> str:
        """Return why a category is not asked about, "" if it is."""
        if not self.asking:
            return INSTEAD
        wanted = [(self.size, self.floor)] + ([("sentences", self.reads)] if self.reads else [])
        for size, least in wanted:
            highest = max(views[size][1], default=0.0)
            if highest < least:
                unit = size.removesuffix("s")
                return f"not asked: no {unit} reaches {least:g}, the highest has {highest:.2f}"
        return ""

    def kept(self, case: Case, key: str, views: Views, found: Sequence[str]) -> list[str]:
        """Return what the model's quotes and the classifier's units come to together."""
        if self.weighing:
            return self.weighing.quotes(case, key, views, found)
        units, likely = views[self.size]
        own = quoted(case.text, units, likely, self.threshold)
        kept = [quote for quote in found if self._supported(case.text, quote, units, likely)]
        return list(dict.fromkeys([*kept, *own]))

    def excerpt(self, case: Case, views: Sequence[Views]) -> str:
        """Return the sentences that may hold findings, with their neighbours, under headings."""
        units = views[0]["sentences"][0]
        holding = {
            number
            for own in views
            for number, likely in enumerate(own["sentences"][1])
            if likely >= self.reads
        }
        shown = sorted(n for n in range(len(units)) if {n - 1, n, n + 1} & holding)
        lines: list[str] = []
        for place, number in enumerate(shown):
            unit, last = units[number], shown[place - 1] if place else None
            before = units[last].heading if last is not None else None
            if unit.heading != before:
                lines += ["", f"## {unit.heading}"] if lines else [f"## {unit.heading}"]
            elif last != number - 1:
                lines.append(GAP)
            lines.append(case.text[unit.start : unit.end])
        return "\n".join(lines)

    def told(self, case: Case, views: Sequence[Views]) -> list[str]:
        """Return the sentences of a report that most likely hold findings."""
        units = views[0]["sentences"][0]
        columns = [own["sentences"][1] for own in views]
        likely = [max(row) for row in zip(*columns, strict=True)]
        best = sorted(range(len(units)), key=lambda n: (-likely[n], n))[:TELLING]
        return [case.text[units[n].start : units[n].end] for n in sorted(best)]

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, what is as usual left out; `Use.of` gives the same back."""
        table: dict[str, Any] = {
            "size": self.size,
            "floor": self.floor,
            "threshold": self.threshold,
        }
        usual = Use(self.size, self.floor, self.threshold)
        for name in ASKING:
            if (value := getattr(self, name)) != getattr(usual, name):
                table[name] = value
        return table | ({"weighing": self.weighing.plain()} if self.weighing else {})

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Use:
        """Return the use of `plain`; TypeError or KeyError for other tables."""
        weighing = plain.get("weighing")
        known = {name: value for name, value in plain.items() if name != "weighing"}
        return cls(**known, weighing=Weighing.of(weighing) if weighing else None)

    def _supported(
        self, text: str, quote: str, units: Sequence[Unit], likely: Sequence[float]
    ) -> bool:
        return any(
            start < unit.end and unit.start < end and probability >= self.floor
            for unit, probability in zip(units, likely, strict=True)
            for start, end in ground(text, quote).spans
        )


def quoted(
    text: str, units: Sequence[Unit], likely: Sequence[float], threshold: float
) -> tuple[str, ...]:
    """Return the texts of the units from the threshold on; those in a row are one quote."""
    spans: list[tuple[int, int]] = []
    last = -2
    for row, probability in enumerate(likely):
        if probability < threshold:
            continue
        unit = units[row]
        same = last == row - 1 and units[last].sentence == unit.sentence
        if same and not apart(text[units[last].end : unit.start]):
            spans[-1] = spans[-1][0], unit.end
        else:
            spans.append((unit.start, unit.end))
        last = row
    texts = (text[start:end].rstrip(" ,;") for start, end in spans)
    return tuple(text for text in texts if text)
