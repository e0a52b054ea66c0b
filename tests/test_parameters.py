"""Parameters of a request: checked, written, read again, and part of what they change."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pytest

from crb_dspy.command import parameters
from crb_dspy.compile.artifacts import toml
from crb_dspy.compile.config import Experiment, read_experiment
from crb_dspy.errors import UserError
from crb_dspy.evaluate import main
from crb_dspy.export._seam import Export, beside, prompts_of
from crb_dspy.export.langextract import LangExtract
from crb_dspy.extract.__main__ import main as extract
from crb_dspy.models.parameters import redirects, resolved
from crb_dspy.saved import load_program, write_program
from tests.behaviours import QUOTE, good
from tests.fake_server import serving
from tests.test_saved import tuned

REQUEST = {"top_p": 0.9, "chat_template_kwargs": {"enable_thinking": False, "n": [1, 2]}}


def test_an_experiment_with_parameters_is_written_so_that_it_is_read_again(tmp_path: Path) -> None:
    experiment = Experiment(request=REQUEST, max_answer_tokens=4000)
    written = tmp_path / "experiment.toml"
    written.write_text(toml(experiment.model_dump(by_alias=True)))
    assert read_experiment(written, {}) == experiment
    plain = toml(Experiment().model_dump(by_alias=True))
    assert not {"request", "max_answer_tokens", "columns"} & set(tomllib.loads(plain))


def test_parameters_of_the_task_are_not_those_of_another_model_that_reflects() -> None:
    roles = Experiment(request=REQUEST, reflection_model="openai/big", max_answer_tokens=9).roles
    assert (roles["reflection"].request, roles["reflection"].max_answer_tokens) == ({}, None)
    assert Experiment(request=REQUEST).roles["reflection"].request == REQUEST


def test_a_saved_program_and_its_exports_carry_them(tmp_path: Path) -> None:
    saved = tuned(request=REQUEST, max_answer_tokens=4000)
    again = load_program(write_program(tmp_path / "program.json", saved))
    assert again.origin.request == REQUEST
    assert beside(Export(again, prompts_of(again))) == REQUEST
    assert {prompt.max_tokens for prompt in prompts_of(again)} == {4000}
    assert "request" not in write_program(tmp_path / "plain.json", tuned()).read_text()


# What stands in for LangExtract: it prints the settings that it is given.
STUB = """
import json
from types import SimpleNamespace
data = SimpleNamespace(ExampleData=lambda *a: a, Extraction=lambda **k: k)
factory = SimpleNamespace(ModelConfig=lambda **k: k)
def extract(*texts, config, **more):
    print(json.dumps(config["provider_kwargs"]))
    return SimpleNamespace(extractions=[])
"""


def test_langextract_is_given_them_and_says_what_it_does_not_send(tmp_path: Path) -> None:
    request = REQUEST | {"reasoning_effort": "low"}
    saved = tuned(request=request, temperature=0.3, seed=7, max_answer_tokens=4000)
    LangExtract().write(Export(saved, prompts_of(saved)), tmp_path)
    stub = tmp_path / "stub"
    (stub / "langextract").mkdir(parents=True)
    (stub / "langextract/__init__.py").write_text(STUB)
    level = "from types import SimpleNamespace\nPromptValidationLevel = SimpleNamespace(OFF=0)\n"
    (stub / "langextract/prompt_validation.py").write_text(level)
    (stub / "langextract-1.7.0.dist-info").mkdir()
    (stub / "langextract-1.7.0.dist-info/METADATA").write_text("Name: langextract\nVersion: 1.7.0")
    (tmp_path / "r.txt").write_text("x")
    command = [sys.executable, str(tmp_path / "extract.py"), "m", str(tmp_path / "r.txt"), "URL"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(stub)}, check=True
    )
    first = json.loads(done.stdout.splitlines()[0])
    given = {"base_url": "URL", "temperature": 0.3, "seed": 7, "max_output_tokens": 4000}
    assert first == {**given, **request}
    assert done.stderr == "LangExtract does not send: chat_template_kwargs\n"


def test_exports_tell_ollama_its_context() -> None:
    saved = tuned(model="ollama_chat/qwen", context=32768)
    assert beside(Export(saved, prompts_of(saved))) == {"num_ctx": 32768}


def test_a_header_is_read_from_the_environment_when_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TENANT", "blue-tenant-1")
    given = {"headers": {"X-T": "Bearer $TENANT"}, "top_k": 4}
    assert resolved(given) == {"top_k": 4, "extra_headers": {"X-T": "Bearer blue-tenant-1"}}
    assert redirects(given) == {"headers": given["headers"]}
    monkeypatch.delenv("TENANT")
    with pytest.raises(UserError, match="^TENANT: set this environment variable"):
        resolved(given)


def test_flags_make_tables() -> None:
    assert parameters(["a.b=1", "a.c=x", "top_p=0.5"]) == {"a": {"b": 1, "c": "x"}, "top_p": 0.5}
    with pytest.raises(UserError, match="--request a.b=2: 'a' is not a table"):
        parameters(["a=1", "a.b=2"])
    with pytest.raises(UserError, match="write --request key=value"):
        parameters(["a"])


def test_a_table_of_any_columns_is_evaluated(tmp_path: Path) -> None:
    write_program(tmp_path / "program.json", tuned())
    (tmp_path / "t.csv").write_text(f"no,report,abdomen\n1,A girl had {QUOTE}.,{QUOTE}\n")
    columns = "id=no,text=report,GI=abdomen"
    given = ["program.json", "--data", "t.csv", "--columns", columns, "--json", "--api-base"]
    shown = io.StringIO()
    with serving(good) as server, chdir(tmp_path), redirect_stdout(shown):
        assert main([*given, server.address]) == 0
        asked = len(server.bodies)
        same = ["--columns", columns, "--out", "o.jsonl", "--api-base", server.address]
        assert extract(["program.json", "--input", "t.csv", *same]) == 0
        assert len(server.bodies) == asked  # the same prompts, from the cache
    assert json.loads(shown.getvalue().split("\n")[0])["categories"]["GI"]["nonempty_f1"] == 1
    (row,) = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert (row["id"], [found["quote"] for found in row["findings"]["GI"]]) == ("1", [QUOTE])
