"""The seam of all formats: what a program asks, cut where the report stands, and who writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.program import Part
    from crb_dspy.saved import Saved

# What a program does with a report, and what a format may or may not take along.
NEEDS = {
    "layout": "the layout of the prompt, the report first",
    "marks": "the space that breaks control marks in a report",
    "schema": "the JSON schema that answers are held to",
    "settings": "temperature and token limit",
    "parsing": "the mending of irregular answers",
    "reasoning": "chain of thought",
    "second_pass": "the second pass over a report",
    "sections": "the choice of sections that a category is shown",
    "pieces": "the reading of long reports in pieces",
    "grounding": "the dropping of quotes that are not in the report",
    "classifier": "the sentence classifier beside the model, what it shows, the nearest examples",
    "kinds": "how answers are read and scored that are no lists of quotes",
    "pruning": "the second look that leaves out quotes",
    "whether": "the question that comes first: whether there is anything of a category",
    "silence": "the leaving empty by the model's own probability of an empty list",
}
ALL = frozenset(NEEDS)
LOOKS = frozenset({"whether", "pruning", "silence"})
# The variable by which an artefact is handed a key while it is checked, whatever the provider.
KEY = "CRB_DSPY_API_KEY"

# The arguments of a chat completion that an artefact gives for a prompt, a report and what was
# found before: `messages`, and `response_format`, `max_tokens`, `temperature` where it has them.
Call = dict[str, Any]
Render = Callable[[str, str, Sequence[str]], Call]
# Quotes by category, by case; None where no answer could be used.
Quotes = Sequence[str] | None
Findings = Mapping[str, Mapping[str, Quotes]]

_REPORT, _FOUND = "\0report\0", "\0found\0"


@dataclass(frozen=True)
class Prompt:
    """One predictor's prompt: `before`, the report, `middle`, what was found, `after`.

    `repeats` marks a second pass, the only kind that shows what was found. `demonstrations` are
    those it shows, as DSPy holds them. `look` is which of `LOOKS` it serves, "" for the answer
    itself.
    """

    name: str
    part: str
    label: str
    keys: tuple[str, ...]
    titles: Mapping[str, str]
    system: str
    before: str
    middle: str
    after: str
    schema: Mapping[str, Any]
    max_tokens: int
    instruction: str
    demonstrations: tuple[Mapping[str, Any], ...]
    reasoning: bool
    repeats: bool
    look: str = ""

    @property
    def again(self) -> bool:
        """Whether it shows what was found."""
        return self.repeats or self.look == "pruning"

    @property
    def need(self) -> str:
        """Which of `NEEDS` it serves, "" for the answer itself."""
        return self.look or ("second_pass" if self.repeats else "")

    @property
    def response_format(self) -> dict[str, Any]:
        """The schema in the shape of OpenAI's API."""
        inner = {"name": "answer", "schema": self.schema, "strict": True}
        return {"type": "json_schema", "json_schema": inner}


@dataclass(frozen=True)
class Export:
    """What is exported: a program, the prompts that the format carries, and perhaps texts.

    `reports` are read by a format that holds some, `cases` become its test cases; `dropped`
    says that demonstrations were left out on request.
    """

    saved: Saved
    prompts: tuple[Prompt, ...]
    reports: tuple[Case, ...] = ()
    cases: tuple[Case, ...] = ()
    dropped: bool = False

    @property
    def first(self) -> list[Prompt]:
        """The prompts of the first pass, one a part."""
        return [prompt for prompt in self.prompts if not prompt.need]


@dataclass(frozen=True)
class Endpoint:
    """Where the real model answers: LiteLLM's arguments, and whether it keeps to a schema.

    `context` is the tokens that prompt and answer may have together, None if unknown.
    """

    arguments: Mapping[str, Any]
    structured: bool
    context: int | None = None


class Exporter:
    """A format. Subclasses say what it carries, write it, and read it back by its own rules."""

    name: ClassVar[str]
    about: ClassVar[str]
    carries: ClassVar[frozenset[str]]
    # Whether it holds the reports of --input.
    wants_reports: ClassVar[bool] = False
    # Whether it holds the cases of --data.
    wants_cases: ClassVar[bool] = False
    # Whether it reads answers itself, and can read lists of quotes alone.
    quotes_only: ClassVar[bool] = False
    # Whether what it writes is run by DSPy.
    needs_dspy: ClassVar[bool] = False

    def write(self, export: Export, folder: Path) -> None:
        """Write the files of an export; equal programs give equal bytes."""
        raise NotImplementedError

    def reader(self, export: Export, folder: Path) -> Render | None:
        """Return what renders the written files as their own tool would, None if nothing can.

        It must not go through this project's adapter.
        """
        return None

    def shown(self, report: str) -> str:
        """Return a report as this format can show it; the same text but for stated losses."""
        return report

    def faults(self, export: Export, folder: Path) -> list[str]:
        """Return what is wrong with files that have no messages to compare."""
        return []

    def run(
        self, export: Export, folder: Path, cases: Sequence[Case], endpoint: Endpoint
    ) -> Findings | None:
        """Run the artefact by itself on cases; None where it is not a program."""
        return None

    def publish(self, export: Export, folder: Path) -> list[str]:
        """Put a checked export where it belongs beyond its folder; return what was done."""
        return []


