"""Instructions that a model writes: what it is shown, what is taken of its answer."""

from __future__ import annotations

import json
import random

import pytest
from dspy.lm15 import InvalidRequestError

from crb_dspy.data.kind import kinds, made, usual
from crb_dspy.data.words import taught
from crb_dspy.models.budget import BudgetSpent
from crb_dspy.models.server import ModelGone
from crb_dspy.recipe import Context
from crb_dspy.recipe.context import LONGER
from crb_dspy.recipe.reflection import LONGEST, Mistake, advised, proposed
from tests.fake_model import Reply, fake_model
from tests.made_search import cached_model

QUOTES = usual().teaching
OLD = "Quote every finding of the bowel."
FORM = "[[ ## improved_instruction ## ]]\n{}\n\n[[ ## completed ## ]]"


def instruction(reply: Reply | str) -> str:
    answer = reply if callable(reply) else lambda _: str(reply)
    with fake_model(answer):
        mistake = Mistake({"GI": ["x"]}, {}, "why")
        return proposed(None, OLD, "GI", [mistake], "Be brief.", rollout=1, teaching=QUOTES)


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("Quote each symptom.", "Quote each symptom."),
        ('"Quote each symptom."', "Quote each symptom."),
        ("**Instruction:** Quote each symptom.", "Quote each symptom."),
        ("Improved instruction: Quote\n  each symptom.", "Quote each symptom."),
        ("`Quote each symptom.`", "Quote each symptom."),
        ("", ""),
    ],
)
def test_an_instruction_is_taken_without_the_marks_around_it(written: str, taken: str) -> None:
    assert instruction(FORM.format(written)) == taken


def test_what_keeps_to_no_form_is_asked_for_once_more_as_json() -> None:
    asked = []

    def stubborn(prompt: str) -> str:
        asked.append(prompt)
        return "I would rather not."

    assert instruction(stubborn) == ""
    assert len(asked) == 2
    answers = iter(["Well:", json.dumps({"improved_instruction": "Quote all."})])
    assert instruction(lambda _: next(answers)) == "Quote all."


def test_a_request_that_is_refused_costs_a_proposal_and_nothing_else() -> None:
    def refusing(prompt: str) -> str:
        raise InvalidRequestError("the prompt is too long")

    assert instruction(refusing) == ""


@pytest.mark.parametrize("end", [BudgetSpent("--max-calls 3 reached"), ModelGone("gone")])
def test_what_ends_a_run_is_not_taken_for_a_bad_proposal(end: BaseException) -> None:
    def ending(prompt: str) -> str:
        raise end

    with pytest.raises(type(end)):
        instruction(ending)


def test_mistakes_are_shown_short_and_all_of_them() -> None:
    long = Mistake({"GI": ["wanted " * 500]}, {"GI": ["quoted " * 500]}, "judged " * 500)
    assert len(str(long)) < 3 * LONGEST + 50
    with fake_model(lambda _: FORM.format("New.")) as engine:
        proposed(
            None, OLD, "GI, GU", [long, "the second one"], "Be brief.", rollout=1, teaching=QUOTES
        )
    (prompt,) = engine.prompts
    for text in (OLD, "GI, GU", "1.\nwanted: ", "2.\nthe second one", "Be brief."):
        assert text in prompt


# What a kind cannot do without.
NEEDED = {"choice": {"options": ["yes", "no"]}}


@pytest.mark.parametrize("name", kinds())
def test_a_model_that_writes_instructions_is_told_what_a_kind_holds(name: str) -> None:
    """Nobody is told of copied quotes who answers anything else, and answers look as asked for."""
    kind = made(name, "Own", (), NEEDED.get(name, {}))
    read = kind.read({"choice": "yes", "event": "yes", "hours": 3, "answer": "yes"})[0]
    found = read if name in ("choice", "events", "answer") else ["yes"]
    context = Context(lambda *_: [], random.Random(0), lambda *_: "")
    with fake_model(lambda _: FORM.format("New.")) as engine:
        mistake = Mistake({"Own": found}, {"Own": found}, "why", {"Own": kind})
        context.proposal("Old.", {"Own": kind}, [mistake], kind.teaching.tips[0])
        advised(None, [mistake], rollout=1, teaching=kind.teaching)
    told = " ".join(engine.prompts)
    assert ("copies findings" in told) == ("quoted: " in told) == kind.verbatim
    assert ("copied" in told or "quote" in told) == kind.verbatim
    assert json.dumps({"Own": kind.plain(found)}) in told
    assert kind.verbatim or kind.asked(["Own"]) in told
    assert len(set(kind.teaching.tips)) == 6


def test_several_kinds_are_told_what_suits_any() -> None:
    own = [made(name, name, (), NEEDED.get(name, {})).teaching for name in kinds()]
    told = taught(own)
    assert "cop" not in f"{told.reader} {told.rules} {told.tips}"
    assert told not in own[:-1] and taught([own[0], own[0]]) == own[0]


def test_advice_comes_from_mistakes_of_all_parts() -> None:
    with fake_model(lambda _: "[[ ## advice ## ]]\nKeep negations.\n\n[[ ## completed ## ]]") as e:
        mistakes = [Mistake({"GI": ["a"]}, {}, "x"), Mistake({"GU": ["b"]}, {}, "y")]
        assert advised(None, mistakes, rollout=3, teaching=QUOTES) == "Keep negations."
    assert '"GI"' in e.prompts[0]
    assert '"GU"' in e.prompts[0]


def proposal(written: str, old: str = OLD) -> str:
    context = Context(lambda *_: [], random.Random(0), lambda *_: "")
    with fake_model(lambda _: FORM.format(written)):
        return context.proposal(old, "GI", [], "tip")


def test_an_instruction_that_is_far_too_long_is_not_taken() -> None:
    assert proposal("Quote. " * 80) != OLD
    assert proposal("Quote. " * 200) == OLD
    long = "word " * 400
    assert proposal("Quote. " * 200, long) != long
    assert proposal("Quote. " * (LONGER * 400), long) == long


def test_nothing_usable_leaves_the_old_instruction() -> None:
    assert proposal("") == OLD


def test_equal_questions_are_asked_anew_and_a_repeated_run_gets_the_same() -> None:
    def told(seed: int) -> list[str]:
        context = Context(lambda *_: [], random.Random(seed), lambda *_: "")
        return [context.proposal(OLD, "GI", [], "tip") for _ in range(3)]

    count = iter(range(100))
    with cached_model(lambda _: FORM.format(f"Number {next(count)}.")) as engine:
        first = told(0)
        assert len(set(first)) == len(engine.requests) == 3
        assert told(0) == first
        assert len(engine.requests) == 3
        assert not set(told(1)) & set(first)
