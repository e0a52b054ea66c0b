"""Extraction programs: parts that each read a case and return quotes for some categories."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import dspy

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Category
from crb_dspy.data.words import Frame
from crb_dspy.errors import one_line
from crb_dspy.program.prompt import ReportFirst, categories_of
from crb_dspy.program.showing import cut
from crb_dspy.program.signatures import pruning, signature_for
from crb_dspy.program.silence import ALTERNATIVES
from crb_dspy.program.yes_no import TOKENS, whether
from crb_dspy.quotes.folding import fold
from crb_dspy.quotes.grounding import Status, ground
from crb_dspy.quotes.pieces import pieces
from crb_dspy.retrieval.support import Support
from crb_dspy.retrieval.use import Use

Demonstration = dict[str, Any]
# A monolithic answer is not given the sum of all budgets: few reports fill every category.
MOST_TOKENS = 2048
REASONING_TOKENS = 256
DENIED = "not asked: the model says that there is nothing of it"


class Part(dspy.Module):  # type: ignore[misc]
    """The unit of tuning: one predictor that reads a case for its categories.

    `forward(case)` returns a Prediction with a list of items for each key, and `irregular`, a
    text by key where an answer had to be mended or quotes a demonstration; `silent`, why a key was
    not asked about; `told`, whether the server told how probable an empty list was. Errors of the
    model or of parsing are raised.
    """

    keep_ungrounded = True
    # Whether it asks a second time, and whether it may show less than the whole report: formats of
    # export that can't say so tell it.
    twice = False
    chooses_sections = False
    # A sentence classifier beside the model, if there is one, and how a part that wants one from
    # the start uses it.
    support: Support | None = None
    use: Use | None = None

    def __init__(self, categories: Sequence[Category], *, cot: bool = False) -> None:
        super().__init__()
        self.kinds = {category.key: category.holds for category in categories}
        self.keys = tuple(self.kinds)
        budgets = [category.max_tokens for category in categories]
        tokens = min(max(MOST_TOKENS, *budgets), sum(budgets))
        self.max_tokens = tokens + (REASONING_TOKENS if cot else 0)
        self.predict = dspy.Predict(signature_for(categories, cot=cot))

    def forward(self, case: Case) -> dspy.Prediction:
        """Ask for this part's categories; a report that is too long is read in pieces."""
        silent = self.silent(case)
        text = self.shown(case)
        denied = self._denied(text) if len(silent) < len(self.keys) else []
        silent = dict.fromkeys(denied, DENIED) | silent
        wanted = len(silent) < len(self.keys)
        answers = self.answers(case, text) if wanted and text.strip() else []
        quotes, irregular = {}, {}
        for key in self.keys:
            kind = self.kinds[key]
            # Of an adapter that is not this project's, what it made of the field's type.
            found = [
                list(answer[key] or []) if kind.verbatim else kind.read(answer[key])[0]
                for answer in answers
            ]
            merged = found[0] if len(found) == 1 else kind.merged(text, found)
            faults = [answer.irregular[key] for answer in answers if key in answer.irregular]
            quotes[key], leaks = self._checked(text, key, merged, case)
            if (support := self.support) and kind.sentences:
                if key in denied:
                    quotes[key] = []
                elif self._silent(key, answers):
                    quotes[key] = []
                    least = f"{support.use.silence:g}"
                    silent[key] = f"left empty: the model itself gave [] at least {least}"
                if support.use.pruned and quotes[key]:
                    quotes[key] = self._pruned(text, key, quotes[key])
                quotes[key] = support.joined(case, key, quotes[key])
            if faults + leaks:
                irregular[key] = "; ".join(faults + leaks)
        told = any(answer.get("silence") for answer in answers)
        return dspy.Prediction(**quotes, irregular=irregular, silent=silent, told=told)

    def answers(self, case: Case, text: str) -> list[dspy.Prediction]:
        """Return an answer for each piece of a text that is read at once."""
        nearest = self.nearest(case)
        texts = self.pieces(text, nearest)
        return [self.ask(piece, nearest) if nearest else self.ask(piece) for piece in texts]

    def ask(self, report: str, nearest: Sequence[Demonstration] = ()) -> dspy.Prediction:
        """Ask the model about one text, in this project's layout unless DSPy has another.

        `nearest` are demonstrations beside those that every report is shown.
        """
        given = {"demos": [*self.predict.demos, *nearest]} if nearest else {}
        config = {"max_tokens": self.max_tokens}
        if self.support and self.support.use.silence < 1:
            config["logprobs"] = ALTERNATIVES
        if dspy.settings.adapter:
            return self.predict(report=report, config=config, **given)
        with dspy.context(adapter=ReportFirst()):
            return self.predict(report=report, config=config, **given)

    def nearest(self, case: Case) -> list[Demonstration]:
        """Return the demonstrations that are chosen for a case, none without a classifier."""
        if not self.support or not self._sentences:
            return []
        return [*self.support.examples(case, self.keys)]

    def shown(self, case: Case) -> str:
        """Return the text of a case that the model reads: what a classifier chose, if it does."""
        if self.support and self.support.use.reads and self._sentences:
            return self.support.excerpt(case, self.keys)
        return self.text_for(case)

    def silent(self, case: Case) -> dict[str, str]:
        """Return by category why the model is not asked about a case; nothing for those it is."""
        own = [key for key, kind in self.kinds.items() if kind.sentences]
        return self.support.why_silent(case, own) if self.support else {}

    @property
    def _sentences(self) -> bool:
        """Whether a sentence classifier knows all of its categories."""
        return all(kind.sentences for kind in self.kinds.values())

    def text_for(self, case: Case) -> str:
        """Return the text of a case that this part is shown; nothing is asked about none."""
        return case.text

    @property
    def looks(self) -> dict[str, dspy.Predict]:
        """What else is asked about a report because of its classifier, by name."""
        use, signature = self.support and self.support.use, self.predict.signature
        own = [key for key, kind in self.kinds.items() if kind.sentences]
        if not use or not own:
            return {}
        first = {"whether": dspy.Predict(whether(signature, own))} if use.whether else {}
        again = own if use.pruned else ()
        return first | {f"pruning {key}": dspy.Predict(pruning(signature, key)) for key in again}

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

    def with_support(self, support: Support | None) -> Self:
        """Return a copy with this classifier beside the model."""
        tuned = copy.deepcopy(self)
        tuned.support = support
        return tuned

    def demonstration(self, case: Case, findings: Mapping[str, Sequence[str]]) -> Demonstration:
        """Return a case with findings as a short demonstration for this part."""
        own = {key: list(findings.get(key, ())) for key in self.keys}
        report, quotes = cut(self.text_for(case), own, self.kinds)
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
        own = {key: kept.get(key) or [] for key in self.keys}
        report, quotes = cut(kept["report"], own, self.kinds)
        return {**kept, "report": report, **quotes}

    def pieces(self, text: str, nearest: Sequence[Demonstration] = ()) -> list[str]:
        """Return what of a text is asked about at once; ValueError if the model has no room."""
        engine = getattr(self.predict.lm or dspy.settings.lm, "engine", None)
        context = getattr(engine, "context", None)
        if engine is None or context is None:
            return [text]
        question = "".join(message["content"] for message in self.messages("", nearest))
        # Some tokens are the chat template's.
        answer = max(self.max_tokens, getattr(engine, "room", 0))
        room = context - answer - 64
        # No token is shorter than a byte, and counting may mean starting the model.
        if len((question + text).encode("utf-8", "replace")) <= room:
            return [text]
        return pieces(text, room - engine.count(question), engine.count)

    def messages(self, report: str, nearest: Sequence[Demonstration] = ()) -> list[dict[str, str]]:
        """Return the prompt about a text, exactly as it is sent."""
        rendered: list[dict[str, str]] = ReportFirst().format(
            self.predict.signature, [*self.predict.demos, *nearest], {"report": report}
        )
        return rendered

    def framed(self, frame: Frame) -> Self:
        """Return a copy that shares this frame with other parts, so that they share a prompt."""
        tuned = copy.deepcopy(self)
        for _, predictor in tuned.named_predictors():
            signature = predictor.signature.with_updated_fields("report", frame=frame)
            predictor.signature = signature
        return tuned

    def _silent(self, key: str, answers: Sequence[dspy.Prediction]) -> bool:
        """Say whether all answers left a category empty but for a chance, where servers tell it."""
        if not self.support or not answers:
            return False
        known = (float((answer.get("silence") or {}).get(key, 0.0)) for answer in answers)
        return min(known) >= self.support.use.silence

    def _denied(self, text: str) -> list[str]:
        """Ask, where that comes first, what a text has nothing of."""
        asking = self.looks.get("whether")
        if not (asking and text.strip()):
            return []
        keys = categories_of(asking.signature)
        limit = {"max_tokens": TOKENS * len(keys)}
        with dspy.context(adapter=dspy.settings.adapter or ReportFirst()):
            told = [asking(report=piece, config=limit) for piece in self.pieces(text)]
        return [key for key in keys if not any(answer[key] for answer in told)]

    def _pruned(self, text: str, key: str, quotes: list[str]) -> list[str]:
        """Ask which quotes belong to a category, and keep those that the answer names."""
        looking = self.looks[f"pruning {key}"]
        kept: list[str] = []
        with dspy.context(adapter=dspy.settings.adapter or ReportFirst()):
            for piece in self.pieces(text):
                limit = {"max_tokens": self.max_tokens}
                kept += looking(report=piece, found=quotes, config=limit)[key]
        named = [fold(quote).text for quote in kept]
        return [quote for quote in quotes if fold(quote).text in named]

    def _checked(
        self, text: str, key: str, items: list[str], case: Case
    ) -> tuple[list[str], list[str]]:
        """Return the items to keep, and a fault for each quote that a demonstration gave away."""
        kind = self.kinds[key]
        quotes = {item: quote for item in items if (quote := kind.quoted(item)) is not None}
        loose = {
            i for i, quote in quotes.items() if ground(text, quote).status is Status.UNGROUNDED
        }
        demos = [*self.predict.demos, *(self.nearest(case) if loose else ())]
        shown = [demo["report"] for demo in demos if demo.get("report")]
        leaks = [
            f"from a demonstration: {quotes[item][:60]!r}"
            for item in items
            if item in loose and any(ground(report, quotes[item]).spans for report in shown)
        ]
        dropped = loose if kind.verbatim and not self.keep_ungrounded else ()
        return [item for item in items if item not in dropped], leaks


@dataclass(frozen=True)
class Reading:
    """What one part made of one case: items by key, what was mended, or the error."""

    quotes: Mapping[str, Sequence[str]]
    irregular: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    # By category, why the model was not asked.
    silent: Mapping[str, str] = field(default_factory=dict)
    # Whether the server told how probable an empty list was.
    told: bool = False


def attempt(part: Part, case: Case) -> Reading:
    """Ask one part about one case; whatever goes wrong becomes the reading's error."""
    try:
        prediction = part(case=case)
        quotes = {key: list(prediction[key] or []) for key in part.keys}
        irregular, silent = (prediction.get(name) or {} for name in ("irregular", "silent"))
        return Reading(quotes, irregular, silent=silent, told=bool(prediction.get("told")))
    except Exception as error:  # noqa: BLE001  the one place where a failure becomes data
        nothing: dict[str, list[str]] = {key: [] for key in part.keys}
        return Reading(nothing, error=f"{type(error).__name__}: {one_line(error)}")
