"""The prompt: the report first, the question last, so that a server computes the report once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

import dspy
from dspy.lm15 import Config, Message, Request, TextPart

from crb_dspy.data.kind import Kind, usual
from crb_dspy.data.words import Frame, framed, taught
from crb_dspy.files import legible
from crb_dspy.program.marks import defuse
from crb_dspy.program.reading import read
from crb_dspy.program.response import marks_of, text_of
from crb_dspy.program.showing import cut
from crb_dspy.program.silence import silences

# Reports whose half of the prompt is kept, at least one for each call that may be under way.
REPORTS = 256
# Signatures of which is kept what DSPy works out anew each time: more than any program has.
SIGNATURES = 128
_OPTIONS = ("max_tokens", "temperature", "seed", "logprobs")

P = ParamSpec("P")
T = TypeVar("T")


def _remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Work out once what depends on a signature alone."""
    kept: Callable[P, T] = lru_cache(maxsize=SIGNATURES)(function)  # type: ignore[assignment]
    return kept


@_remembered
def answer_schema(signature: type[dspy.Signature], max_tokens: int = 320) -> dict[str, Any]:
    """Return the JSON schema of an answer: reasoning, if any, then what each category holds.

    What they hold is bounded by what `max_tokens` can hold, against a model that is caught in a
    loop.
    """
    kinds = kinds_of(signature)
    properties = {
        name: kinds[name].schema(max_tokens) if name in kinds else {"type": "string"}
        for name in signature.output_fields
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class ReportFirst(dspy.Adapter):  # type: ignore[misc]
    """Render extraction prompts report first and parse their answers tolerantly.

    A signature with the input `report` (and perhaps `found`, what an earlier pass quoted) is an
    extraction; any other (an optimizer's own questions) is left to DSPy's ChatAdapter.
    Completions hold a list of items for each category and `irregular`, which says by category
    what was wrong with an answer that could be used all the same. AdapterParseError where it
    could not.
    """

    def __call__(
        self,
        lm: dspy.LM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Ask once and return one completion."""
        if not is_extraction(signature):
            # Optimizers show reports and quotes to the model that reflects.
            plain = {n: defuse(its) if isinstance(its, str) else its for n, its in inputs.items()}
            other: list[dict[str, Any]] = dspy.ChatAdapter()(lm, lm_kwargs, signature, demos, plain)
            return other
        options = {**lm.kwargs, **lm_kwargs}
        request = _request(lm, options, signature, halves(signature, demos, inputs))
        response = lm(request, rollout_id=options.get("rollout_id"))
        truncated, marks = response.finish_reason == "length", marks_of(response)
        if failed := marks.get("failed"):
            raise self._failed(signature, "", failed)
        found = self.parse(signature, text_of(response), truncated=truncated)
        if response.logprobs:
            found["silence"] = silences(response.logprobs, categories_of(signature))
        if note := marks.get("note"):
            faults = found["irregular"]
            keys = categories_of(signature)
            found["irregular"] = {
                key: "; ".join(filter(None, (note, faults.get(key)))) for key in keys
            }
        return [found]

    def format(
        self,
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Return the two messages of a prompt, exactly as they are sent."""
        content = "\n".join(halves(signature, demos, inputs))
        return [
            {"role": "system", "content": frame_of(signature).system},
            {"role": "user", "content": content},
        ]

    def parse(
        self, signature: type[dspy.Signature], completion: str, *, truncated: bool = False
    ) -> dict[str, Any]:
        """Return the fields of an answer; AdapterParseError if there is nothing to use."""
        kinds, titles = kinds_of(signature), titles_of(signature)
        answer = read(completion, kinds, truncated=truncated, titles=titles)
        if answer.failed:
            raise self._failed(signature, completion[:2000], answer.failed)
        extra = {"reasoning": answer.reasoning} if "reasoning" in signature.output_fields else {}
        return {**extra, **answer.findings, "irregular": answer.irregular}

    def _failed(self, signature: type[dspy.Signature], said: str, reason: str) -> Exception:
        failure: Exception = dspy.utils.exceptions.AdapterParseError(
            adapter_name=type(self).__name__, signature=signature, lm_response=said, message=reason
        )
        return failure


@_remembered
def is_extraction(signature: type[dspy.Signature]) -> bool:
    """Say whether a signature asks for quotes from a report."""
    return "report" in signature.input_fields and {"report", "found"}.issuperset(
        signature.input_fields
    )


@_remembered
def categories_of(signature: type[dspy.Signature]) -> tuple[str, ...]:
    """Return the category keys that a signature asks for."""
    return tuple(name for name in signature.output_fields if name != "reasoning")


@_remembered
def titles_of(signature: type[dspy.Signature]) -> dict[str, str]:
    """Return the titles of the categories that a signature asks for, by key."""
    fields = signature.output_fields
    described = {
        key: str(fields[key].json_schema_extra["desc"]) for key in categories_of(signature)
    }
    return {key: text.partition(":")[0] for key, text in described.items()}


@_remembered
def kinds_of(signature: type[dspy.Signature]) -> dict[str, Kind]:
    """Return what each category holds that a signature asks for."""
    fields = signature.output_fields
    extras = {key: fields[key].json_schema_extra or {} for key in categories_of(signature)}
    return {key: extra.get("kind") or usual() for key, extra in extras.items()}


@_remembered
def frame_of(signature: type[dspy.Signature]) -> Frame:
    """Return what a question shares with others: its program's frame, else that of its kinds."""
    extra = signature.input_fields["report"].json_schema_extra or {}
    return extra.get("frame") or framed([kind.frame for kind in kinds_of(signature).values()])


def halves(
    signature: type[dspy.Signature],
    demos: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
) -> tuple[str, str]:
    """Return the user message in two, to be joined by a line break.

    First the report and the rules, which all categories of a case share; then demonstrations,
    what was found before (if anything), instruction and format.
    """
    before = already_quoted(inputs.get("found") or (), said_of(signature))
    rest = demonstrations(signature, demos) + before + question(signature)
    return _shared(inputs["report"], frame_of(signature).rules), rest


@lru_cache(maxsize=REPORTS)
def _shared(report: str, rules: str) -> str:
    return f"<report>\n{defuse(report)}\n</report>\n\n{rules}\n"


@_remembered
def said_of(signature: type[dspy.Signature]) -> str:
    """Return what an answer of the categories is called: quoted, listed, answered."""
    return taught([kind.teaching for kind in kinds_of(signature).values()]).said


def already_quoted(found: Sequence[str], said: str = "quoted") -> str:
    """Return the lines of a second pass about what was found, "" for nothing."""
    listed = defuse(json.dumps(list(found), ensure_ascii=False))
    return f"Already {said}: {listed}\n\n" if found else ""


@_remembered
def question(signature: type[dspy.Signature]) -> str:
    """Return the end of a prompt: instruction, definitions where several categories are asked for.

    The format is told in words: small models copy a skeleton as if it were the answer.
    """
    keys = categories_of(signature)
    return (
        f"Task: {signature.instructions}\n{_definitions(signature) if len(keys) > 1 else ''}"
        f"{_rules(signature)}Answer in JSON: {_format(signature)}"
    )


def _rules(signature: type[dspy.Signature]) -> str:
    """Return the rules of kinds whose frame is not the one that the question has."""
    frame, kinds = frame_of(signature), kinds_of(signature)
    told: dict[str, list[str]] = {}
    for key, kind in kinds.items():
        if kind.frame != frame:
            told.setdefault(kind.frame.rules, []).append(key)
    several = len(kinds) > 1
    return "".join(f"{', '.join(k) + ': ' if several else ''}{r}\n" for r, k in told.items())


def _definitions(signature: type[dspy.Signature]) -> str:
    fields = signature.output_fields
    described = {key: fields[key].json_schema_extra["desc"] for key in categories_of(signature)}
    return "".join(f"- {key}: {text}\n" for key, text in described.items())


def _format(signature: type[dspy.Signature]) -> str:
    kinds = kinds_of(signature)
    asked: dict[str, list[str]] = {}
    for key, kind in kinds.items():
        # What several categories hold alike is told once.
        alike = kind.asked(["_"])
        asked.setdefault(alike, []).append(key)
    told = "; ".join(kinds[keys[0]].asked([f'"{key}"' for key in keys]) for keys in asked.values())
    before = (
        'first "reasoning", a sentence on where such findings stand in the report; then '
        if "reasoning" in signature.output_fields
        else ""
    )
    return f"{before}{told}."


def demonstrations(signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]]) -> str:
    """Return the examples of a prompt, "" if none has both text and findings."""
    shown = [text for demo in demos if (text := demonstration(signature, demo))]
    frame = frame_of(signature)
    return examples(shown, frame.examples, frame.closing)


