"""The engine counts what it asks, keeps its cap, and tells a dead model from a bad answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.lm15 import (
    AuthError,
    Config,
    ContextLengthError,
    Message,
    RateLimitError,
    Request,
    ServerError,
    TextPart,
    TimeoutError,
    TransportError,
)

from crb_dspy.errors import UserError
from crb_dspy.models import engine as engine_module
from crb_dspy.models import server as server_module
from crb_dspy.models.engine import RETRIES, Engine, ModelGone
from crb_dspy.models.lm import Model
from crb_dspy.models.meter import Meter, Usage
from crb_dspy.models.server import HUNG, PATIENCE, Server
from crb_dspy.models.settings import Settings
from crb_dspy.models.wire import arguments
from tests.fake_server import Body, FakeServer, Reply, empty, serving

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


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 0.001)


def asking(text: str, temperature: float = 0.0) -> Request:
    config = Config(max_tokens=7, temperature=temperature)
    return Request(model="m", messages=(Message.user(text),), config=config)


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
    line = Server(lambda: {"model": "wire", "api_base": "b"}, threads, completion=completion)
    return Engine(line, meter), meter


def failing(error: Exception) -> Callable[..., Any]:
    def completion(**_: object) -> Any:
        raise error

    return completion


def over_http(
    server: FakeServer, threads: int = 1, timeout: float = 30.0, patience: float = 30.0
) -> tuple[Engine, Meter]:
    wire = {"model": "openai/fake", "api_base": server.address, "api_key": "k", "timeout": timeout}
    meter = Meter()
    return Engine(Server(lambda: wire, threads, patience, model="openai/fake"), meter), meter


def outcomes(answering: Engine, requests: list[Request], threads: int = 8) -> list[object]:
    """What each request came to, all of them asked at once: a response or what was raised."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(answering.complete, request) for request in requests]
        return [future.exception() or future.result() for future in futures]


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
    answering.complete(asking("one"))
    answering.complete(asking("two"))
    usage = meter.usage
    assert (usage.calls, usage.prompt_tokens, usage.computed_tokens) == (2, 20, 14)
    assert (usage.completion_tokens, usage.tokens, usage.usd, usage.failures) == (8, 28, 1.0, 0)


def test_usage_of_two_roles_adds_up() -> None:
    task, reflection = Usage(asked=3, calls=2, usd=0.5), Usage(asked=1, calls=1, failures=4)
    assert task + reflection == Usage(asked=4, calls=3, failures=4, usd=0.5)
    assert task + reflection - reflection == task


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
    outcomes(answering, [asking(str(n)) for n in range(12)], threads=12)
    assert (most, meter.usage.calls) == (3, 12)


@pytest.mark.parametrize("error", [TransportError, ServerError, TimeoutError])
def test_what_may_pass_is_tried_again_and_every_attempt_counted(
    error: type[Exception],
) -> None:
    replies: Iterator[Exception | None] = iter([error("once"), error("twice"), None])

    def shaky(**_: object) -> Any:
        if failure := next(replies):
            raise failure
        return reply()

    answering, meter = engine(shaky)
    assert answering.complete(REQUEST).message.text == "[]"
    assert (meter.usage.calls, meter.usage.failures) == (1, 2)


def test_what_does_not_pass_is_raised_after_the_last_attempt() -> None:
    answering, meter = engine(failing(TransportError("cut")))
    with pytest.raises(TransportError, match="cut"):
        answering.complete(REQUEST)
    assert meter.usage == Usage(failures=1 + RETRIES)


@pytest.mark.parametrize("error", [ContextLengthError, AuthError, ValueError])
def test_what_cannot_pass_is_not_tried_again(error: type[Exception]) -> None:
    answering, meter = engine(failing(error("no")))
    with pytest.raises(error):
        answering.complete(REQUEST)
    assert meter.usage == Usage(failures=1)


def test_a_retry_waits_without_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 30.0)
    waiting = threading.Event()

    def once(**given: Any) -> Any:
        if given["messages"][0]["content"] == "bad":
            waiting.set()
            raise TransportError("cut")
        return reply()

    answering, _ = engine(once, threads=1)

    def asks() -> None:
        with suppress(ModelGone):
            answering.complete(asking("bad"))

    thread = threading.Thread(target=asks, daemon=True)
    thread.start()
    assert waiting.wait(60)
    assert answering.complete(asking("good")).message.text == "[]"
    assert thread.is_alive()
    answering.server._end("the test is over")
    thread.join(60)
    assert not thread.is_alive()


