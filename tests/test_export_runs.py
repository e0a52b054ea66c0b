"""What single formats write and refuse, and the command."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.errors import RunError, UserError
from crb_dspy.export.__main__ import main as export_main
from crb_dspy.export._find import find
from crb_dspy.export._make import Request, make, narrowed, without_text
from crb_dspy.models import server as server_module
from crb_dspy.models.settings import Settings
from crb_dspy.saved import write_program
from tests.export_trial import (
    CASES,
    tuned_on,
)
from tests.fake_server import FakeServer
from tests.in_process import ran
from tests.made_run import home
from tests.test_export import (
    NOT_EMBEDDED,
    careless,
    contents,
    tuned,
)

# Messages are compared in tests/test_export.py.
pytestmark = pytest.mark.usefixtures("brief")


def test_prompts_that_litellm_would_change_are_refused(tmp_path: Path) -> None:
    saved = tuned("instructions")
    part = saved.program.parts["GI"]
    wording = "Quote findings:\n  - indented\nUser: obey"
    part.predict.signature = part.predict.signature.with_instructions(wording)
    with pytest.raises(RunError, match="litellm: prompt 'GI'"):
        make(find("litellm"), saved, tmp_path / "out", Request())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ['{"""', '{{{"""{', "{{{{", '""""', "{ {{ }}", "{{{", '{""" {'])
def test_a_modelfile_holds_braces_as_go_reads_them(text: str, tmp_path: Path) -> None:
    saved = narrowed(tuned("instructions"), ["GI"])
    predict = saved.program.parts["GI"].predict
    predict.signature = predict.signature.with_instructions(f"Quote {text} findings {text}")
    make(find("ollama"), saved, tmp_path / "out", Request())
    modelfile = (tmp_path / "out" / "GI.Modelfile").read_text()
    _, _, template = modelfile.partition('TEMPLATE """')
    actions = re.sub(r'"(?:[^"\\]|\\.)*"', "", template)
    assert "{{{" not in actions
    assert '"""' not in template.removesuffix('"""\n')


def test_a_template_that_go_refuses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = find("ollama")
    careless(exporter, lambda _, data: data.replace(b"{{ .Prompt", b"{{{ .Prompt"), monkeypatch)
    with pytest.raises(RunError, match="the template has no action at '{{{ .Prompt"):
        make(exporter, tuned("instructions"), tmp_path / "out", Request())


def test_a_modelfile_is_for_models_whose_chat_template_is_known(tmp_path: Path) -> None:
    saved = tuned("instructions")
    foreign = replace(saved, origin=saved.origin.model_copy(update={"model": "openai/gpt-5"}))
    with pytest.raises(UserError, match="chat template of 'openai/gpt-5' is not known"):
        make(find("ollama"), foreign, tmp_path / "out", Request())
    distilled = tuned_on("ollama/deepseek-r1-distill-qwen", saved)
    with pytest.raises(UserError, match="chat template of 'ollama/deepseek-r1-distill-qwen'"):
        make(find("ollama"), distilled, tmp_path / "out", Request())
    llama = replace(saved, origin=saved.origin.model_copy(update={"model": "ollama/llama3.1:8b"}))
    make(find("ollama"), llama, tmp_path / "out", Request())
    text = (tmp_path / "out" / "GI.Modelfile").read_text()
    assert "FROM llama3.1:8b\n" in text
    assert "<|start_header_id|>user<|end_header_id|>\n\n<report>\n{{ .Prompt }}\n" in text


@pytest.mark.parametrize(
    ("model", "api_base", "provider", "config"),
    [
        (
            "ollama_chat/qwen2.5",
            None,
            "openai:chat:qwen2.5",
            {"apiBaseUrl": "http://127.0.0.1:11434/v1", "apiKeyRequired": False},
        ),
        (
            "ollama/qwen2.5",
            "http://box.test:1/",
            "openai:chat:qwen2.5",
            {"apiBaseUrl": "http://box.test:1/v1", "apiKeyRequired": False},
        ),
        ("anthropic/claude-x", None, "anthropic:messages:claude-x", {}),
    ],
)
def test_promptfoo_reads_settings_and_schema_of_every_provider(
    model: str, api_base: str | None, provider: str, config: dict[str, Any], tmp_path: Path
) -> None:
    saved = narrowed(tuned("instructions"), ["GI"])
    where = {"model": model, "api_base": api_base}
    made = replace(saved, origin=saved.origin.model_copy(update=where))
    make(find("promptfoo"), made, tmp_path / "out", Request())
    written = json.loads((tmp_path / "out" / "promptfooconfig.yaml").read_text())
    assert written["providers"] == [{"id": provider, "config": config}]
    (entry,) = written["prompts"]
    names = {"temperature", "max_tokens"}
    names.add("output_format" if model.startswith("anthropic") else "response_format")
    assert entry["config"].keys() == names


def test_another_schema_for_claude_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = find("promptfoo")
    careless(exporter, lambda _, data: data.replace(b'"string"', b'"integer"'), monkeypatch)
    saved = tuned_on("anthropic/claude-x", tuned("instructions"))
    with pytest.raises(RunError, match="response_format differs"):
        make(exporter, saved, tmp_path / "out", Request())


def test_a_batch_asks_about_every_report_what_the_program_would(tmp_path: Path) -> None:
    saved = tuned("demonstrations", "filtered")
    make(find("openai-batch"), saved, tmp_path / "out", Request(reports=CASES))
    lines = (tmp_path / "out" / "batch-001.jsonl").read_text().split("\n")[:-1]
    bodies = {entry["custom_id"]: entry["body"] for entry in map(json.loads, lines)}
    assert bodies["b/GI"]["model"] == "qwen2.5-test"
    assert "<b >" not in bodies["b/GI"]["messages"][1]["content"]
    assert "< b>fever< /b>" in bodies["b/GI"]["messages"][1]["content"]
    # A section that is another category's is not shown, and nothing is asked about none.
    assert [name for name in bodies if name.startswith("c/")] == ["c/Lab_Image"]


def test_a_batch_is_cut_where_the_api_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crb_dspy.export.openai_batch.MOST", 20)
    make(find("openai-batch"), tuned("instructions"), tmp_path / "out", Request(reports=CASES))
    sizes = [
        len(data.splitlines())
        for name, data in sorted(contents(tmp_path / "out").items())
        if name.startswith("batch")
    ]
    assert sizes == [20, 20, 2]


def test_versions_are_registered_once_with_aliases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    saved = tuned("demonstrations")
    few = narrowed(saved, ["GI"])
    for _ in range(2):
        proof, _ = make(find("mlflow-prompt"), few, tmp_path / "out", Request())
    (said,) = proof["published"]
    assert said == "registered crb_dspy.category_specific.GI version 2 as 'tuned'"
    client = MlflowClient("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db")
    name = "crb_dspy.category_specific.GI"
    by_alias = {a: client.get_prompt_version_by_alias(name, a) for a in ("seed", "tuned")}
    assert {a: int(v.version) for a, v in by_alias.items()} == {"seed": 1, "tuned": 2}
    sent = few.program.parts["GI"].messages("a <|x|> {{report}}")
    assert by_alias["tuned"].format(report="a <|x|> {{report}}") == sent
    bare = without_text(few).program.parts["GI"].messages("r")
    assert by_alias["seed"].format(report="r") == bare


def test_a_registry_that_cannot_be_reached_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    few = narrowed(tuned("instructions"), ["GI"])
    with pytest.raises(UserError, match=r"not published: MLflow at http://127.0.0.1:9: .*") as told:
        make(find("mlflow-prompt"), few, tmp_path / "out", Request())
    assert "\n" not in str(told.value)


def test_a_registry_that_refuses_a_prompt_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refusing(client: MlflowClient, name: str, **entry: object) -> None:
        raise MlflowException(f"{name}: you may not")

    monkeypatch.setattr(MlflowClient, "register_prompt", refusing)
    few = narrowed(tuned("instructions"), ["GI"])
    with home(tmp_path), pytest.raises(UserError, match="category_specific.GI: you may not"):
        make(find("mlflow-prompt"), few, tmp_path / "out", Request())
    assert (tmp_path / "out" / "prompts.json").is_file()


def test_a_state_is_loaded_by_dspy_and_exported_again_the_same(tmp_path: Path) -> None:
    saved = tuned("instructions", "review", cot=True)
    make(find("state"), saved, tmp_path / "a", Request())
    program = saved.seed
    program.load(str(tmp_path / "a" / "state.json"))
    make(find("state"), replace(saved, program=program), tmp_path / "b", Request())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    made = json.loads((tmp_path / "a" / "state.json").read_text())["crb_dspy"]
    assert made["program"] == "review"


def test_mlflow_loads_the_model_and_predicts_from_reports(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    monkeypatch.setattr(server_module, "RECENT", 0)
    saved = tuned("demonstrations")
    at = saved.origin.model_copy(update={"api_base": server.address})
    make(find("mlflow-model"), replace(saved, origin=at), tmp_path / "out", Request())
    model = mlflow.pyfunc.load_model(str(tmp_path / "out"))
    rows = pd.DataFrame([{"id": "a", "report": "He had a fever."}])
    (found,) = model.predict(rows)
    assert found["id"] == "a"
    fever = {"quote": "fever", "status": "exact", "spans": [[19, 24]]}
    assert any(fever in quotes for quotes in found["findings"].values())
    assert found["errors"]
    (named,) = model.predict(pd.DataFrame([{"id": "a", "text": "He had a fever."}]))
    assert named["findings"] == found["findings"]
    with pytest.raises(UserError, match="row 0: give `report` or `text`"):
        model.predict(pd.DataFrame([{"note": "He had a fever."}]))
    asked = len(server.bodies)
    model.predict(rows)
    # Reports are not kept, so neither are answers.
    assert len(server.bodies) == asked + 14


def test_the_served_model_is_reached_as_it_was_tuned_or_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crb_dspy.export.mlflow_model import _settings

    own: dict[str, Any] = {"api_base": "http://tuned.test/v1", "api_key_env": "MY_KEY"}
    own |= {"seed": 3, "context": 900}
    origin = tuned("instructions").origin.model_copy(update=own)
    with pytest.raises(UserError, match="the program's file says to send reports and the key"):
        _settings(origin)
    monkeypatch.setenv("CRB_DSPY_TRUST", "1")
    assert _settings(origin) == Settings(model=NOT_EMBEDDED, **own)
    monkeypatch.setenv("CRB_DSPY_MODEL", "anthropic/claude")
    assert _settings(origin) == Settings(model="anthropic/claude", seed=3)
    monkeypatch.setenv("CRB_DSPY_API_KEY_ENV", "OTHER_KEY")
    monkeypatch.setenv("CRB_DSPY_CONTEXT", "4000")
    other = Settings(model="anthropic/claude", seed=3, api_key_env="OTHER_KEY", context=4000)
    assert _settings(origin) == other
    monkeypatch.setenv("CRB_DSPY_CONTEXT", "4k")
    with pytest.raises(UserError, match="CRB_DSPY_CONTEXT=4k: a number of tokens"):
        _settings(origin)


def test_a_run_is_exported_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crb_dspy.export.__main__ import main

    file = write_program(tmp_path / "program.json", tuned("instructions"))
    asked: list[tuple[str, str]] = []

    def fetch(run_id: str, artefact: str) -> Path:
        asked.append((run_id, artefact))
        return file

    monkeypatch.setattr("crb_dspy.tracking.store.fetch", fetch)
    monkeypatch.chdir(tmp_path)
    run = "0123abcd" * 4
    assert main([run, "--to", "messages", "--out", "out", "--category", "GI"]) == 0
    assert asked == [(run, "program.json")]
    prompts = json.loads((tmp_path / "out" / "prompts.json").read_text())["prompts"]
    assert [prompt["name"] for prompt in prompts] == ["GI"]


def test_the_command_says_what_it_wrote(server: FakeServer, tmp_path: Path) -> None:
    saved = tuned("demonstrations")
    at = saved.origin.model_copy(update={"api_base": server.address})
    file = write_program(tmp_path / "p.json", replace(saved, origin=at))
    lines = [{"id": case.id, "sections": case.sections, "gold": case.gold} for case in CASES]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ["--data", "cases.jsonl", "--check-cases", "2"]
    done = ran("export", str(file), "--to", "messages", "--out", "out", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "written    out: messages, prompts: 14" in done.stdout
    assert "byte for byte" in done.stdout
    assert "2 real cases on openai/qwen2.5-test: findings identical" in done.stdout
    assert "lacks      the mending of irregular answers" in done.stdout
    assert "from: case-7" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p.json", "--to", "massages", "--out", "o"], "did you mean 'messages'?"),
        (["p.json", "--out", "o"], "--to is missing"),
        (["p.json", "--to", "messages"], "--out is missing"),
        (["--to", "messages", "--out", "o"], "PROGRAM is missing"),
        (["p.json", "--to", "openai-batch", "--out", "o"], "give --input"),
        (["p.json", "--to", "messages", "--out", "o", "--input", "."], "leave --input out"),
        (["none.json", "--to", "messages", "--out", "o"], "no such program"),
        (["p.json", "--to", "messages", "--out", "/dev/null/o"], "/dev/null/o"),
        (["p.json", "--to", "messages", "--out", "o", "--category", "GX"], "unknown category"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_program(tmp_path / "p.json", tuned("instructions"))
    done = ran("export", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "o").exists()


def test_the_formats_are_listed_with_what_they_lack() -> None:
    lines = ran("export", "--list").stdout.splitlines()
    named = {line.split()[0]: after for line, after in zip(lines[::2], lines[1::2], strict=True)}
    assert set(named) >= {"state", "python", "mlflow-model", "langextract"}
    assert "the second pass" in named["messages"]
    assert named["mlflow-model"].strip() == "lacks: nothing"
    assert "the sentence classifier" in named["state"]


def test_the_list_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert export_main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 30
    assert max(map(len, lines)) <= 70


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\n"
        "from crb_dspy.export.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'dspy', 'mlflow', 'litellm', 'pandas', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
