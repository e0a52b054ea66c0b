"""The doctor: a line for each check, a mend for each that fails, and an exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from crb_dspy.doctor.__main__ import main
from crb_dspy.doctor.checks import Fault, Unknown, in_turn, look
from tests.fake_server import Body, FakeServer, Raw, Reply, completion, serving
from tests.made_run import home

KEY = "sekrit-of-mine-1234"


def vllm(body: Body) -> Reply:
    """Answer as vLLM does: schemas kept to, prefixes kept and told, streams on request."""
    if body.get("stream"):
        chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("y", "es")]
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return Raw(text.encode(), headers={"Content-Type": "text/event-stream"})
    payload = completion(body, '{"answer": ["yes"]}')
    sent = payload["usage"]["prompt_tokens"]
    payload["usage"]["prompt_tokens_details"] = {"cached_tokens": 16 * (sent // 32)}
    if body.get("logprobs"):
        payload["choices"][0]["logprobs"] = {"content": [{"token": "yes", "logprob": -0.1,
            "bytes": None, "top_logprobs": []}]}  # fmt: skip
    return Raw(payload)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with home(tmp_path):
        yield tmp_path


def examined(place: Path, *arguments: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Run the command: its code, state and words by check, and all it printed."""
    with chdir(place), redirect_stdout(StringIO()) as printed:
        code = main(list(arguments))
    lines = printed.getvalue().splitlines()
    found = [re.fullmatch(r"(\S+) +(\S+(?: \S+)?) {2,}(.*)|(\S+) +(\S+) (.*)", s) for s in lines]
    assert all(found)
    cells = [(m[2], (m[1], m[3])) for m in found if m and m[2]]
    return code, dict(cells), printed.getvalue()


def at(server: FakeServer, model: str = "openai/fake") -> list[str]:
    return ["--model", model, "--api-base", server.address]


def test_a_server_that_can_all_is_well(place: Path) -> None:
    with serving(vllm) as server:
        server.models = [{"id": "fake", "max_model_len": 32768}]
        code, found, printed = examined(place, *at(server))
    assert code == 0, printed
    assert found["model"] == ("ok", "'fake' is listed")
    assert found["JSON schema"] == ("ok", "kept to, whatever is asked")
    assert found["probabilities"] == ("ok", "given")
    assert (
        found["prefix cache"][0] == "ok" and "computed the second time" in found["prefix cache"][1]
    )
    assert "32768 tokens by the server" in found["context"][1]
    assert found["streaming"][1].startswith("works (")
    assert "tokens a second" in found["batch"][1]


def test_a_dead_port_says_how_a_server_is_named_and_asks_no_more(place: Path) -> None:
    with serving() as server:
        pass
    code, found, _ = examined(place, *at(server))
    assert code == 1
    state, said = found["server"]
    assert state == "FAIL"
    assert "nothing at 127.0.0.1" in said and "--api-base" in said
    assert found["answer"] == ("-", "not tried, since 'server' failed")


def test_a_wrong_key_is_said_and_never_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(vllm) as server:
        server.key, server.models = "another", [{"id": "fake"}]
        code, found, printed = examined(place, *at(server), "--api-key-env", "MY_KEY")
    assert code == 1
    assert found["key"] == ("ok", "from MY_KEY")
    assert found["model"] == ("FAIL", "the key is refused (401); check the key: --api-key-env NAME")
    assert KEY not in printed


def test_a_model_that_is_not_there_names_those_that_are(place: Path) -> None:
    with serving(vllm) as server:
        server.models = [{"id": "qwen3"}, {"id": "llama"}]
        code, found, _ = examined(place, *at(server))
    assert code == 1
    assert found["model"][1] == (
        "'fake' is not among qwen3, llama; name one of these: --model openai/qwen3"
    )


def test_what_a_server_lacks_is_no_fault(place: Path) -> None:
    def poor(body: Body) -> Reply:
        if "response_format" in body or body.get("logprobs") or body.get("stream"):
            return 400
        return "yes"

    with serving(poor) as server:
        code, found, printed = examined(place, *at(server))
    assert code == 0, printed
    assert "but for: response_format" in found["answer"][1]
    assert {found[name][0] for name in ("JSON schema", "probabilities", "streaming")} == {"-"}


def test_a_server_that_takes_its_time_is_waited_for_as_long_as_is_said(place: Path) -> None:
    def slow(body: Body) -> Reply:
        late = body.get("logprobs") or body.get("stream")
        return Raw(completion(body, "yes"), pause=1.0) if late else "yes"

    with serving(slow) as server:
        code, found, printed = examined(place, *at(server), "--timeout", "3")
    assert code == 0, printed
    late = ("-", "no answer within 3 s; --timeout raises it")
    assert (found["probabilities"], found["streaming"]) == (late, late)


def test_a_context_beyond_the_servers_is_a_fault(place: Path) -> None:
    with serving(vllm) as server:
        server.models = [{"id": "fake", "max_model_len": 4096}]
        code, found, _ = examined(place, *at(server), "--context", "32768")
    assert (code, found["context"][0]) == (1, "FAIL")
    assert "set context = 4096" in found["context"][1]


def test_whatever_goes_wrong_in_a_check_is_its_finding() -> None:
    def broken() -> str:
        raise ZeroDivisionError("by zero")

    def fault() -> str:
        raise Fault("bad", "mend it")

    def unknown() -> str:
        raise Unknown("can't say")

    assert str(look("a", broken, "call")) == "FAIL a              by zero; call"
    assert [look("a", each).state for each in (fault, unknown)] == ["FAIL", "-"]
    three = iter([("a", fault, ""), ("b", unknown, ""), ("c", unknown, "")])
    assert [found.said for found in in_turn(three, ("a",))][1:] == [
        "not tried, since 'a' failed"
    ] * 2
