"""Extraction programs: parts that each read a case and return quotes for some categories."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import dspy

from crb_dspy.cases import Case
from crb_dspy.errors import one_line
from crb_dspy.excerpts import excerpt
from crb_dspy.grounding import Placement, Status, ground
from crb_dspy.pieces import merge, pieces
from crb_dspy.prompt import ReportFirst
from crb_dspy.schema import Category, Schema

Demonstration = Mapping[str, Any]
# A monolithic answer is not given the sum of all budgets: few reports fill every category.
MOST_TOKENS = 2048
REASONING_TOKENS = 256


def signature_for(categories: Sequence[Category], *, cot: bool = False) -> type[dspy.Signature]:
    """Return the signature that asks one report for the quotes of some categories."""
    one = len(categories) == 1
    instruction = (
        categories[0].instruction
        if one
        else "Quote every finding of the report in the categories below."
    )
    fields: dict[str, Any] = {"report": (str, dspy.InputField())}
    if cot:
        fields["reasoning"] = (str, dspy.OutputField(desc="steps towards the quotes"))
    for category in categories:
        described = dspy.OutputField(desc=f"{category.title}: {category.guidance}")
        fields[category.key] = (list[str], described)
    signature: type[dspy.Signature] = dspy.make_signature(fields, instruction)
    return signature


class Part(dspy.Module):  # type: ignore[misc]
    """The unit of tuning: one predictor that reads a case for its categories.

    `forward(case)` returns a Prediction with a list of quotes for each key, and `irregular`, a
    text by key where an answer had to be mended or quotes a demonstration. Errors of the model
    or of parsing are raised.
    """

    keep_ungrounded = True

    def __init__(self, categories: Sequence[Category], *, cot: bool = False) -> None:
        super().__init__()
        self.keys = tuple(category.key for category in categories)
        tokens = min(MOST_TOKENS, sum(category.max_tokens for category in categories))
        self.max_tokens = tokens + (REASONING_TOKENS if cot else 0)
        self.predict = dspy.Predict(signature_for(categories, cot=cot))

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask for this part's categories; a report that is too long is read in pieces."""
        text = self.read(case)
        answers = [self.ask(piece) for piece in self.pieces(text)] if text.strip() else []
        quotes, irregular = {}, {}
        for key in self.keys:
            found = [list(answer[key] or []) for answer in answers]
            merged = found[0] if len(found) == 1 else merge(text, found)
            faults = [answer.irregular[key] for answer in answers if key in answer.irregular]
            quotes[key], leaks = self._checked(text, merged)
            if faults + leaks:
                irregular[key] = "; ".join(faults + leaks)
        return dspy.Prediction(**quotes, irregular=irregular)

    def ask(self, report: str) -> dspy.Prediction:
        """Ask the model about one text."""
        return self.predict(report=report, config={"max_tokens": self.max_tokens})

    def read(self, case: Case) -> str:
        """Return the text of a case that this part is shown; nothing is asked about none."""
        return case.text

    @property
    def units(self) -> dict[str, Part]:
        """What a recipe can tune on its own: this part."""
        return {"": self}

    def with_units(self, units: Mapping[str, Part]) -> Part:
        """Return the tuned part."""
        return units[""]

    @property
    def instruction(self) -> str:
        """What the model is told to do."""
        return str(self.predict.signature.instructions)

    def with_instruction(self, instruction: str) -> Self:
        """Return a copy that is told this instead."""
        tuned = copy.deepcopy(self)
        tuned.predict.signature = tuned.predict.signature.with_instructions(instruction)
        return tuned

    def demonstration(self, case: Case, findings: Mapping[str, Sequence[str]]) -> Demonstration:
        """Return a case with findings as a short demonstration for this part."""
        own = {key: list(findings.get(key, ())) for key in self.keys}
        report, quotes = excerpt(self.read(case), own)
        return {"case": case.id, "report": report, **quotes}

    def with_demonstrations(self, demonstrations: Iterable[Demonstration]) -> Self:
        """Return a copy that shows these demonstrations, reduced to the fields of its signature."""
        tuned = copy.deepcopy(self)
        tuned.predict.demos = [self._tidy(demonstration) for demonstration in demonstrations]
        return tuned

    def _tidy(self, demonstration: Demonstration) -> dict[str, Any]:
        # DSPy's own few-shot recipes put whole Examples here, other categories' gold included.
        fields = ["case", *self.predict.signature.fields]
        kept = {name: demonstration[name] for name in fields if name in demonstration}
        report, quotes = excerpt(kept["report"], {key: kept.get(key) or [] for key in self.keys})
        return {**kept, "report": report, **quotes}

    def pieces(self, text: str) -> list[str]:
        """Return what of a text is asked about at once; ValueError if the model has no room."""
        engine = getattr(self.predict.lm or dspy.settings.lm, "engine", None)
        context = getattr(engine, "context", None)
        if engine is None or context is None:
            return [text]
        question = "".join(message["content"] for message in self.messages(""))
        # Some tokens are the chat template's.
        room = context - self.max_tokens - 64
        # No token is shorter than a byte, and counting may mean starting the model.
        if len((question + text).encode("utf-8", "replace")) <= room:
            return [text]
        return pieces(text, room - engine.count(question), engine.count)

    def messages(self, report: str) -> list[dict[str, str]]:
        """Return the prompt about a text, exactly as it is sent."""
        rendered: list[dict[str, str]] = ReportFirst().format(
            self.predict.signature, self.predict.demos, {"report": report}
        )
        return rendered

    def _checked(self, text: str, quotes: list[str]) -> tuple[list[str], list[str]]:
        """Return the quotes to keep, and a fault for each that a demonstration gave away."""
        loose = {quote for quote in quotes if ground(text, quote).status is Status.UNGROUNDED}
        shown = [demo["report"] for demo in self.predict.demos if demo.get("report")]
        leaks = [
            f"from a demonstration: {quote[:60]!r}"
            for quote in quotes
            if quote in loose and any(ground(report, quote).spans for report in shown)
        ]
        return [q for q in quotes if self.keep_ungrounded or q not in loose], leaks


