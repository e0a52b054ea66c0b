"""Keys and passwords come out nowhere, however they are echoed, encoded or mistyped."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy import errors
from crb_dspy.command import run
from crb_dspy.compile.config import read_experiment
from crb_dspy.errors import UserError, hide, one_line, scrubbed, without_secrets
from crb_dspy.extract import __main__ as extract
from crb_dspy.models.address import bare, whole
from crb_dspy.models.settings import Settings
from crb_dspy.models.wire import response_of
from crb_dspy.saved import write_program
from crb_dspy.sweep import __main__ as sweep
from tests.fake_server import Body, FakeServer, Reply, asked_keys, serving
from tests.made_run import Home, home
from tests.test_saved import tuned

KEY = "canary/KEY+with=marks-7f3a9c1e5b"
PASSWORD = "canary-PASS:w?rd-2d8e6a4c"
QUOTED = urllib.parse.quote(PASSWORD, safe="")


def written(secret: str) -> list[str]:
    """Twenty ways in which a secret comes out."""
    data, double = secret.encode(), urllib.parse.quote(urllib.parse.quote(secret, safe=""))
    alike = urllib.parse.quote(secret, safe="")
    return [
        *(
            secret,
            f"Bearer {secret}",
            f"x-api-key: {secret}",
            f"{secret}\n{secret}",
            secret.upper(),
        ),
        *(alike, alike.lower(), urllib.parse.quote_plus(secret), double, f"?api_key={alike}&a=b"),
        *(base64.b64encode(text).decode() for text in (data, b"a" + data, b"ab" + data)),
        base64.urlsafe_b64encode(data + b"xy").decode().rstrip("="),
        base64.b64encode(b"user:" + data).decode(),
        *(data.hex(), data.hex().upper(), secret[::-1], json.dumps({"k": secret}), repr(secret)),
        *(html.escape(secret), json.dumps(json.dumps(secret))),
    ]


def traces(secret: str) -> list[bytes]:
    """What must stand nowhere: the end of a secret, of letters alone, and what it becomes."""
    core = secret.rpartition("-")[2]
    assert core.isalnum() and len(core) >= 8
    texts = [core, core[::-1], core.encode().hex()]
    for before in range(3):
        texts.append(base64.b64encode(bytes(before) + secret.encode()).decode()[4:-8])
    return [text.lower().encode() for text in texts]


def leaks(text: bytes, *secrets: str) -> list[bytes]:
    return [trace for secret in secrets for trace in traces(secret) if trace in text.lower()]


@pytest.fixture(autouse=True)
def _canary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(errors, "_HIDDEN", set())


def test_each_way_of_writing_a_secret_is_known() -> None:
    hide(PASSWORD)
    assert len(written(KEY)) >= 20
    for secret in (KEY, PASSWORD):
        for text in written(secret):
            assert leaks(text.encode(), secret), text
            for clean in (scrubbed, without_secrets):
                assert not leaks(clean(f"a {text} b").encode(), secret), text


@given(st.text(min_size=8, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_whatever_the_secret_and_wherever_it_stands(secret: str, left: bytes, right: bytes) -> None:
    inside = base64.b64encode(left + secret.encode() + right).decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors, "_HIDDEN", {secret})
        assert secret not in without_secrets(f"a{secret}b")
        clean = without_secrets(inside)
    assert len(clean) < len(inside)


def test_words_and_reports_stay_as_they_are() -> None:
    hide("fever")
    report = "She had fever, a key finding; password unknown; tokens 12, sk-3."
    assert without_secrets(report) == report


def test_what_looks_like_a_key_is_taken_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "sk-proj-0123456789abcdefABCDEF",
        "Authorization: Bearer abc.def.ghi-123",
        "https://me:secret@host/v1",
        "hf_0123456789abcdefghij",
        "AKIA0123456789ABCDEF",
    ):
        assert "***" in one_line(ValueError(text))
    assert one_line(ValueError("half \ud83d of it")) == "half ? of it"


# Addresses.


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        (f"http://user:{QUOTED}@host:80/v1", "http://host:80/v1"),
        ("user:secret@host:80/v1", "host:80/v1"),
        ("https://host/v1?key=abc123&x=1", "https://host/v1"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("localhost:8000", "localhost:8000"),
    ],
)
def test_logins_are_taken_out_of_addresses_and_put_back_for_the_call(
    address: str, plain: str
) -> None:
    settings = Settings(model="openai/x", api_base=address)
    assert settings.api_base == plain
    assert whole(plain) == address
    assert scrubbed(f"cannot reach {address}").count("***") == (address != plain)


def test_an_address_that_cannot_be_read_is_not_shown() -> None:
    for address in ("http://u:pass/word@host/v1", "", "http://a@b@"):
        with pytest.raises(UserError) as caught:
            read_experiment(None, {"api_base": address})
        assert "pass" not in str(caught.value).partition(":")[0]
        assert "word@" not in str(caught.value)
    assert bare("http://h/v1") == "http://h/v1"


# Typing mistakes.


@pytest.mark.parametrize(
    "setting",
    [
        {"api_key_env": KEY},
        {"api_key_env": "sk-0123456789abcdefghij"},
        {"reflection_api_key_env": KEY},
        {"model": KEY},
        {"name": "sk-0123456789abcdefghij"},
        {"data": KEY},
        {"api_key": KEY},
        {KEY: "x"},
        {"limit": KEY},
        {"model": ""},
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_shown(
    setting: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_: list[str]) -> int:
        read_experiment(None, setting)
        return 0

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert not leaks(said.encode(), KEY)
    assert "sk-0123" not in said
    assert said.count("\n") == 1


def test_a_key_that_a_server_tells_as_its_name_or_number_is_not_kept() -> None:
    message = SimpleNamespace(content=f'{{"GI": ["{KEY}"]}}')
    usage = SimpleNamespace(prompt_tokens=1, completion_tokens=1)
    choice = SimpleNamespace(message=message, finish_reason="stop")
    reply = SimpleNamespace(choices=[choice], usage=usage, id=f"id-{KEY}", model=KEY)
    assert not leaks(repr(response_of(reply, "m")).encode(), KEY)


# A whole run against a server that gives away all it knows.


def telling(numbers: Iterator[int]) -> Any:
    texts = [*written(KEY), *written(PASSWORD), *written(f"user:{PASSWORD}")]

    def reply(body: Body) -> Reply:
        if "Task:" not in body["messages"][-1]["content"]:
            return json.dumps({"answer": [KEY]})
        number = next(numbers)
        if number % 9 == 8:
            return 400  # whose message holds the key
        text = texts[number % len(texts)]
        keys = asked_keys(body)
        return f"not JSON {text}" if number % 7 == 6 else json.dumps({k: [text] for k in keys})

    return reply


def compiled(place: Home, server: FakeServer) -> None:
    settings = ("--set", "allow_leaks=true", "--set", "traces=2")
    small = ("--limit", 16, "--categories", "GI,GU", "--optimizer", "factors", "--force")
    place.compile(server, *small, *settings)


def swept(place: Home, server: FakeServer) -> None:
    grid = 'limit = 36\noptimizer = ["none", "labeled"]\ncategories = [["GI", "GU"]]\n'
    (place.path / "grid.toml").write_text(grid)
    given = ["--model", "openai/fake", "--api-base", server.address, "--threads", "2"]
    sweep.main(["grid.toml", *given])


def extracted(place: Home, server: FakeServer) -> None:
    program = write_program(place.path / "program.json", tuned())
    texts = [{"Case": f"No fever on day {number}."} for number in range(30)]
    lines = [json.dumps({"id": f"c{n}", "sections": text}) + "\n" for n, text in enumerate(texts)]
    (place.path / "in.jsonl").write_text("".join(lines))
    given = ["--model", "openai/fake", "--api-base", server.address, "--out", "found.jsonl"]
    extract.main([str(program), "--input", "in.jsonl", *given])


@pytest.mark.parametrize("command", [compiled, swept, extracted])
def test_no_command_leaves_key_or_password_behind(
    command: Callable[[Home, FakeServer], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(telling(count())) as server, home(tmp_path) as place:
        server.address = server.address.replace("://", f"://user:{QUOTED}@")
        command(place, server)
        assert len(server.bodies) > 40
        said = "".join(capsys.readouterr())
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 3
    secrets = (KEY, PASSWORD)
    assert [path for path in kept if leaks(path.read_bytes(), *secrets)] == []
    assert not leaks(said.encode(), *secrets)
