"""The embedded server answers its own process only, and always comes to an end."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from crb_dspy.errors import RunError, UserError
from crb_dspy.models.embedded import EmbeddedServer, serve
from crb_dspy.models.weights import find

pytestmark = pytest.mark.slow
pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

STORY = "A child of two years was brought in with fever. " * 20


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        return find("smollm2-135m-instruct")
    except UserError as error:
        pytest.skip(f"no small model: {error}")


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[EmbeddedServer]:
    with serve(weights, context=2048, cache_ram_mib=512) as running:
        yield running


def ask(server: EmbeddedServer, path: str, body: object = None, key: str | None = None) -> Any:
    """Return status and answer; a key of None is the right one."""
    link = http.client.HTTPConnection(urlsplit(server.api_base).netloc, timeout=120)
    headers = {"Authorization": f"Bearer {server.api_key if key is None else key}"}
    link.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = link.getresponse()
    return answer.status, json.loads(answer.read())


def chat(server: EmbeddedServer, text: str, tokens: int = 8, **options: object) -> Any:
    messages = [{"role": "user", "content": text}]
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0, **options}
    return ask(server, "/v1/chat/completions", body)


def test_it_answers_with_the_key(server: EmbeddedServer, weights: Path) -> None:
    status, answer = chat(server, "Say hello.")
    assert status == 200
    assert answer["model"] == weights.stem
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] <= 8


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/completion", "/tokenize", "/props"])
@pytest.mark.parametrize("key", ["", "wrong"])
def test_it_refuses_without_the_key(server: EmbeddedServer, path: str, key: str) -> None:
    body = None if path == "/props" else {"messages": [], "content": "a", "prompt": "a"}
    assert ask(server, path, body, key)[0] == 401


def test_nobody_reads_what_others_asked(server: EmbeddedServer) -> None:
    assert ask(server, "/slots")[0] == 501


def test_keys_differ(server: EmbeddedServer, weights: Path) -> None:
    with serve(weights, context=512) as other:
        assert other.api_key != server.api_key
        assert ask(other, "/v1/models", key=server.api_key)[0] == 401
        assert chat(other, "Say hello.")[0] == 200
    assert chat(server, "Say hello.")[0] == 200


def test_it_listens_on_this_machine_only(server: EmbeddedServer) -> None:
    port = urlsplit(server.api_base).port
    assert urlsplit(server.api_base).hostname == "127.0.0.1"
    # Another address of the loopback device: a server that bound every address would answer.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port or 0), timeout=10)


def test_a_schema_constrains_the_answer(server: EmbeddedServer) -> None:
    properties = {"findings": {"type": "array", "items": {"enum": ["fever"]}, "maxItems": 2}}
    schema = {"type": "object", "properties": properties, "required": ["findings"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    status, answer = chat(server, "Write a poem about the sea.", 200, response_format=form)
    assert status == 200
    assert set(json.loads(answer["choices"][0]["message"]["content"])["findings"]) <= {"fever"}


def test_a_report_is_computed_once(server: EmbeddedServer) -> None:
    """Its prefix outlives a longer one behind the same beginning, which the default would lose."""
    common = "Read the report, then answer. " * 20

    def computed(report: str, question: str) -> Any:
        return chat(server, f"{common}{report}{question}", 1)[1]["timings"]["prompt_n"]

    report, longer = STORY[:200], STORY.replace("A child of two", "One of nine")
    computed(report, "Any fever?")
    assert computed(report, "A rash?") < 20
    assert computed(longer, "Any fever?") > 200
    assert computed(report, "A cough?") < 20


def test_a_prompt_that_is_too_long_is_refused(server: EmbeddedServer) -> None:
    status, answer = chat(server, STORY * 20)
    assert status == 400
    assert answer["error"]["type"] == "exceed_context_size_error"


def test_context_is_for_each_slot(weights: Path) -> None:
    with serve(weights, context=512, slots=2) as server:
        assert chat(server, STORY)[0] == 200
        assert chat(server, STORY * 3)[0] == 400


def refused(server: EmbeddedServer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(server.api_base).port or 0)) != 0


def test_close_frees_the_port(weights: Path) -> None:
    server = serve(weights, context=512)
    assert not refused(server)
    server.close()
    assert refused(server)
    server.close()


AT_ONCE = """
import sys
from pathlib import Path
from crb_dspy.models.embedded import serve
for _ in range(20):
    serve(Path(sys.argv[1]), context=512).close()
"""


def test_close_ends_a_server_that_has_just_begun(weights: Path) -> None:
    """In a process of its own, since one that waits in the engine heeds no timeout."""
    subprocess.run([sys.executable, "-c", AT_ONCE, str(weights)], check=True, timeout=120)


@pytest.mark.parametrize("prompt", ["Tell a story.", STORY * 7])
def test_close_cuts_off_a_running_request(weights: Path, prompt: str) -> None:
    server = serve(weights, context=4096)
    failures = []
    started = threading.Event()

    def client() -> None:
        started.set()
        try:
            chat(server, prompt, 2000, ignore_eos=True)
        except (http.client.HTTPException, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    started.wait()
    threading.Event().wait(0.5)
    server.close()
    thread.join()
    assert failures
    assert refused(server)


@pytest.mark.parametrize("size", [0, 3, 4, 100_000, 60_000_000])
def test_a_broken_file_is_one_line(weights: Path, tmp_path: Path, size: int) -> None:
    broken = tmp_path / "broken.gguf"
    with weights.open("rb") as whole:
        broken.write_bytes(whole.read(size))
    with pytest.raises(RunError, match=r"broken\.gguf: ") as caught:
        serve(broken)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.gguf: No such file"):
        serve(tmp_path / "none.gguf")


SCRIPT = """
import os, sys
from pathlib import Path
from crb_dspy.models.embedded import serve
server = serve(Path(sys.argv[1]), context=512)
print(server.api_base, os.environ["no_proxy"], flush=True)
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("libgomp.so.1: cannot open"), r"cannot be loaded: libgomp\.so\.1"),
        (ModuleNotFoundError("No module named 'xllamacpp'"), r"pip install 'crb_dspy\[local\]'"),
    ],
)
def test_an_engine_that_cannot_be_loaded_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ImportError, said: str
) -> None:
    (tmp_path / "xllamacpp.py").write_text(f"raise {error!r}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xllamacpp")
    with pytest.raises(UserError, match=said):
        serve(tmp_path / "any.gguf")


def test_an_open_server_ends_with_its_process_and_is_quiet(weights: Path) -> None:
    environment = {**os.environ, "NO_PROXY": "example.org", "no_proxy": ""}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(weights)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    # Where other work is on the machine, how many threads are taken is said.
    assert re.fullmatch(r"(local model: other work .*\n)?", done.stderr)
    base, hosts = done.stdout.split()
    assert hosts == "example.org,127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(base).port or 0), timeout=10)
