"""Exports in the hands of the tools that they are for, each where it is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.schema import Category
from crb_dspy.export import _check
from crb_dspy.export._find import find
from crb_dspy.export._make import Request, Trial, make, narrowed
from crb_dspy.export._seam import Export, Prompt, prompts_of
from crb_dspy.models.settings import Settings
from crb_dspy.saved import Saved
from tests.fake_server import Body, FakeServer, Reply, asked_keys, serving
from tests.test_export import CASE, SCHEMA, tuned


def at(saved: Saved, server: FakeServer) -> Saved:
    origin = saved.origin.model_copy(update={"api_base": server.address})
    return replace(saved, origin=origin)


def fever(body: Body) -> Reply:
    if "Task:" not in body["messages"][-1]["content"]:
        return '{"answer": ["yes"]}'
    return json.dumps({key: ["fever"] for key in asked_keys(body)})


def expected(saved: Saved, name: str, report: str) -> list[dict[str, str]]:
    return saved.program.parts[name].messages(report)


def test_litellm_completes_by_prompt_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import litellm

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    saved = tuned("demonstrations")
    make(find("litellm"), saved, tmp_path / "out", Request())
    report = _check.FIXTURES["braces"] + _check.FIXTURES["marks"]
    with serving(fever) as server:
        monkeypatch.setattr(litellm, "global_prompt_directory", str(tmp_path / "out"))
        reply = litellm.completion(
            model="dotprompt/any",
            prompt_id="GI",
            prompt_variables={"report": report},
            messages=[],
            api_base=server.address,
        )
        (body,) = server.bodies
    assert reply.choices[0].message.content == '{"GI": ["fever"]}'
    assert body["messages"] == expected(saved, "GI", find("litellm").shown(report))
    assert body["model"] == "qwen2.5-test"


@pytest.fixture
def promptfoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = os.environ.get("CRB_PROMPTFOO") or shutil.which("promptfoo")
    if not found:
        pytest.skip("promptfoo is not installed: npm install -g promptfoo, or set CRB_PROMPTFOO")
    for name in ("PROMPTFOO_DISABLE_TELEMETRY", "PROMPTFOO_DISABLE_UPDATE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PROMPTFOO_CONFIG_DIR", str(tmp_path / "home"))
    return found


def test_promptfoo_accepts_its_configuration_and_renders_the_tuned_prompts(
    promptfoo: str, tmp_path: Path
) -> None:
    saved = narrowed(tuned("demonstrations"), ["GI", "Neuro"])
    cases = tuple(
        replace(CASE, id=name, sections={"Report": text}, gold={"GI": ("fever",)})
        for name, text in _check.FIXTURES.items()
        if name != "long"
    )
    exporter, out = find("promptfoo"), tmp_path / "out"
    out.mkdir()
    exporter.write(Export(saved, prompts_of(saved), cases=cases), out)
    config = out / "promptfooconfig.yaml"
    done = subprocess.run(
        [promptfoo, "validate", "config", "-c", str(config)],
        capture_output=True, text=True, timeout=120, cwd=out,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # The provider "echo" answers with the prompt.
    echo = json.loads(config.read_text()) | {"providers": ["echo"]}
    config.write_text(json.dumps(echo))
    rows = evaluated(promptfoo, out)
    assert len(rows) == 2 * len(cases)
    texts = {case.id: case.text for case in cases}
    for row in rows:
        case, _, prompt = row["testCase"]["description"].partition(": ")
        sent = json.loads(row["response"]["output"])
        assert sent == expected(saved, prompt, texts[case]), (case, prompt)


def evaluated(promptfoo: str, folder: Path) -> list[dict[str, Any]]:
    command = [promptfoo, "eval", "-c", "promptfooconfig.yaml", "-o", "result.json", "--no-cache"]
    subprocess.run(command, capture_output=True, timeout=300, cwd=folder, check=False)
    rows: list[dict[str, Any]] = json.loads((folder / "result.json").read_text())["results"][
        "results"
    ]
    return rows


@pytest.mark.parametrize("model", ["openai/qwen2.5-test", "ollama_chat/qwen2.5-test"])
def test_promptfoo_asks_with_the_settings_and_scores_by_gold(
    model: str, promptfoo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = model.startswith("ollama")
    if not local:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
    saved = narrowed(tuned("demonstrations"), ["GI"])
    case = replace(CASE, gold={"GI": ("fever", "cough", "vomiting")})
    with serving(fever) as server:
        address = server.address.removesuffix("/v1") if local else server.address
        origin = saved.origin.model_copy(update={"model": model, "api_base": address})
        made = replace(saved, origin=origin)
        trial = Trial((case,), Settings(model="openai/qwen2.5-test", api_base=server.address))
        make(find("promptfoo"), made, tmp_path / "out", Request(trial=trial))
        before = len(server.bodies)
        (row,) = evaluated(promptfoo, tmp_path / "out")
        (body,) = server.bodies[before:]
    (prompt,) = prompts_of(saved)
    assert body["messages"] == expected(saved, "GI", case.text)
    assert body["response_format"] == json.loads(json.dumps(prompt.response_format))
    assert (body["max_tokens"], body["temperature"]) == (320, 0)
    checks = {c["assertion"]["type"]: c for c in row["gradingResult"]["componentResults"]}
    assert checks["is-json"]["pass"]
    assert checks["javascript"]["score"] == pytest.approx(2 / 4)


def test_promptfoo_sends_settings_and_schema_to_claude(
    promptfoo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    saved = narrowed(tuned("demonstrations"), ["GI"])
    with serving(fever) as server:
        where = {"model": "anthropic/claude-test", "api_base": server.address.removesuffix("/v1")}
        made = replace(saved, origin=saved.origin.model_copy(update=where))
        make(find("promptfoo"), made, tmp_path / "out", Request())
        evaluated(promptfoo, tmp_path / "out")
        body = server.bodies[0]
    assert (body["max_tokens"], body["temperature"]) == (320, 0)
    schema = body["output_config"]["format"]["schema"]
    assert schema["properties"] == {"GI": {"type": "array", "items": {"type": "string"}}}


def allowed(body: Body) -> list[str]:
    """The categories that the schema of a request of LangExtract's lets an answer hold."""
    schema = body["response_format"]["json_schema"]["schema"]
    items = schema["properties"]["extractions"]["items"]
    return [key for item in items["anyOf"] for key in item["properties"]]


