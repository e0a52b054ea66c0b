"""Several servers of one model: who is asked, who is left, who comes back; nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import InvalidRequestError, RateLimitError, ServerError, TransportError
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.models.fleet import LEFT, Fleet, servers
from crb_dspy.models.lm import Model
from crb_dspy.models.settings import Settings
from crb_dspy.program.prompt import ReportFirst
from tests.fake_server import Body, FakeServer, empty, serving
from tests.test_saved import tuned

A, B = "http://a/v1", "http://b/v1"


class Servers:
    """Servers that answer with their names unless `broken` says what they fail with."""

    def __init__(self) -> None:
        self.now, self.asked = 0.0, list[tuple[str, str]]()
        self.broken: dict[str, Exception] = {}

    def ask(self, connected: Mapping[str, Any]) -> Callable[..., str]:
        name = connected["api_base"]

        def answer(messages: Any, **given: Any) -> str:
            self.asked.append((name, messages[-1]["content"]))
            if error := self.broken.get(name):
                raise error
            return str(name)

        return answer

    def fleet(self, *names: str) -> Fleet:
        return Fleet({"model": "openai/x"}, names or (A, B), lambda: self.now, self.ask)


def about(report: object, question: object = 1) -> dict[str, Any]:
    text = f"<report>\n{report}\n</report>\nTask: {question}"
    return {"messages": [{"role": "user", "content": text}]}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_all_requests_about_a_report_go_to_one_server(asked: list[tuple[int, int]]) -> None:
    fleet = Servers().fleet(A, B, "http://c/v1")
    homes: dict[int, set[str]] = {}
    for report, question in asked:
        homes.setdefault(report, set()).add(fleet(**about(report, question)))
    assert all(len(home) == 1 for home in homes.values())


def test_a_new_report_goes_where_the_fewest_calls_are_under_way() -> None:
    release, at = threading.Event(), Counter[str]()

    def ask(connected: Mapping[str, Any]) -> Callable[..., str]:
        def answer(**given: Any) -> str:
            at[connected["api_base"]] += 1
            release.wait(10)
            return ""

        return answer

    fleet = Fleet({}, [A, B], ask=ask)
    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(fleet, **about(number))
            while at.total() <= number:
                time.sleep(0.001)
        release.set()
    assert at == {A: 4, B: 4}


def test_a_server_that_does_not_answer_is_left_and_tried_again_with_one_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = Servers()
    fleet = made.fleet()
    assert fleet(**about(1)) == A
    made.broken[A] = TransportError("refused")
    assert fleet(**about(1)) == B  # the same call, elsewhere
    asked = len(made.asked)
    assert [fleet(**about(n)) for n in range(5)] == [B] * 5
    assert all(name == B for name, _ in made.asked[asked:])
    made.now = 1.1 * LEFT
    assert [fleet(**about(n)) for n in range(10, 13)] == [B] * 3
    assert [name for name, _ in made.asked[asked + 5 :]].count(A) == 1
    made.broken.clear()
    made.now = 10 * LEFT
    assert fleet(**about(20)) == A
    said = capsys.readouterr().err
    assert said.count("left for") == 2 and said.count("answers again") == 1


def test_where_all_are_left_the_next_to_be_tried_is_asked_and_its_error_told() -> None:
    made = Servers()
    made.broken = {A: TransportError("a"), B: RateLimitError("b", retry_after=9.0)}
    fleet = made.fleet()
    for _ in range(3):
        with pytest.raises((TransportError, RateLimitError)):
            fleet(**about(1))
    assert Counter(name for name, _ in made.asked) == {A: 3, B: 3}
    made.broken.clear()
    assert fleet(**about(1)) in (A, B)


def test_what_is_the_requests_own_fault_is_asked_nowhere_else() -> None:
    made = Servers()
    made.broken = {A: InvalidRequestError("no"), B: InvalidRequestError("no")}
    with pytest.raises(InvalidRequestError):
        made.fleet()(**about(1))
    assert len(made.asked) == 1


def test_one_bad_answer_is_asked_elsewhere_and_the_server_kept() -> None:
    made = Servers()
    fleet = made.fleet()
    made.broken[A] = ServerError("500")
    assert fleet(**about(1)) == B
    made.broken.clear()
    assert A in [fleet(**about(n)) for n in range(2, 4)]


def test_servers_are_typed_or_listed_in_a_file(tmp_path: Path) -> None:
    listed = tmp_path / "servers.txt"
    listed.write_text(f"# ours\n{B}\n\n{A}\n")
    assert servers([A, str(listed)]) == [A, B]
    assert servers(None) == []
    listed.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"servers\.txt"):
        servers(str(listed))


@contextmanager
def fleet_of(tmp_path: Path, *fakes: FakeServer, threads: int = 8) -> Iterator[Model]:
    first, *others = [fake.address for fake in fakes]
    settings = Settings(model="openai/fake", api_base=first, beside=tuple(others), threads=threads)
    model = Model(settings, tmp_path)
    model.open()
    with dspy.context(lm=model.lm, adapter=ReportFirst(), disable_history=True):
        yield model


def test_two_servers_share_reports_and_one_that_dies_costs_none(tmp_path: Path) -> None:
    parts = list(tuned().program.parts.values())
    with ExitStack() as stack:
        fakes = [stack.enter_context(serving(empty, delay=0.002)) for _ in range(2)]
        dead = threading.Event()

        def dying(body: Body) -> str | int:
            answer = empty(body)
            assert isinstance(answer, str)
            return 503 if dead.is_set() else answer

        fakes[1].reply = dying
        with fleet_of(tmp_path, *fakes) as model:
            cases = [Case(f"c{n}", {"R": f"report {n}."}) for n in range(60)]
            ticks = iter(range(10**6))

            def progress() -> None:
                number = next(ticks)
                if number in (30, 60):
                    dead.set() if number == 30 else dead.clear()

            readings = readings_of(parts, cases, threads=8, progress=progress)
        assert not [r for row in readings for r in row if r.error]
        assert model.meter.usage.calls >= 60 * len(parts)
    homes: dict[str, set[int]] = {}
    for number, fake in enumerate(fakes):
        for prompt in fake.prompts():
            if "Task:" in prompt:
                homes.setdefault(prompt.partition("</report>")[0], set()).add(number)
    assert len(homes) == 60
    assert all(any(number in home for home in homes.values()) for number in (0, 1))
    moved = [home for home in homes.values() if len(home) > 1]
    # Those that were under way at the server when it died.
    assert len(moved) <= 16


def test_an_answer_is_known_whichever_server_gave_it(tmp_path: Path) -> None:
    with serving() as one, serving() as two:
        alone = Settings(model="openai/fake", api_base=one.address)
        more = Settings(model="openai/fake", api_base=one.address, beside=(two.address,))
    assert alone.identity == more.identity
    assert json.loads(more.model_dump_json())["beside"] == [two.address]
