"""The short way to a server says what LiteLLM's way says: the same answers, counts and errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dspy.lm15 import Message, ServerError
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.models import direct, faults, http, load
from crb_dspy.models import server as server_module
from crb_dspy.models.compact import completed, shortened
from crb_dspy.models.direct import Direct, reaches
from crb_dspy.models.engine import Engine
from crb_dspy.models.meter import Meter
from crb_dspy.models.prices import dollars
from crb_dspy.models.server import Server
from tests.fake_server import Raw, Reply, serving
from tests.test_engine import REQUEST

ROOT = Path(__file__).parents[1]
ASKED = replace(REQUEST, messages=(Message.user("A girl of 3 years 39 °C."),))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def asked(address: str, litellm: bool) -> tuple[Any, Meter]:
    """Ask one request directly or by LiteLLM; return the response, or the error, and the meter."""
    connected = {"model": "openai/m", "api_base": address, "api_key": "secretkey", "timeout": 60}
    by_litellm = http.patient(server_module.litellm_completion(), connected)
    completion = by_litellm if litellm else Direct(connected)
    meter = Meter()
    engine = Engine(Server(lambda: connected, completion=completion), meter)
    try:
        return engine.complete(ASKED, retries=0), meter
    except Exception as error:  # noqa: BLE001  what is compared
        return error, meter


def test_the_same_body_is_sent_and_the_same_answer_read() -> None:
    with serving(lambda body: '{"GI": ["39 °C"]}') as fake:
        (one, first), (other, second) = asked(fake.address, True), asked(fake.address, False)
    assert fake.bodies[0] == fake.bodies[1]
    assert one == other
    counted = [{**vars(meter.usage), "seconds": 0} for meter in (first, second)]
    assert counted[0] == counted[1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504])
def test_the_same_errors(status: int) -> None:
    with serving(lambda body: status) as fake:
        if status in (429, 503):  # asked until it answers
            later: Reply = (status, {"Retry-After": "0.01"})
            replies = [later, "a", later, "a"]
            fake.reply = lambda body: replies.pop(0) if replies else "a"
        one, other = asked(fake.address, True)[0], asked(fake.address, False)[0]
    assert type(one) is type(other)
    assert "secretkey" not in str(other)


def test_a_prompt_that_is_too_long_is_told_apart_whatever_the_server() -> None:
    said = "This model's maximum context length is 8 tokens. However, you requested 9."
    for message in (said, "the request exceeds the available context size", "no such thing"):
        body = json.dumps({"error": {"message": message, "code": 400}})
        known = type(faults.known(direct._refusal(400, {}, body))).__name__
        assert known == ("InvalidRequestError" if "no such" in message else "ContextLengthError")
    quota = json.dumps({"error": {"message": "m", "code": "insufficient_quota"}})
    assert type(direct._refusal(429, {}, quota)).__name__ == "BillingError"


def test_what_is_no_completion_and_who_is_not_there_are_errors_that_may_pass() -> None:
    with serving(lambda body: "x") as fake:
        address = fake.address
        call = Direct({"model": "openai/m", "api_base": address, "timeout": 5})
        reply = call(messages=[{"role": "user", "content": "half \ud83d of it"}])
        assert reply.choices[0]["message"]["content"] == "x" and reply.nothing is None
    error = asked(address, False)[0]
    assert type(error).__name__ == "TransportError"
    with serving(lambda body: Raw(b"<html>")) as fake:
        call = Direct({"model": "openai/m", "api_base": fake.address, "timeout": 5})
        with pytest.raises(ServerError, match="no JSON in the reply"):
            call(messages=[{"role": "user", "content": "a"}])


@pytest.mark.parametrize("litellm", [False, True])
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_is_followed_on_the_same_server_and_to_no_other(
    status: int, litellm: bool
) -> None:
    def moved(place: str) -> Raw:
        return Raw(b"", status, {"Location": place})

    with serving(lambda body: "x") as other, serving() as fake:
        replies: list[Reply] = [moved("/v2/chat/completions"), "there"]
        fake.reply = lambda body: replies.pop(0)
        assert asked(fake.address, litellm)[0].text == "there"
        fake.reply = lambda body: moved(f"{other.address}/chat/completions")
        error = asked(fake.address, litellm)[0]
        assert f"name it: --api-base {other.address}" in str(error)
        fake.reply = lambda body: moved("/v1/chat/completions")
        assert isinstance(asked(fake.address, litellm)[0], Exception)  # and it ends
        assert other.bodies == []


def test_addresses_keep_their_query_and_their_login() -> None:
    call = Direct({"model": "openai/m", "api_base": "http://me:word@h:1/v1/?key=x", "api_key": "k"})
    assert call._url.raw_path == b"/v1/chat/completions?key=x"
    assert call._headers["Authorization"].startswith("Basic ")
    assert not reaches({"model": "openai/m"}) and not reaches({"model": "anthropic/m"})
    assert not reaches({"model": "openai/m", "api_base": "https://api.openai.com/v1"})


def test_prices_are_those_of_litellm() -> None:
    import litellm

    model = "gpt-4o-mini"
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    expected = sum(litellm.cost_per_token(model=model, prompt_tokens=1000, completion_tokens=100))
    assert dollars(model, usage) == pytest.approx(expected)
    assert dollars("nobody/knows", usage) == 0


def test_the_first_call_needs_no_litellm(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crb_dspy.models.lm import Model\n"
        "from crb_dspy.models.settings import Settings\n"
        "Model(Settings(model='openai/x', api_base=sys.argv[1]), Path('cache')).open()\n"
        "from crb_dspy.models.prices import price\n"
        "assert price('openai/gpt-4o-mini', 1, 1) > 0\n"
        "heavy = {'litellm', 'openai', 'mlflow', 'pandas', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    with serving() as fake:
        subprocess.run(
            [sys.executable, "-c", code, fake.address],
            check=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": ""},
        )
        assert len(fake.bodies) == 1


# Compact answers.

_KEY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@given(st.lists(_KEY, min_size=1, max_size=4, unique=True), st.booleans(), st.booleans())
def test_what_is_begun_and_what_the_grammar_allows_make_an_answer(
    keys: list[str], cot: bool, repeated: bool
) -> None:
    listed = {"type": "array", "items": {"type": "string"}, "maxItems": 8}
    properties: dict[str, Any] = dict.fromkeys(keys, listed)
    if cot:
        properties = {"reasoning": {"type": "string"}, **properties}
    schema = {"type": "object", "properties": properties}
    body = {"messages": [], "response_format": {"json_schema": {"schema": schema}}}
    short, begun = shortened(body)
    assert short["messages"] == [{"role": "assistant", "content": begun}]
    assert "response_format" not in short
    engine, start, *values, space, end = short["grammar"].split("\n")
    assert (engine, end) == ("%llguidance {}", "") and re.match(r"space: /\[ ", space)
    said = [json.loads(rule.partition("%json ")[2]) for rule in values]
    assert said == list(properties.values())
    # What the first rule spells out, with the shortest values and no space.
    rest = ""
    for word in re.findall(r'"(?:[^"\\]|\\.)*"|\S+', start.removeprefix("start:")):
        if word.startswith("value_"):
            rest += "[]" if said[int(word[6:])]["type"] == "array" else '"a"'
        elif word != "space":
            rest += json.loads(word)
    answer = {key: [] if key in keys else "a" for key in properties}
    whole = completed(begun + rest if repeated else rest, begun, cut=False)
    assert json.loads(whole) == answer
    assert whole == completed(rest, begun, cut=True) + "}"


def test_other_requests_stay_as_they_are() -> None:
    for schema in ({}, {"type": "object", "properties": {"a": {"type": "integer"}}}):
        body = {"messages": [], "response_format": {"json_schema": {"schema": schema}}}
        assert shortened(body) == (body, "")


# Cores.


def test_idle_cores_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    ticks = iter([(0, 0), (50, 150)])

    def sleep(seconds: float) -> None:
        write()

    def write() -> None:
        busy, idle = next(ticks)
        stat.write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n")

    write()
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("time.sleep", sleep)
    assert load.free_cores(stat) == 3.0
    monkeypatch.setattr("os.getloadavg", lambda: (1.5, 0.0, 0.0))
    assert load.free_cores(tmp_path / "none") == 2.5
