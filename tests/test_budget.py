"""Caps hold whatever the threads, and end a phase with the name of the cap."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Config, Message, Request
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.models import server as server_module
from crb_dspy.models.budget import Amount, Budget, BudgetSpent, Caps, Reservation
from crb_dspy.models.engine import Engine
from crb_dspy.models.lm import Model
from crb_dspy.models.meter import Meter
from crb_dspy.models.prices import price
from crb_dspy.models.server import Server
from crb_dspy.models.settings import Settings
from tests.fake_server import Body, FakeServer, Reply, serving


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 0.001)


def spend(budget: Budget, tokens: int = 0, usd: float = 0.0) -> None:
    budget.settle(budget.reserve(tokens, usd), tokens, usd)


def over_http(server: FakeServer, budget: Budget, threads: int) -> Engine:
    wire = {"model": "openai/fake", "api_base": server.address, "api_key": "none", "timeout": 30.0}
    return Engine(Server(lambda: wire, threads), Meter(), budget)


def asked(engine: Engine, number: int, threads: int) -> list[BaseException | None]:
    """Ask so many requests at once and return what each one raised."""

    def request(n: int) -> Request:
        message = Message.user(f"{n} Task: " + "word " * (n % 40))
        return Request(model="m", messages=(message,), config=Config(max_tokens=60, temperature=0))

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(engine.complete, request(n)) for n in range(number)]
        return [future.exception() for future in futures]


def text(body: Body) -> Reply:
    return "x" * (len(str(body)) % 200)


def test_without_caps_nothing_is_refused_and_nothing_shown() -> None:
    budget = Budget()
    spend(budget, 10**9, 10.0**6)
    assert (budget.left(), budget.spent) == ("", "")


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        (Caps(calls=3), "--max-calls 3 reached"),
        (Caps(tokens=300_000), "--max-tokens 300000 reached"),
        (Caps(usd=0.75), "--max-usd 0.75 reached"),
    ],
)
def test_the_cap_that_ends_a_run_is_named(caps: Caps, message: str) -> None:
    budget = Budget(caps)
    for _ in range(3):
        spend(budget, 100_000, 0.25)
    with pytest.raises(BudgetSpent) as caught:
        spend(budget, 100_000, 0.25)
    assert str(caught.value) == budget.spent == message


def test_minutes_are_counted_from_the_beginning() -> None:
    now = [100.0]
    budget = Budget(Caps(minutes=2), clock=lambda: now[0])
    now[0] += 119
    spend(budget)
    now[0] += 1
    with pytest.raises(BudgetSpent, match="--max-minutes 2 reached"):
        spend(budget)


def test_what_is_left_is_said_in_a_line() -> None:
    now = [0.0]
    budget = Budget(Caps(50, 20_000, 1.5, 10), clock=lambda: now[0])
    now[0] = 180.0
    spend(budget, 16_600, 0.25)
    shown = "49 of 50 calls, 3,400 of 20,000 tokens, $1.25 of $1.50, 7 of 10 minutes left"
    assert budget.left() == shown
    with budget.holding(Amount(40, 3_000, minutes=8)):
        kept = "9 of 50 calls, 400 of 20,000 tokens, $1.25 of $1.50, 0 of 10 minutes left"
        assert budget.left() == kept


def test_dollars_and_minutes_are_foretold_by_what_calls_took() -> None:
    now = [0.0]
    budget = Budget(Caps(usd=3.0, minutes=6), clock=lambda: now[0])
    for _ in range(7):
        spend(budget, 1, 0.1)
    assert budget.expected(10) == Amount(usd=1.0, minutes=2.0)
    spend(budget, 1, 0.1)
    now[0] = 120.0
    told = budget.expected(4)
    assert told.usd == pytest.approx(0.4)
    assert told.minutes == 1.0


def test_time_that_runs_out_while_nothing_is_asked_ends_a_phase() -> None:
    now = [0.0]
    budget = Budget(Caps(minutes=2), clock=lambda: now[0])
    with budget.holding(Amount(minutes=1)) as phase:
        budget.check(phase)
        now[0] = 60.0
        with pytest.raises(BudgetSpent, match=r"--max-minutes 2 reached \(1 kept back\)"):
            budget.check(phase)
    spend(budget)


def test_a_call_that_failed_counts_as_a_call() -> None:
    budget = Budget(Caps(calls=1, tokens=100))
    budget.settle(budget.reserve(80))
    assert budget.left() == "0 of 1 calls, 100 of 100 tokens left"


def test_what_fits_beside_nothing_but_not_beside_the_calls_under_way_waits_for_them() -> None:
    budget = Budget(Caps(tokens=100))
    first = budget.reserve(90)
    waiting = threading.Thread(target=spend, args=(budget, 90), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    budget.settle(first, 5)
    waiting.join(5)
    assert not waiting.is_alive()
    assert budget.left() == "5 of 100 tokens left"


def test_who_waits_is_told_when_the_calls_under_way_took_it_all() -> None:
    budget = Budget(Caps(tokens=100))
    first = budget.reserve(90)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(spend, budget, 90) for _ in range(4)]
        time.sleep(0.05)
        budget.settle(first, 90)
        errors = [future.exception(timeout=60) for future in futures]
    assert [type(error) for error in errors] == [BudgetSpent] * 4


def test_a_phase_that_ended_refuses_small_calls_too() -> None:
    budget = Budget(Caps(tokens=100))
    for tokens in (200, 1):
        with pytest.raises(BudgetSpent):
            spend(budget, tokens)


def test_what_a_search_keeps_back_is_there_for_the_test() -> None:
    budget = Budget(Caps(calls=5))
    with budget.holding(Amount(calls=2)):
        for _ in range(3):
            spend(budget)
        with pytest.raises(BudgetSpent, match=r"--max-calls 5 reached \(2 kept back\)"):
            spend(budget)
    spend(budget)
    spend(budget)
    assert budget.spent == "--max-calls 5 reached (2 kept back)"
    with pytest.raises(BudgetSpent, match="--max-calls 5 reached$"):
        spend(budget)


def test_threads_left_over_from_a_search_may_not_spend_what_the_test_needs() -> None:
    budget = Budget(Caps(calls=5))
    go, results = threading.Event(), list[str]()

    def straggler(_: object) -> None:
        assert go.wait(60)
        try:
            spend(budget)
        except BudgetSpent as error:
            results.append(str(error))

    with budget.holding(Amount(calls=2)):
        # The threads of DSPy get its settings, but no other context.
        executor = dspy.utils.parallelizer.ParallelExecutor(num_threads=2, timeout=0)
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(executor.execute, straggler, [1, 2]))
        thread.start()
    go.set()
    thread.join()
    assert results == ["this phase of the run is over"] * 2
    assert budget.left() == "5 of 5 calls left"


AMOUNTS = st.integers(0, 40)


@given(
    caps=st.builds(Caps, calls=st.integers(0, 12), tokens=st.integers(0, 200), usd=AMOUNTS),
    steps=st.lists(st.tuples(st.booleans(), AMOUNTS, AMOUNTS, st.floats(0, 1)), max_size=40),
)
def test_no_order_of_reserving_and_settling_passes_a_cap(
    caps: Caps, steps: list[tuple[bool, int, int, float]]
) -> None:
    budget = Budget(caps)
    under_way: list[tuple[Reservation, int, int]] = []
    calls = tokens = dollars = 0
    for settles, most_tokens, most_dollars, share in steps:
        if settles and under_way:
            reservation, t, d = under_way.pop(0)
            t, d = int(t * share), int(d * share)
            budget.settle(reservation, t, d)
            calls, tokens, dollars = calls + 1, tokens + t, dollars + d
        elif fits(caps, budget, most_tokens, most_dollars):
            try:
                reservation = budget.reserve(most_tokens, most_dollars)
            except BudgetSpent:
                continue
            under_way.append((reservation, most_tokens, most_dollars))
        assert calls + len(under_way) <= (caps.calls or 0)
        assert tokens + sum(t for _, t, _ in under_way) <= (caps.tokens or 0)
        assert dollars + sum(d for _, _, d in under_way) <= (caps.usd or 0)


def fits(caps: Caps, budget: Budget, tokens: int, dollars: int) -> bool:
    """Whether reserving returns at once: with one thread, waiting would be for ever."""
    now = budget._under_way() + budget._spent
    beside = (now.calls + 1, now.tokens + tokens, now.usd + dollars)
    alone = (budget._spent.calls + 1, budget._spent.tokens + tokens, budget._spent.usd + dollars)
    limits = (caps.calls or 0, caps.tokens or 0, caps.usd or 0)

    def within(total: tuple[float, ...]) -> bool:
        return all(its <= limit for its, limit in zip(total, limits, strict=True))

    return within(beside) or not within(alone)


@pytest.mark.parametrize("threads", [8, 32])
def test_a_cap_of_calls_holds_and_is_used_up(threads: int) -> None:
    budget = Budget(Caps(calls=50))
    with serving(text, delay=0.005) as server:
        raised = asked(over_http(server, budget, threads), 200, threads)
        assert len(server.bodies) == 50
    assert sum(error is None for error in raised) == 50
    assert {type(error) for error in raised if error} == {BudgetSpent}


def failing_often() -> Callable[[Body], Reply]:
    numbers = count()
    return lambda body: (503, 429, 400, "fine", "fine")[next(numbers) % 5]


def test_attempts_that_fail_count_against_the_cap() -> None:
    budget = Budget(Caps(calls=50))
    with serving(failing_often()) as server:
        asked(over_http(server, budget, 8), 200, 8)
        assert len(server.bodies) == 50


@pytest.mark.parametrize("threads", [8, 32])
def test_a_cap_of_tokens_holds_and_is_used_up(threads: int) -> None:
    budget = Budget(Caps(tokens=20_000))
    with serving(text, delay=0.005) as server:
        raised = asked(over_http(server, budget, threads), 1000, threads)
        assert sum(error is None for error in raised) == len(server.bodies)
        # The largest call that could have come next did not fit any more.
        assert 20_000 - 400 < server.tokens() <= 20_000


def test_both_roles_draw_on_one_budget(tmp_path: Path) -> None:
    budget = Budget(Caps(calls=10))
    with serving(lambda _: "fine") as server:
        settings = Settings(model="openai/fake", api_base=server.address)
        task = Model(settings, tmp_path, budget)
        reflection = Model(
            Settings(model="openai/fake", api_base=server.address, temperature=1.0),
            tmp_path,
            budget,
            "reflection",
            beside=task,
        )
        task.open()
        reflection.open()
        for number in range(9):
            (task, reflection)[number % 2].lm(str(number))
        for model in (task, reflection):
            with pytest.raises(BudgetSpent):
                model.lm("one more")
        assert len(server.bodies) == 10
    usages = task.meter.usage, reflection.meter.usage
    assert [usage.calls for usage in usages] == [1 + 5, 4]


def test_who_waits_for_a_retry_leaves_when_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 60.0)
    budget = Budget(Caps(calls=3))
    with serving(lambda body: 500 if '"0 Task' in json.dumps(body) else "fine") as server:
        raised = asked(over_http(server, budget, 2), 10, 2)
    assert type(raised[0]) is BudgetSpent
    assert len(server.bodies) == 3


def test_dollars_are_reserved_by_the_price_list_and_settled_by_what_was_charged() -> None:
    most = price("gpt-4o-mini", 1000, 100)
    assert most == price("openai/gpt-4o-mini", 1000, 100) > 0
    assert price("openai/unheard-of", 1000, 100) == 0
    budget = Budget(Caps(usd=0.01))
    with serving(lambda _: "fine" * 10) as server:
        engine = over_http(server, budget, 8)
        engine.server._connect = dearer(engine.server._connect)
        raised = asked(engine, 1000, 8)
    charged = engine._meter.usage.usd
    assert 0.009 < charged <= 0.01
    assert any(isinstance(error, BudgetSpent) for error in raised)


def dearer(connect: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    return lambda: {**connect(), "model": "openai/gpt-4o"}