@pytest.fixture
def langextract() -> None:
    try:
        found = version("langextract")
    except PackageNotFoundError:
        pytest.skip("langextract is not installed")
    if tuple(map(int, found.split(".")[:2])) < (1, 7):
        pytest.skip(f"langextract {found} is older than 1.7")


@pytest.mark.usefixtures("langextract")
@pytest.mark.parametrize("kind", ["demonstrations", "instructions"])
@pytest.mark.parametrize("program", ["grouped", "category_specific"])
def test_langextract_runs_the_export(kind: str, program: str, tmp_path: Path) -> None:
    def reply(body: Body) -> Reply:
        return json.dumps({"extractions": [{key: "vomiting"} for key in allowed(body)]})

    saved = tuned(kind, program)
    exported = make(find("langextract"), saved, tmp_path / "out", Request())[1]
    (tmp_path / "r.txt").write_text("He had vomiting.")
    with serving(reply) as server:
        script = str(tmp_path / "out" / "extract.py")
        options = ["gpt-test", str(tmp_path / "r.txt"), server.address, "none"]
        done = subprocess.run(
            [sys.executable, script, *options], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {key: ["vomiting"] for key in SCHEMA.keys}
    ordered = sorted(exported.first, key=lambda prompt: f"{prompt.name}.prompt.json")
    for prompt, body, text in zip(ordered, server.bodies, server.prompts(), strict=True):
        assert allowed(body) == list(prompt.keys)
        assert (body["max_tokens"], body["temperature"]) == (prompt.max_tokens, 0)
        assert text.startswith(prompt.instruction)
        assert ("reflexes" in text) == (kind == "demonstrations")
        assert all(f"- {c.key}: {c.title}. {c.guidance}" in text for c in asked_for(prompt))


def asked_for(prompt: Prompt) -> list[Category]:
    return [category for category in SCHEMA.categories if category.key in prompt.keys]


def test_an_old_langextract_is_one_line(tmp_path: Path) -> None:
    make(find("langextract"), tuned("demonstrations"), tmp_path / "out", Request())
    metadata = tmp_path / "old" / "langextract-1.0.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: langextract\nVersion: 1.0.9\n")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "out" / "extract.py"), "gpt-test", "r.txt"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "old")},
    )
    assert done.returncode == 2
    assert done.stderr == "LangExtract 1.0.9 is too old: pip install 'langextract>=1.7'\n"


