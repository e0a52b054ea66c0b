"""Foreign programs run no code and reach no server unasked; texts that leave are announced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.errors import UserError
from crb_dspy.prompts import main as prompts
from crb_dspy.saved import Saved, load_program, write_program
from crb_dspy.trust import consent, foreign, hosts
from tests.test_saved import messages, tuned

EVIL = """\
from pathlib import Path
from crb_dspy.program import ExtractionProgram, Part
Path("ran").write_text("yes")
class Mine(ExtractionProgram):
    def build(self, schema):
        return {"everything": Part(schema.categories)}
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def read(**origin: Any) -> Saved:
    """A program from elsewhere, as it was read."""
    return load_program(write_program(Path("program.json"), tuned(**origin)))


def settings(saved: Saved, *, trust: bool = False, base: str | None = None) -> Any:
    return saved.origin.settings(None, base, 1, trust=trust)


def test_code_is_run_only_where_it_was_agreed_to_by_hash() -> None:
    own = Path("mine.py")
    own.write_text(EVIL)
    path = write_program(Path("program.json"), tuned("./mine.py:Mine"))
    Path("ran").unlink()
    with pytest.raises(UserError) as caught:
        load_program(path)
    assert str(caught.value) == (
        "program.json: it would run the Python code in ./mine.py; --trust allows this, once and "
        "for all"
    )
    assert not Path("ran").exists()
    load_program(path, trust=True)
    load_program(path)
    Path("ran").unlink()
    # The same attack with a file that fits: the hash in the program's file guards nothing.
    own.write_text(EVIL + "# another\n")
    write_program(path, tuned("./mine.py:Mine"))
    Path("ran").unlink()
    with pytest.raises(UserError, match="--trust"):
        load_program(path)
    with pytest.raises(UserError, match="--trust"):
        prompts(["program.json"])
    assert not Path("ran").exists()


def test_modules_that_lie_in_a_folder_are_not_run_unless_python_is_told_so() -> None:
    Path("dspy.py").write_text('open("ran", "w").close()\n')
    for flags, ran in ((["-P"], False), ([], True)):
        command = [sys.executable, *flags, "-m", "crb_dspy.prompts", "category_specific"]
        done = subprocess.run(command, capture_output=True)
        assert Path("ran").exists() == ran == bool(done.returncode)


def test_what_was_compiled_here_needs_no_trust() -> None:
    Path("mine.py").write_text(EVIL)
    given: dict[str, Any] = {"api_base": "https://elsewhere.example/v1", "api_key_env": "OTHER_KEY"}
    saved = tuned("./mine.py:Mine", None, None, **given)
    foreign.agree("./mine.py:Mine", "openai/fake", *given.values())
    again = load_program(write_program(Path("program.json"), saved))
    assert settings(again).api_base == given["api_base"]


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (
            {"api_base": "https://evil.example/v1"},
            "reports and the key of your environment (if there is one) to https://evil.example/v1",
        ),
        (
            {"api_base": "http://10.0.0.9/v1", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
            "reports and the key in AWS_SECRET_ACCESS_KEY to http://10.0.0.9/v1",
        ),
        ({"api_key_env": "GH_TOKEN"}, "reports and the key in GH_TOKEN to openai/fake"),
        ({"model": "huggingface/https://evil.example"}, "to huggingface/https://evil.example"),
    ],
)
def test_a_server_or_key_that_only_the_file_names_needs_trust_once(
    origin: dict[str, Any], said: str
) -> None:
    saved = read(**origin)
    with pytest.raises(UserError) as caught:
        settings(saved)
    assert said in str(caught.value)
    assert "--trust" in str(caught.value)
    assert settings(saved, trust=True) == settings(saved)
    with pytest.raises(UserError, match="--trust"):
        settings(read(**origin | {"model": "huggingface/https://evil.example/another"}))


def test_a_server_on_this_machine_or_of_ones_own_choice_needs_none() -> None:
    assert settings(read(api_base="http://127.0.0.1:8000/v1")).api_base
    saved = read(api_base="https://evil.example/v1")
    assert settings(saved, base="http://mine/v1").api_base == "http://mine/v1"
    assert saved.origin.settings("openai/other", None, 1).api_base is None