def prompts_of(saved: Saved) -> tuple[Prompt, ...]:
    """Return the prompts of a program, in the order in which they are asked."""
    room = saved.origin.max_answer_tokens or 0
    return tuple(
        replace(prompt, max_tokens=max(prompt.max_tokens, room))
        for name, part in saved.program.parts.items()
        for prompt in _prompts(name, part)
    )


def carried(exporter: Exporter, saved: Saved) -> tuple[Prompt, ...]:
    """Return the prompts of a program that a format carries."""
    lost = {need for need in ("second_pass", *LOOKS) if need not in exporter.carries}
    return tuple(prompt for prompt in prompts_of(saved) if prompt.need not in lost)


def _prompts(name: str, part: Part) -> Iterator[Prompt]:
    own = sorted(part.named_predictors(), key=lambda pair: "found" in _inputs(pair[1]))
    for number, (label, predictor) in enumerate([*own, *part.looks.items()]):
        yield _prompt((name, label, number), part, predictor)


def predictors(part: Part) -> dict[str, Any]:
    """Return all that a part asks, by label."""
    return {**dict(part.named_predictors()), **part.looks}


def _inputs(predictor: Any) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = predictor.signature.input_fields
    return inputs


def _prompt(place: tuple[str, str, int], part: Part, predictor: Any) -> Prompt:
    from crb_dspy.program import prompt as texts
    from crb_dspy.program.yes_no import TOKENS

    name, label, number = place
    signature = predictor.signature
    if not texts.is_extraction(signature):
        from crb_dspy.errors import UserError

        raise UserError(f"part '{name}' asks about something else than a report: not exportable")
    repeats = "found" in _inputs(predictor)
    look = label.partition(" ")[0] if label in part.looks else ""
    keys = texts.categories_of(signature)
    tokens = TOKENS * len(keys) if look == "whether" else part.max_tokens
    system, user = messages_of(predictor, _REPORT, [_FOUND] if repeats else [])
    before, _, rest = user["content"].partition(_REPORT)
    middle, mark, after = rest.partition(texts.already_quoted([_FOUND], texts.said_of(signature)))
    shown = [demo for demo in predictor.demos if texts.demonstrations(signature, [demo])]
    return Prompt(
        name=f"{name}_{label.replace(' ', '_')}" if number else name,
        part=name,
        label=label,
        keys=tuple(keys),
        titles=texts.titles_of(signature),
        system=system["content"],
        before=before,
        middle=middle if mark else "",
        after=after if mark else rest,
        schema=texts.answer_schema(signature, tokens),
        max_tokens=tokens,
        instruction=signature.instructions,
        demonstrations=tuple(shown),
        reasoning="reasoning" in signature.output_fields,
        repeats=repeats and not look,
        look=look,
    )


def messages_of(predictor: Any, report: str, found: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return what a predictor sends, as the compiled program renders it."""
    from crb_dspy.program.prompt import ReportFirst

    inputs: dict[str, Any] = {"report": report}
    if "found" in _inputs(predictor):
        inputs["found"] = list(found)
    rendered: list[dict[str, str]] = ReportFirst().format(
        predictor.signature, predictor.demos, inputs
    )
    return rendered


def own_settings(export: Export, prompt: Prompt) -> Call:
    """Return what the program sends beside the messages of a prompt."""
    return {
        "response_format": prompt.response_format,
        "max_tokens": prompt.max_tokens,
        "temperature": export.saved.origin.temperature,
    }


def beside(export: Export) -> dict[str, Any]:
    """Return what the program sends beside a prompt and its settings; headers are for who asks."""
    sent = export.saved.origin.sent
    return {name: its for name, its in sent.items() if name not in ("headers", "extra_headers")}


def used(saved: Saved) -> frozenset[str]:
    """Return the needs that a program has."""
    parts = saved.program.parts.values()
    prompts = prompts_of(saved)
    limited = bool(saved.origin.context) or saved.origin.model.startswith("local/")
    special = {
        "reasoning": any(prompt.reasoning for prompt in prompts),
        "second_pass": any(part.twice for part in parts),
        "sections": any(part.chooses_sections for part in parts),
        "pieces": limited,
        "grounding": any(not part.keep_ungrounded for part in parts),
        "classifier": any(part.support for part in parts),
        "kinds": not all(kind.verbatim for kind in saved.schema.kinds.values()),
    }
    looked = frozenset[str]().union(*map(looks, parts))
    always = ALL - special.keys() - LOOKS
    return always | looked | {need for need, wanted in special.items() if wanted}


def looks(part: Part) -> frozenset[str]:
    """Return which of `LOOKS` a part has."""
    if not part.support:
        return frozenset()
    use = part.support.use
    wanted = {"whether": use.whether, "pruning": use.pruned, "silence": use.silence < 1}
    return frozenset(need for need, its in wanted.items() if its)


def lacking(exporter: Exporter, saved: Saved) -> list[str]:
    """Return what a program needs and a format cannot carry, in the order of `NEEDS`."""
    wanted = used(saved)
    return [need for need in NEEDS if need in wanted and need not in exporter.carries]
