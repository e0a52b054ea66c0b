"""The model's own probability of an empty list: where it is read, and what comes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import dspy
import pytest
from dspy.lm15 import Config, Message, Request, Response, TokenLogprob, TopLogprob, Usage
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.catalog import build_program
from crb_dspy.models.wire import arguments, response_of
from crb_dspy.program.prompt import ReportFirst
from crb_dspy.program.silence import ALTERNATIVES, silences
from crb_dspy.retrieval.support import Support
from crb_dspy.retrieval.use import Use
from tests.test_support import LEARNT, NEW, SCHEMA


def token(text: str, chance: float = 1.0, **others: float) -> TokenLogprob:
    """A token with its probability and those of others; `_` stands for the token itself."""
    return told(text, {text: chance, **others})


def told(text: str, chances: Mapping[str, float]) -> TokenLogprob:
    top = tuple(TopLogprob(name, math.log(p)) for name, p in chances.items())
    return TokenLogprob(text, math.log(chances[text]), top=top)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # Opened and closed, or quoted, by one token.
        (
            [token('{"GI":'), told(' ["', {' ["': 0.6, " []": 0.3, " none": 0.1}), token('x"]}')],
            1 / 3,
        ),
        ([token('{"GI":'), told(" []", {' ["': 0.2, " []": 0.8}), token("}")], 0.8),
        # The bracket alone, and what comes after it.
        ([token('{"GI": ['), told('"', {'"': 0.75, "]": 0.25}), token('x"]}')], 0.25),
        # Both at once.
        (
            [
                token('{"GI":'),
                told(" [", {" [": 0.5, " []": 0.5}),
                told('"', {'"': 0.5, "]": 0.5}),
                token('x"]}'),
            ],
            0.75,
        ),
        # White space between, and a quote of another category before.
        ([token('{"CVS": ["GI"], "GI" : '), told("[\n", {"[\n": 1.0}), told("]", {"]": 1.0})], 1.0),
    ],
)
def test_it_is_read_where_the_list_opens(tokens: Sequence[TokenLogprob], expected: float) -> None:
    assert silences(tokens, ["GI"]) == {"GI": pytest.approx(expected)}


def test_without_alternatives_or_without_a_list_nothing_is_known() -> None:
    assert silences([TokenLogprob('{"GI": []}', -0.1)], ["GI"]) == {}
    assert silences([token("I cannot say.")], ["GI"]) == {}
    assert silences([], ["GI"]) == {}


@given(st.lists(st.text(alphabet='{}[]":GI, x', min_size=1, max_size=4), max_size=8))
def test_any_answer_gives_probabilities_or_nothing(texts: list[str]) -> None:
    found = silences([token(text, 0.5) for text in texts], ["GI"])
    assert all(0 <= value <= 1 for value in found.values())


class Engine:
    """Answers with a quote and says how near it was to none."""

    supports_response_schema = True

    def __init__(self, silent: float | None) -> None:
        self.silent, self.requests = silent, list[Request]()

    def complete(self, request: Request) -> Response:
        self.requests.append(request)
        logprobs = None
        if self.silent is not None and request.config.logprobs:
            opening = told(' ["', {' ["': 1 - self.silent, " []": self.silent})
            logprobs = (token('{"GI":'), opening, token('severe vomiting"]}'))
        return Response(
            id=None,
            model="m",
            message=Message.assistant(json.dumps({"GI": ["severe vomiting"]})),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1),
            logprobs=logprobs,
        )


@pytest.mark.parametrize(
    ("silent", "found"), [(0.2, []), (0.1, ["severe vomiting"]), (None, ["severe vomiting"])]
)
def test_a_category_is_left_empty_where_the_model_thought_of_it(
    silent: float | None, found: list[str]
) -> None:
    seed = build_program("category_specific", SCHEMA, {}).parts["GI"]
    part = seed.with_support(Support(LEARNT, Use("sentences", 0.0, Use.NEVER, silence=0.15)))
    engine = Engine(silent)
    lm = dspy.LM("fake/model", engine=engine, cache=False, num_retries=0, temperature=0.0)
    with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
        prediction = part(case=NEW)
        assert seed(case=NEW).GI == ["severe vomiting"]
    assert prediction.GI == found
    assert bool(prediction.silent) == (not found)
    assert [request.config.logprobs for request in engine.requests] == [ALTERNATIVES, None]


def test_it_is_asked_for_and_read_as_servers_speak() -> None:
    request = Request(model="m", messages=(Message.user("x"),), config=Config(logprobs=20))
    sent = arguments(request)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 20)
    assert "logprobs" not in arguments(Request(model="m", messages=(Message.user("x"),)))
    rival = SimpleNamespace(token=" []", logprob=-0.5)
    one = SimpleNamespace(token=' ["', logprob=-1.0, top_logprobs=[rival])
    choice = SimpleNamespace(
        message=SimpleNamespace(content="[]"),
        finish_reason="stop",
        logprobs=SimpleNamespace(content=[one]),
    )
    usage = SimpleNamespace(prompt_tokens=1, completion_tokens=1)
    reply = SimpleNamespace(id="1", model="m", choices=[choice], usage=usage)
    found = response_of(reply, "m").logprobs
    assert found
    read = found[0]
    assert (read.token, read.logprob, read.top[0].token) == (' ["', -1.0, " []")
    choice.logprobs = None
    assert response_of(reply, "m").logprobs is None