def test_weights_that_only_the_file_names_need_trust_once() -> None:
    saved = read(model="local/./odd.gguf")
    with pytest.raises(UserError, match="says to load the weights in ./odd.gguf; --trust"):
        settings(saved)
    assert saved.origin.settings("local/./odd.gguf", None, 1).embedded
    assert settings(saved, trust=True) == settings(saved)
    assert settings(read(model="local/qwen2.5-coder-1.5b-instruct")).embedded


def test_consent_that_cannot_be_kept_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    consent.allowed("x", "thing", given=True)
    with pytest.raises(UserError, match="x; --trust"):
        consent.allowed("x", "thing", given=False)


def test_a_folder_from_elsewhere_brings_no_consent() -> None:
    Path("mlruns").mkdir()
    Path("mlruns/agreed").write_text("\n".join("0123456789abcdef" * 4 for _ in range(9)))
    assert not consent.agreed("thing")


# Where texts go.


def resolving(monkeypatch: pytest.MonkeyPatch, **known: str) -> None:
    def found(host: str, _: object) -> list[Any]:
        if host not in known:
            raise OSError("not known")
        return [(0, 0, 0, "", (known[host], 0))]

    monkeypatch.setattr("socket.getaddrinfo", found)


@pytest.mark.parametrize(
    ("model", "address", "host"),
    [
        ("openai/x", "http://127.0.0.1:1/v1", ""),
        ("openai/x", "http://[::1]:1/v1", ""),
        ("openai/x", "http://localhost/v1", ""),
        ("openai/x", "localhost:8000/v1", ""),
        ("openai/x", "http://inside:8000/v1", ""),
        ("openai/x", "http://10.1.2.3/v1", ""),
        ("ollama_chat/x", None, ""),
        ("local/x", None, ""),
        ("openai/x", "https://api.example/v1", "api.example"),
        ("openai/x", "https://8.8.8.8/v1", "8.8.8.8"),
        ("openai/x", "https://unknown/v1", "unknown"),
        ("anthropic/claude", None, "the servers of anthropic"),
        ("gpt-4o", None, "the servers of gpt-4o"),
    ],
)
def test_hosts_outside_are_told_from_those_inside(
    model: str, address: str | None, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    literal = {name: name for name in ("10.1.2.3", "8.8.8.8")}
    resolving(monkeypatch, **literal, inside="192.168.1.7", **{"api.example": "8.8.4.4"})
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    assert hosts.outside(model, address) == host


def test_texts_that_leave_are_announced_once_a_host_unless_silenced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch)
    places = [("openai/x", "https://a.example/v1"), ("openai/y", "https://a.example/v1")]
    hosts.tell([*places, ("openai/x", "http://127.0.0.1/v1")])
    (line,) = capsys.readouterr().err.splitlines()
    assert "about to be sent to a.example, outside this machine" in line
    hosts.tell(places)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(hosts.SETTING, "off")
    hosts.tell([("openai/x", "https://b.example/v1")])
    assert capsys.readouterr().err == ""


def test_what_is_asked_here_goes_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "a.example")
    monkeypatch.delenv("no_proxy", raising=False)
    hosts.spare_proxy("http://127.0.0.1:1/v1")
    hosts.spare_proxy("http://127.0.0.1:2/v1")
    hosts.spare_proxy("https://b.example/v1")
    assert os.environ["NO_PROXY"] == "a.example,127.0.0.1"
    assert os.environ["no_proxy"] == "127.0.0.1"


def test_prompts_of_a_schema_of_ones_own_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(
        '[[category]]\nkey = "Rash"\ntitle = "Rashes"\nguidance = "skin"\ninstruction = "Quote."\n'
    )
    assert prompts(["category_specific", "--schema", "mine.toml", "--format", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["categories"] == ["Rash"]
    from crb_dspy.data.schema import load_schema

    saved = tuned("category_specific", {}, load_schema("mine.toml"), schema="mine.toml")
    write_program(Path("program.json"), saved)
    Path("mine.toml").unlink()
    assert prompts(["program.json", "--format", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["categories"] == ["Rash"]
    assert messages(saved)