@pytest.mark.usefixtures("langextract")
def test_langextract_reads_the_prompts_by_its_own_reader(tmp_path: Path) -> None:
    prompting = import_module("langextract.prompting")
    kinds = import_module("langextract.core.data").FormatType
    saved = tuned("demonstrations")
    make(find("langextract"), saved, tmp_path / "out", Request())
    for key in SCHEMA.keys:
        file = str(tmp_path / "out" / f"{key}.prompt.json")
        read = prompting.read_prompt_template_structured_from_file(file, kinds.JSON)
        quotes = [x.extraction_text for x in read.examples[0].extractions]
        assert quotes == ["vomiting", "no seizures"]


@contextmanager
def served(folder: Path, log: Path) -> Iterator[str]:
    """Serve a model with MLflow on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port), "-w", "1"]
    # It looks for its web server on the path.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, start_new_session=True, env=os.environ | {"PATH": path}
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["curl", "--silent", "--fail", "--noproxy", "*", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_mlflow_serves_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    monkeypatch.chdir(tmp_path)
    rows = {"dataframe_records": [{"id": "a", "report": "He had a fever."}]}
    with serving(fever) as server:
        make(find("mlflow-model"), at(tuned("demonstrations"), server), tmp_path / "out", Request())
        with served(tmp_path / "out", tmp_path / "log") as address:
            deadline = time.monotonic() + 120
            while curl(f"{address}/ping").returncode and time.monotonic() < deadline:
                time.sleep(0.5)
            content = ["-H", "Content-Type: application/json", "-d", json.dumps(rows)]
            done = curl(f"{address}/invocations", *content)
    assert done.returncode == 0, (tmp_path / "log").read_text()
    (answer,) = json.loads(done.stdout)["predictions"]
    assert answer["findings"]["GI"] == [{"quote": "fever", "status": "exact", "spans": [[19, 24]]}]


@pytest.fixture(scope="session")
def litellm_alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has LiteLLM and what that needs, and nothing else."""
    if given := os.environ.get("CRB_LITELLM_PYTHON"):
        return given
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", f"litellm=={version('litellm')}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    if done.returncode:
        pytest.skip(f"litellm cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return python


@pytest.mark.slow
def test_the_script_runs_where_litellm_alone_is_installed(
    litellm_alone: str, tmp_path: Path
) -> None:
    absent = "import importlib.util as i; assert not any(map(i.find_spec, ['dspy', 'crb_dspy']))"
    subprocess.run([litellm_alone, "-c", absent], check=True, timeout=60, cwd=tmp_path)
    saved = tuned("demonstrations")
    (tmp_path / "r.txt").write_text("He had a fever.")
    with serving(fever) as server:
        make(find("python"), at(saved, server), tmp_path / "out", Request())
        done = subprocess.run(
            [litellm_alone, str(tmp_path / "out" / "extract.py"), str(tmp_path / "r.txt")],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    (row,) = map(json.loads, done.stdout.splitlines())
    findings: dict[str, Any] = row["findings"]
    assert findings == {key: ["fever"] for key in SCHEMA.keys}, done.stderr
    sent = [body["messages"] for body in server.bodies]
    assert sent == [expected(saved, key, "## Report\nHe had a fever.") for key in SCHEMA.keys]