def test_a_model_that_fails_again_and_again_is_gone() -> None:
    answering, meter = engine(failing(AuthError("refused")))
    for _ in range(PATIENCE - 1):
        with pytest.raises(AuthError):
            answering.complete(REQUEST)
    for _ in range(3):
        with pytest.raises(ModelGone, match="refused"):
            answering.complete(REQUEST)
    # One more: something tiny is asked before a model is given up.
    assert meter.usage == Usage(failures=PATIENCE + 1)


def test_many_threads_that_fail_at_once_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 0.3)
    asked = count()

    def hiccup(body: Body) -> Reply:
        return 502 if next(asked) < 16 else empty(body)

    with serving(hiccup) as server:
        answering, meter = over_http(server, threads=16)
        found = outcomes(answering, [asking(str(n)) for n in range(16)], threads=16)
    assert not [outcome for outcome in found if isinstance(outcome, BaseException)]
    assert (meter.usage.calls, meter.usage.failures) == (16, 16)


def test_a_success_in_between_starts_the_count_anew() -> None:
    calls = 0

    def shaky(**_: object) -> Any:
        nonlocal calls
        calls += 1
        if calls % PATIENCE:
            raise AuthError("slow down")
        return reply()

    answering, _ = engine(shaky)
    for number in range(3 * PATIENCE):
        try:
            answering.complete(asking(str(number)))
        except AuthError:
            continue
    assert calls == 3 * PATIENCE


def test_reports_that_are_too_long_say_nothing_of_the_model() -> None:
    answering, _ = engine(failing(ContextLengthError("too long")))
    for _ in range(PATIENCE + 1):
        with pytest.raises(ContextLengthError):
            answering.complete(REQUEST)


def test_nothing_is_connected_before_the_first_call_and_a_failure_to_is_final() -> None:
    tried = 0

    def connect() -> dict[str, Any]:
        nonlocal tried
        tried += 1
        raise UserError("no such model")

    idle = Engine(Server(connect, model="mine"), Meter())
    assert tried == 0
    for _ in range(2):
        with pytest.raises(ModelGone, match="no such model") as caught:
            idle.complete(REQUEST)
        assert caught.value.model == "mine"
    assert tried == 1


def test_the_shared_half_of_a_prompt_is_marked_for_the_apis_that_need_it() -> None:
    halves = Message.user([TextPart("report\n"), TextPart("question")])
    request = Request(model="m", messages=(halves,))
    plain, marked = arguments(request), arguments(request, marked=True)
    assert plain["messages"][0]["content"] == "report\n\nquestion"
    blocks = marked["messages"][0]["content"]
    assert "".join(block["text"] for block in blocks) == "report\n\nquestion"
    assert [block.get("cache_control") for block in blocks] == [{"type": "ephemeral"}, None]


def test_a_key_that_a_server_quotes_is_not_passed_on() -> None:
    with serving(lambda _: 401) as server:
        wire = {"model": "openai/fake", "api_base": server.address, "api_key": "very-own-key"}
        answering = Engine(Server(lambda: wire), Meter())
        with pytest.raises(AuthError) as caught:
            answering.complete(REQUEST)
    assert "very-own-key" not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_server_that_refuses_for_a_while_is_waited_for() -> None:
    asked = count()

    def refusing(body: Body) -> Reply:
        return (429, {"Retry-After": "0.01"}) if next(asked) < 3 * PATIENCE else empty(body)

    with serving(refusing) as server:
        answering, meter = over_http(server, threads=8)
        found = outcomes(answering, [asking(str(n)) for n in range(16)])
    assert not [outcome for outcome in found if isinstance(outcome, BaseException)]
    assert (meter.usage.calls, meter.usage.failures) == (16, 3 * PATIENCE)
    assert len(server.bodies) == 16 + 3 * PATIENCE


def test_nothing_is_sent_before_the_time_that_the_server_named() -> None:
    times: list[float] = []

    def refusing(body: Body) -> Reply:
        times.append(time.monotonic())
        return (429, {"Retry-After": "0.3"}) if len(times) == 1 else empty(body)

    with serving(refusing) as server:
        answering, _ = over_http(server)
        answering.complete(asking("a"))
    assert times[1] - times[0] >= 0.3


def test_a_server_that_refuses_for_ever_is_gone_with_its_reason() -> None:
    with serving(lambda _: (429, {"Retry-After": "0.05"})) as server:
        answering, meter = over_http(server, threads=8, patience=0.5)
        found = outcomes(answering, [asking(str(n)) for n in range(8)])
    assert all(isinstance(outcome, ModelGone) for outcome in found)
    assert "refused for" in str(found[0])
    assert "broken with 429" in str(found[0])
    assert meter.usage.failures == len(server.bodies)


