"""A question that comes first, where a server tells no probabilities: whether there is anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import dspy
import pytest

from crb_dspy.catalog import build_program
from crb_dspy.evaluation.asking import evaluate
from crb_dspy.models.lacks import without
from crb_dspy.program import Part
from crb_dspy.program.prompt import ReportFirst
from crb_dspy.program.yes_no import YesNo
from crb_dspy.retrieval.support import Support
from crb_dspy.retrieval.use import Use
from optimizers.auto import ASKED, NAMES, SILENT
from tests.fake_model import fake_model, keys_of
from tests.made_search import Run, made_plan, made_split, run
from tests.scoring_reply import scoring
from tests.test_silence import Engine
from tests.test_support import LEARNT, NEW, SCHEMA

WHETHER = Use("sentences", 0.0, Use.NEVER, whether=True)
FOUND = ["severe vomiting"]


def part_of(program: str, use: Use = WHETHER) -> Part:
    parts = build_program(program, SCHEMA, {}).parts
    seed = parts["GI"] if "GI" in parts else next(iter(parts.values()))
    return seed.with_support(Support(LEARNT, use))


def answering(*yes: str) -> Callable[[str], str]:
    """A model that finds a thing everywhere, and says that of some categories alone."""

    def reply(prompt: str) -> str:
        asked = "Does this report say anything" in prompt
        return json.dumps(
            {k: ("yes" if k in yes else "No.") if asked else FOUND for k in keys_of(prompt)}
        )

    return reply


@pytest.mark.parametrize(("yes", "found", "calls"), [((), [], 1), (("GI",), FOUND, 2)])
def test_where_the_model_says_no_nothing_is_asked_and_the_cell_says_so(
    yes: tuple[str, ...], found: list[str], calls: int
) -> None:
    part = part_of("category_specific")
    assert part.keys == ("GI",)
    with fake_model(answering(*yes)) as engine:
        assert part(case=NEW).GI == found
        reason = part(case=NEW).silent.get("GI", "")
    assert len(engine.requests) == 2 * calls
    assert ("says that there is nothing of it" in reason) == (not yes)
    # Before the question that it comes before, a server has read the report.
    first, second = (engine.requests[n] for n in (0, calls - 1))
    assert first.system == second.system
    assert first.messages[-1].parts[0] == second.messages[-1].parts[0]


def test_one_question_is_for_all_categories_of_a_part() -> None:
    part = part_of("monolithic")
    with fake_model(answering("Neuro")) as engine:
        found = part(case=NEW)
    assert (found.GI, found.Neuro) == ([], FOUND)
    assert len(engine.prompts) == 2
    assert keys_of(engine.prompts[0]) == ["Neuro", "GI"]
    with fake_model(answering()) as engine:
        assert not part(case=NEW).Neuro
    assert len(engine.prompts) == 1


def test_a_reason_stands_in_the_row() -> None:
    program = build_program("category_specific", SCHEMA, {})
    asking = program.with_parts({"GI": part_of("category_specific")})
    with fake_model(answering()):
        row = evaluate(asking, [replace(NEW, gold={"GI": ()})])[-1]
    assert row.score == 1
    assert "nothing of it" in row.reason


@pytest.mark.parametrize(
    ("value", "open_"),
    [
        *(("no", False), ("No, none.", False), (False, False), (["no"], False)),
        *(
            ("yes", True),
            ("nothing is certain", True),
            (None, True),
            (True, True),
            ({}, True),
            ([], True),
        ),
    ],
)
def test_what_is_no_clear_no_leaves_it_open(value: object, open_: bool) -> None:
    assert YesNo("GI").read(value) == (["yes"] if open_ else [], "")


def searched() -> Run:
    split = made_split(["GI"], validation=6)
    number = NAMES.index(SILENT) + 1
    settings = {"optimizer": "auto", "options": {"candidates": number}, "adopt": "expected"}
    planned = made_plan(split, ["GI"], **settings)
    return run(planned, scoring([*split.train, *split.validation]))


def test_it_is_tried_where_a_server_tells_no_probabilities() -> None:
    found = searched()
    names = {str(row["candidate"]) for row in found.candidates("GI")}
    assert {ASKED, f"weighed with the classifier; {ASKED}"} <= names
    assert SILENT not in names
    assert len(found.tasks) <= found.planned.estimate.calls


@pytest.mark.parametrize("silent", [None, 0.2])
def test_a_part_knows_whether_probabilities_were_told(silent: float | None) -> None:
    part = part_of("category_specific", Use("sentences", 0.0, Use.NEVER, silence=0.9))
    lm = dspy.LM("fake/m", engine=Engine(silent), cache=False, num_retries=0, temperature=0.0)
    with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
        assert part(case=NEW).told == (silent is not None)


def test_a_server_that_refuses_log_probabilities_is_asked_without() -> None:
    given = {"messages": [], "logprobs": True, "top_logprobs": 20}
    assert without(given, ("logprobs",)) == {"messages": []}