def demonstration(signature: type[dspy.Signature], demo: Mapping[str, Any]) -> str:
    """Render one example; nothing without its text, since bare findings leak into answers."""
    kinds = kinds_of(signature)
    if not demo.get("report") or any(demo.get(key) is None for key in kinds):
        return ""
    text, items = cut(demo["report"], {key: list(demo[key]) for key in kinds}, kinds)
    findings = {key: kind.plain(items[key]) for key, kind in kinds.items()}
    reasoning = {"reasoning": demo.get("reasoning") or ""}
    return example(text, (reasoning if "reasoning" in signature.output_fields else {}) | findings)


def examples(shown: Sequence[str], opening: str, closing: str) -> str:
    """Return rendered examples as they stand in a prompt, "" for none."""
    return f"{opening}\n\n" + "\n\n".join(shown) + f"\n\n{closing}\n\n" if shown else ""


def example(text: str, answer: Mapping[str, Any]) -> str:
    """Render an excerpt of a report and the answer to it."""
    shown = defuse(json.dumps(answer, ensure_ascii=False))
    return legible(f"<excerpt>\n{defuse(text)}\n</excerpt>\n{shown}")


def _request(
    lm: dspy.LM,
    options: Mapping[str, Any],
    signature: type[dspy.Signature],
    user: tuple[str, str],
) -> Request:
    given = {name: options.get(name) for name in _OPTIONS}
    return Request(
        model=lm.model,
        system=frame_of(signature).system,
        messages=(Message.user([TextPart(half) for half in user]),),
        config=_config(signature, bool(lm.supports_response_schema), **given),
    )


@_remembered
def _config(signature: type[dspy.Signature], structured: bool, **given: Any) -> Config:
    schema = answer_schema(signature, given["max_tokens"] or 320)
    return Config(response_format=constraint(schema) if structured else None, **given)


def constraint(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema as the response format of a request."""
    return {"type": "json_schema", "schema": schema, "strict": True}