def test_a_wait_longer_than_the_timeout_is_not_begun() -> None:
    with serving(lambda _: (429, {"Retry-After": "3600"})) as server:
        answering, _ = over_http(server, patience=5.0)
        with pytest.raises(ModelGone, match="broken with 429"):
            answering.complete(REQUEST)
        assert len(server.bodies) == 1


def test_without_a_hint_refusals_are_waited_for_ever_longer() -> None:
    refusals = count()

    def refusing(**_: object) -> Any:
        if next(refusals) < 8:
            raise RateLimitError("slow down")
        return reply()

    answering, meter = engine(refusing)
    answering.complete(REQUEST)
    assert meter.usage.failures == 8


def test_a_server_that_hangs_is_gone_after_a_few_timeouts() -> None:
    with serving(delay=3.0) as server:
        answering, meter = over_http(server, timeout=0.5, patience=0.5)
        with pytest.raises(ModelGone, match=r"no answer within 0\.5 s, 3 times in a row"):
            answering.complete(REQUEST)
        assert len(server.bodies) == meter.usage.failures == HUNG + 1


def test_a_gateway_that_says_at_once_that_it_timed_out_does_not_hang() -> None:
    with serving(lambda _: 504) as server:
        answering, meter = over_http(server)
        with pytest.raises(TimeoutError):
            answering.complete(REQUEST)
        assert meter.usage.failures == len(server.bodies) == 1 + RETRIES


def test_a_server_that_dies_in_the_middle_ends_all_threads_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One thread fails slowly and would wait for minutes; the others find the server dead.
    monkeypatch.setattr(server_module, "BACKOFF", 60.0)
    asked = count()

    def dying(body: Body) -> Reply:
        if next(asked) < 20:
            return empty(body)
        return 500 if "wait" in str(body) else 401

    with serving(dying) as server:
        answering, _ = over_http(server, threads=4)
        fine = outcomes(answering, [asking(str(n)) for n in range(20)])
        dead = outcomes(answering, [asking("wait"), *(asking(f"late {n}") for n in range(60))])
    assert not [outcome for outcome in fine if isinstance(outcome, BaseException)]
    assert isinstance(dead[0], ModelGone)
    assert sum(isinstance(outcome, ModelGone) for outcome in dead) >= 61 - PATIENCE - 4
    # What began before something tiny was asked comes to its end.
    assert len(server.bodies) <= 20 + PATIENCE + 2 * 4 + 1


