"""The exported script: it asks as the program does, and tells mistakes in one line."""

import ast
import json
import os
import runpy
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from crb_dspy.export._find import find
from crb_dspy.export._make import Request, Trial, make, narrowed
from crb_dspy.export._seam import prompts_of
from crb_dspy.models.settings import Settings
from crb_dspy.saved import Saved
from tests.export_trial import (
    CASES,
    requests,
    trial,
    tuned_on,
)
from tests.fake_model import keys_of
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.test_export import (
    tuned,
)

# Messages are compared in tests/test_export.py.
pytestmark = pytest.mark.usefixtures("brief")


@pytest.mark.usefixtures("script_here")
@pytest.mark.parametrize("cot", [False, True], ids=["", "cot"])
@pytest.mark.parametrize("program", ["monolithic", "grouped", "review"])
def test_the_script_asks_as_every_program_does(
    program: str, cot: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def reply(body: Body) -> Reply:
        prompt = body["messages"][-1]["content"]
        quotes = ["no seizures", "fever"] if "Already quoted" in prompt else ["vomiting"]
        return json.dumps({"reasoning": "so", **dict.fromkeys(keys_of(prompt), quotes)})

    saved = tuned("instructions", program, cot=cot)
    with serving(reply) as fake:
        proof, _ = make(find("python"), saved, tmp_path / "out", Request(trial=trial(fake)))
        sent = requests(fake)
    assert proof["cases"]["findings"] == "identical"
    assert sorted(sent[: len(sent) // 2]) == sorted(sent[len(sent) // 2 :])
    assert any("Already quoted" in text for text in sent) == (program == "review")


def exported(saved: Saved, folder: Path) -> Path:
    make(find("python"), saved, folder / "out", Request(check=False))
    return folder / "out" / "extract.py"


def script(path: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script where nothing of this project's dependencies can be imported but LiteLLM."""
    code = (
        "import runpy, sys\n"
        "for name in ('dspy', 'crb_dspy', 'mlflow', 'json_repair', 'rapidfuzz', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, str(path), *arguments]
    # A proxy that is not there, past which this machine is reached.
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}
    env = os.environ | proxy
    return subprocess.run(
        command, capture_output=True, text=True, input=stdin, timeout=120, env=env
    )


def test_the_script_needs_litellm_alone_and_reads_files_and_standard_input(
    server: FakeServer, tmp_path: Path
) -> None:
    path = exported(tuned("demonstrations"), tmp_path)
    (tmp_path / "r.txt").write_text("\ufeffHe had a fever.", "utf-8")
    done = script(path, "--api-base", server.address, "r.txt", "-", stdin="She had vomiting.")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows] == ["r", "stdin"], done.stderr
    assert all(set(row["findings"]) == {p.name for p in prompts_of(tuned("x"))} for row in rows)
    prompts = server.prompts()
    assert prompts[0].startswith("<report>\n## Report\nHe had a fever.\n</report>")
    assert prompts[14].startswith("<report>\n## Report\nShe had vomiting.\n</report>")
    # Some of the answers cannot be used: rows say so, and the script's exit code.
    assert done.returncode == 1
    assert {text for row in rows for text in row["errors"].values()} == {
        "ValueError: no list of quotes in the answer: 'I cannot say.'"
    }


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("none.txt", None, "error: none.txt: No such file or directory"),
        ("a.txt", b"37 \xb0C", "error: a.txt: not UTF-8 (byte 3); save it as UTF-8"),
        ("a.jsonl", b"{}", "error: a.jsonl: not one JSON object with id and sections a line"),
        ("a.jsonl", b"[]", "error: a.jsonl: not one JSON object with id and sections a line"),
    ],
)
def test_a_file_that_the_script_cannot_read_is_told_in_one_line_before_any_call(
    server: FakeServer, name: str, data: bytes | None, told: str, tmp_path: Path
) -> None:
    path = exported(tuned("instructions"), tmp_path)
    (tmp_path / "good.txt").write_text("He had a fever.")
    if data is not None:
        (tmp_path / name).write_bytes(data)
    done = script(path, "--api-base", server.address, "good.txt", name)
    (line,) = done.stderr.splitlines()
    assert line.startswith(told)
    assert (done.returncode, done.stdout, server.bodies) == (2, "", [])


def test_what_a_script_is_made_of_defines_no_name_twice(tmp_path: Path) -> None:
    tree = ast.parse(exported(tuned("instructions"), tmp_path).read_text())
    names = [
        name
        for node in tree.body
        for name in (
            [node.name]
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else [t.id for t in getattr(node, "targets", ()) if isinstance(t, ast.Name)]
        )
    ]
    assert len(names) > 100
    assert [name for name, times in Counter(names).items() if times > 1] == []


def connections(
    path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> dict[str, str | None]:
    """What the script would send with every call."""
    space = runpy.run_path(str(path))
    seen: list[dict[str, str | None]] = []
    idle = SimpleNamespace(learnt=SimpleNamespace(lines=list))

    def client(found: dict[str, str | None], **_: object) -> SimpleNamespace:
        seen.append(found)
        return idle

    monkeypatch.setitem(space["main"].__globals__, "Client", client)
    monkeypatch.setattr(sys, "argv", ["extract.py", *arguments, os.devnull])
    monkeypatch.setitem(space["main"].__globals__, "extract", lambda *_: {"errors": {}})
    space["main"]()
    return seen[0]


def test_the_tuned_models_address_and_key_are_for_that_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "k1")
    monkeypatch.setenv("OTHER_KEY", "k2")
    saved = tuned("instructions")
    special = {"api_base": "http://tuned.test/v1", "api_key_env": "MY_KEY"}
    path = exported(replace(saved, origin=saved.origin.model_copy(update=special)), tmp_path)
    own = connections(path, monkeypatch)
    assert (own["api_base"], own["api_key"]) == ("http://tuned.test/v1", "k1")
    other = connections(path, monkeypatch, "--model", "anthropic/claude")
    assert not other.keys() & {"api_base", "api_key"}
    named = connections(path, monkeypatch, "--model", "x/y", "--api-key-env", "OTHER_KEY")
    assert named["api_key"] == "k2"


def test_a_check_on_another_model_keeps_from_the_tuned_models_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OTHER_KEY", "k2")
    saved = narrowed(tuned("instructions"), ["GI"])
    with serving(empty) as theirs, serving(empty) as other:
        own = saved.origin.model_copy(update={"api_base": theirs.address})
        monkeypatch.setenv("OPENAI_BASE_URL", other.address)
        at = Settings(model="openai/qwen-other", api_key_env="OTHER_KEY")
        request = Request(trial=Trial(CASES[:1], at))
        make(find("python"), replace(saved, origin=own), tmp_path / "out", request)
        assert (len(requests(other)), theirs.bodies) == (2, [])


def test_the_script_goes_on_after_errors_of_the_server(tmp_path: Path) -> None:
    def reply(body: Body) -> Reply:
        if "response_format" in body:
            return 400
        return 404 if asked_keys(body) == ["GI"] else empty(body)

    path = exported(tuned("instructions"), tmp_path)
    (tmp_path / "r.txt").write_text("He had a fever.")
    with serving(reply) as fake:
        done = script(path, "--api-base", fake.address, str(tmp_path / "r.txt"))
    (row,) = map(json.loads, done.stdout.splitlines())
    assert list(row["errors"]) == ["GI"]
    assert row["findings"]["GI"] == []
    # Refused as it is, once more, and without its keywords; then left out, and said.
    assert sum("response_format" in body for body in fake.bodies) == 3
    assert "server: takes no response format, asked without" in done.stderr


def test_the_script_of_an_embedded_model_asks_for_one_that_answers(tmp_path: Path) -> None:
    saved = tuned("instructions")
    path = exported(tuned_on("local/some-model", saved), tmp_path)
    (tmp_path / "r.txt").write_text("x")
    done = script(path, str(tmp_path / "r.txt"))
    assert done.returncode != 0
    assert "--model openai/NAME --api-base URL" in done.stderr
