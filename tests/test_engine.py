"""The engine counts what it asks, keeps its cap, and tells a dead model from a bad answer."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from dspy.lm15 import Config, Message, RateLimitError, Request, TextPart, TransportError

from crb_dspy.models.engine import PATIENCE, Engine, ModelGone, arguments
from crb_dspy.models.meter import Meter, Usage

REQUEST = Request(
    model="m",
    system="S",
    messages=(Message.user("Q"),),
    config=Config(
        max_tokens=7,
        temperature=0.0,
        response_format={"type": "json_schema", "schema": {"type": "object"}, "strict": True},
    ),
)


def reply(text: str = "[]", finish: str = "stop", cached: int = 3) -> Any:
    details = SimpleNamespace(cached_tokens=cached)
    return SimpleNamespace(
        id="1",
        model="m",
        choices=[SimpleNamespace(message=SimpleNamespace(content=text), finish_reason=finish)],
        usage=SimpleNamespace(prompt_tokens=10, completion_tokens=4, prompt_tokens_details=details),
        _hidden_params={"response_cost": 0.5},
    )


def engine(completion: Callable[..., Any], threads: int = 1) -> tuple[Engine, Meter]:
    meter = Meter()
    return Engine(lambda: {"model": "wire", "api_base": "b"}, meter, threads, completion), meter


def test_a_request_reaches_the_model_as_it_was_written() -> None:
    asked: list[dict[str, Any]] = []

    def completion(**given: Any) -> Any:
        asked.append(given)
        return reply()

    answering, _ = engine(completion)
    answering.complete(REQUEST)
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert asked == [
        {
            "model": "wire",
            "api_base": "b",
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
            "max_tokens": 7,
            "temperature": 0.0,
            "response_format": {"type": "json_schema", "json_schema": schema},
            "num_retries": 0,
        }
    ]


def test_what_is_not_set_is_not_sent() -> None:
    bare = Request(model="m", messages=(Message.user("Q"),))
    assert arguments(bare) == {"messages": [{"role": "user", "content": "Q"}]}


def test_usage_is_counted_with_the_tokens_that_the_server_had_kept() -> None:
    answering, meter = engine(lambda **_: reply(cached=3))
    answering.complete(REQUEST)
    answering.complete(REQUEST)
    usage = meter.usage
    assert (usage.calls, usage.prompt_tokens, usage.computed_tokens) == (2, 20, 14)
    assert (usage.completion_tokens, usage.tokens, usage.usd, usage.failures) == (8, 28, 1.0, 0)


def test_a_cut_off_answer_says_so() -> None:
    answering, _ = engine(lambda **_: reply(finish="length"))
    assert answering.complete(REQUEST).finish_reason == "length"


def test_an_answer_without_text_is_an_empty_one() -> None:
    answering, _ = engine(lambda **_: reply(text=None))  # type: ignore[arg-type]
    assert answering.complete(REQUEST).message.text in (None, "")


def test_no_more_calls_than_threads_are_under_way() -> None:
    now = most = 0
    lock = threading.Lock()

    def slow(**_: object) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return reply()

    answering, meter = engine(slow, threads=3)
    threads = [threading.Thread(target=answering.complete, args=(REQUEST,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, meter.usage.calls) == (3, 12)


def test_a_model_that_fails_again_and_again_is_gone() -> None:
    def broken(**_: object) -> Any:
        raise TransportError("refused")

    answering, meter = engine(broken)
    for _ in range(PATIENCE - 1):
        with pytest.raises(TransportError):
            answering.complete(REQUEST)
    with pytest.raises(ModelGone, match="refused"):
        answering.complete(REQUEST)
    assert meter.usage == Usage(failures=PATIENCE)


def test_a_success_in_between_starts_the_count_anew() -> None:
    calls = 0

    def shaky(**_: object) -> Any:
        nonlocal calls
        calls += 1
        if calls % PATIENCE:
            raise RateLimitError("slow down")
        return reply()

    answering, _ = engine(shaky)
    for _ in range(3 * PATIENCE):
        try:
            answering.complete(REQUEST)
        except RateLimitError:
            continue
    assert calls == 3 * PATIENCE


def test_nothing_is_connected_before_the_first_call() -> None:
    def connect() -> dict[str, Any]:
        raise AssertionError("connected too early")

    idle = Engine(connect, Meter(), 1, lambda **_: reply())
    with pytest.raises(AssertionError):
        idle.complete(REQUEST)


def test_the_shared_half_of_a_prompt_is_marked_for_the_apis_that_need_it() -> None:
    halves = Message.user([TextPart("report\n"), TextPart("question")])
    request = Request(model="m", messages=(halves,))
    plain, marked = arguments(request), arguments(request, marked=True)
    assert plain["messages"][0]["content"] == "report\n\nquestion"
    blocks = marked["messages"][0]["content"]
    assert "".join(block["text"] for block in blocks) == "report\n\nquestion"
    assert [block.get("cache_control") for block in blocks] == [{"type": "ephemeral"}, None]