class Gate:
    """Opens when so many threads have come to it."""

    def __init__(self, number: int) -> None:
        self._open, self._left, self._lock = threading.Event(), number, threading.Lock()

    def come(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._open.set()

    def wait(self) -> None:
        assert self._open.wait(20)


def joining(answering: Engine, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the gate of every thread that waits for another's answer."""
    join = answering._joined

    def joined(*given: Any) -> Any:
        gate.come()
        return join(*given)

    monkeypatch.setattr(answering, "_joined", joined)


def test_equal_requests_that_are_under_way_are_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(7)

    def held(body: Body) -> Reply:
        gate.wait()
        return empty(body)

    with serving(held) as server:
        answering, meter = over_http(server, threads=8)
        joining(answering, gate, monkeypatch)
        found = outcomes(answering, [asking("same")] * 8)
        assert len(server.bodies) == meter.usage.calls == 1
        # Who looked into DSPy's cache just before comes just after.
        answering.complete(asking("same"))
        answering.complete(asking("another"))
        assert len(server.bodies) == 2
    assert not [outcome for outcome in found if isinstance(outcome, BaseException)]
    assert len(set(map(id, found))) == 1


def test_samples_are_not_merged() -> None:
    gate = Gate(8)

    def held(**_: object) -> Any:
        gate.come()
        gate.wait()
        return reply()

    answering, meter = engine(held, threads=8)
    outcomes(answering, [asking("same", temperature=1.0)] * 8)
    assert meter.usage.calls == 8


def test_who_waits_for_a_request_that_fails_asks_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, calls = Gate(1), count()

    def first_fails(**_: object) -> Any:
        if next(calls) == 0:
            gate.wait()
            raise AuthError("no")
        return reply()

    answering, _ = engine(first_fails, threads=8)
    joining(answering, gate, monkeypatch)
    found = outcomes(answering, [asking("same")] * 2)
    assert sorted(type(outcome).__name__ for outcome in found) == ["AuthError", "Response"]


def settings(server: FakeServer, **changes: Any) -> Settings:
    return Settings.of(Settings(model="openai/fake", api_base=server.address), **changes)


def ask(model: Model, text: str) -> str:
    return str(model.lm(text)[0])


def test_models_of_one_name_on_two_servers_share_a_folder_but_no_answer(tmp_path: Path) -> None:
    with serving(lambda _: "one") as one, serving(lambda _: "two") as two:
        first, second = (Model(settings(server), tmp_path) for server in (one, two))
        first.open()
        second.open()
        assert [ask(first, "Q"), ask(second, "Q"), ask(first, "Q")] == ["one", "two", "one"]
        again = Model(settings(one), tmp_path)
        again.open()
        assert ask(again, "Q") == "one"
        assert (len(one.bodies), len(two.bodies)) == (2, 2)
        assert again.meter.usage == Usage(asked=1)


def test_an_answer_is_found_again_without_a_server(tmp_path: Path) -> None:
    with serving(lambda _: "kept") as server:
        first = Model(settings(server), tmp_path)
        first.open()
        ask(first, "Q")
    later = Model(settings(server), tmp_path)
    later.open()
    assert ask(later, "Q") == "kept"
    assert later.meter.usage.calls == 0


def test_a_slot_that_comes_free_goes_to_a_question_about_the_same_report() -> None:
    asked: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def completion(**given: Any) -> Any:
        asked.append(given["messages"][0]["content"].replace("\n", ""))
        begun.set()
        assert go_on.wait(60)
        return reply()

    answering, _ = engine(completion)
    with ThreadPoolExecutor(3) as pool:
        for number, report in enumerate(["first ", "second ", "first "]):
            message = Message.user([TextPart(report), TextPart(f"question {number}")])
            request = Request(model="m", messages=(message,), config=Config(temperature=1.0))
            pool.submit(answering.complete, request)
            assert begun.wait(60)
            until = time.monotonic() + 60
            waiting = answering.server._turns._waiting
            while sum(map(len, waiting.values())) < number and time.monotonic() < until:
                time.sleep(0.001)
        go_on.set()
    assert asked == ["first question 0", "first question 2", "second question 1"]


def test_roles_are_counted_apart_on_one_server_with_one_set_of_slots(tmp_path: Path) -> None:
    with serving(delay=0.02) as server:
        task = Model(settings(server, threads=2), tmp_path)
        reflection = Model(
            settings(server, threads=2, temperature=1.0),
            tmp_path,
            role="reflection",
            beside=task,
        )
        task.open()
        reflection.open()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: ask((task, reflection)[n % 2], str(n)), range(16)))
        assert server.most == 2
    assert (task.meter.usage.calls, reflection.meter.usage.calls) == (1 + 8, 8)
    assert (task.meter.usage + reflection.meter.usage).calls == len(server.bodies)


def test_a_key_is_taken_from_the_variable_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "own-key-of-mine")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    with serving(lambda _: 401) as server:
        model = Model(settings(server, api_key_env="MINE"), tmp_path, role="reflection")
        with pytest.raises(UserError, match="reflection model 'openai/fake'") as caught:
            model.open()
        assert model.engine.server.connected()["api_key"] == "own-key-of-mine"
    assert "own-key" not in str(caught.value)


def test_a_key_that_is_not_set_is_one_line_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    model = Model(Settings(model="openai/fake", api_key_env="NOT_SET"), tmp_path)
    with pytest.raises(UserError, match="^NOT_SET: set this environment variable"):
        model.open()


def test_a_model_that_can_not_be_asked_so_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="openai/gpt-5.*temperature"):
        Model(Settings(model="openai/gpt-5", temperature=0.5), tmp_path)


def test_dspy_makes_no_attempts_of_its_own(tmp_path: Path) -> None:
    with serving(lambda body: 503 if "Q" in str(body) else "fine") as server:
        model = Model(settings(server), tmp_path)
        model.open()
        with pytest.raises(dspy.utils.exceptions.LMServerError):
            ask(model, "Q")
        assert len(server.bodies) == 1 + 1 + RETRIES
        assert engine_module.RETRIES == RETRIES


def test_a_model_with_an_address_needs_to_say_how_it_is_spoken_to(tmp_path: Path) -> None:
    settings = Settings(model="gpt-4o-mini", api_base="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="openai/gpt-4o-mini"):
        Model(settings, tmp_path).open()