@dataclass(frozen=True)
class Reading:
    """What one part made of one case: quotes by key, what was mended, or the error."""

    quotes: Mapping[str, Sequence[str]]
    irregular: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


class ExtractionProgram(dspy.Module):  # type: ignore[misc]
    """A strategy: which parts ask for which categories. Subclasses say it in `build`.

    `forward(case)` returns a Prediction with a list of quotes for every category key of the
    schema, and `findings`: the same with offsets in `case.text` and a status for each quote. A
    part that fails leaves its categories empty and is named in `errors`. Quotes that are not in
    the report are kept and marked, or dropped if `keep_ungrounded` is false.
    """

    def __init__(self, schema: Schema, *, keep_ungrounded: bool = True, **options: Any) -> None:
        super().__init__()
        self.keys = schema.keys
        self.names = []
        for name, part in self.build(schema, **options).items():
            part.keep_ungrounded = keep_ungrounded
            # As attributes, since names like `parts['GI']` are refused by MLflow.
            setattr(self, name, part)
            self.names.append(name)

    def build(self, schema: Schema, *_: Any, **options: Any) -> Mapping[str, Part]:
        """Return the parts by name; together they answer for every category.

        Keyword-only parameters of a subclass are its options.
        """
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order in which they are asked."""
        return {name: getattr(self, name) for name in self.names}

    @property
    def units(self) -> dict[str, Part]:
        """What a recipe that tunes the whole program at once can tune: the parts."""
        return self.parts

    def with_units(self, units: Mapping[str, Part]) -> Self:
        """Return a copy with these parts."""
        return self.with_parts(units)

    def with_parts(self, parts: Mapping[str, Part]) -> Self:
        """Return a copy in which the named parts are replaced."""
        tuned = copy.deepcopy(self)
        for name, part in parts.items():
            setattr(tuned, name, part)
        return tuned

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask every part, one after another."""
        readings = {name: attempt(part, case) for name, part in self.parts.items()}
        quotes: dict[str, Sequence[str]] = dict.fromkeys(self.keys, ())
        irregular: dict[str, str] = {}
        for reading in readings.values():
            quotes.update(reading.quotes)
            irregular.update(reading.irregular)
        errors = {name: reading.error for name, reading in readings.items() if reading.error}
        findings = {key: placed(case, found) for key, found in quotes.items()}
        return dspy.Prediction(**quotes, findings=findings, irregular=irregular, errors=errors)


def placed(case: Case, quotes: Sequence[str]) -> list[Placement]:
    """Return quotes with the places they can mean in `case.text`, and how they were found."""
    return [ground(case.text, quote) for quote in quotes]


def attempt(part: Part, case: Case) -> Reading:
    """Ask one part about one case; whatever goes wrong becomes the reading's error."""
    try:
        prediction = part(case=case)
        quotes = {key: list(prediction[key] or []) for key in part.keys}
        return Reading(quotes, prediction.get("irregular") or {})
    except Exception as error:  # noqa: BLE001  the one place where a failure becomes data
        nothing: dict[str, list[str]] = {key: [] for key in part.keys}
        return Reading(nothing, error=f"{type(error).__name__}: {one_line(error)}")


# What a recipe tunes: a part on its own, or jointly a whole program.
Tunable = Part | ExtractionProgram
