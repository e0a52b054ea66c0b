"""Batch APIs, against a fake that behaves as OpenAI's: sent once, waited for, taken up again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.cases import Case
from crb_dspy.demo.recorded import Handler, running
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluate import main as evaluate_main
from crb_dspy.evaluation import batches
from crb_dspy.evaluation.session import session
from crb_dspy.extract.__main__ import main
from crb_dspy.models import batch as batch_module
from crb_dspy.models.settings import Settings
from crb_dspy.program import attempt
from crb_dspy.saved import write_program
from tests.fake_server import Body, Reply, completion
from tests.test_extract import extracted, flags, made, quoting, rows
from tests.test_saved import tuned


@dataclass
class FakeBatches:
    """Files and batches; `over` says of a batch how it ends, None while it is under way."""

    reply: Callable[[Body], Reply] = quoting
    over: Callable[[str], str | None] = lambda batch: "completed"
    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    singly: int = 0
    looks: int = 0

    def batch(self, number: int) -> dict[str, Any]:
        made = self.made[number]
        status = self.over(made["id"])
        if status and not made["output_file_id"]:
            made["output_file_id"] = f"out-{number}"
            lines = self.files[made["input_file_id"]].decode().split("\n")
            answers = [self.line(json.loads(line)) for line in lines if line]
            self.files[f"out-{number}"] = "".join(answers if status == "completed" else []).encode()
        return {**made, "status": status or "in_progress"}

    def line(self, request: dict[str, Any]) -> str:
        assert (request["method"], request["url"]) == ("POST", "/v1/chat/completions")
        text = self.reply(request["body"])
        good = isinstance(text, str)
        body = completion(request["body"], str(text)) if good else {"error": {"message": "no"}}
        response = {"status_code": 200 if good else text, "request_id": "r", "body": body}
        entry = {"id": "l", "custom_id": request["custom_id"], "response": response, "error": None}
        return json.dumps(entry) + "\n"


class Batching(Handler):
    fake: FakeBatches

    def do_POST(self) -> None:
        fake, data = self.fake, self.sent()
        if self.path.endswith("/files"):
            name = f"in-{len(fake.files)}"
            fake.files[name] = uploaded(self.headers["Content-Type"], data)
            about = {"bytes": 1, "created_at": 0, "filename": "f", "purpose": "batch"}
            self.answer(200, {"id": name, "object": "file", "status": "processed", **about})
        elif self.path.endswith("/batches"):
            asked = json.loads(data)
            assert asked["input_file_id"] in fake.files
            about = {"object": "batch", "created_at": 0, "output_file_id": None, **asked}
            fake.made.append({"id": f"batch-{len(fake.made)}", **about})
            self.answer(200, {**fake.made[-1], "status": "validating"})
        else:
            fake.singly += 1
            self.answer(200, completion(json.loads(data), '{"answer": ["yes"]}'))

    def do_GET(self) -> None:
        if found := re.search(r"/batches/batch-(\d+)", self.path):
            self.fake.looks += 1
            self.answer(200, self.fake.batch(int(found[1])))
        elif found := re.search(r"/files/([\w-]+)/content", self.path):
            data = self.fake.files[found[1]]
            self.begin(200, len(data), {"Content-Type": "application/octet-stream"})
            self.wfile.write(data)


@contextmanager
def batching(fake: FakeBatches) -> Iterator[FakeBatches]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Its", (Batching,), {"fake": fake}))
    with running(server) as fake.address:
        yield fake


def uploaded(kind: str, data: bytes) -> bytes:
    boundary = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    parts = [part for part in data.split(boundary) if b'name="file"' in part]
    return parts[0].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "SOON", 0.01)
    monkeypatch.setattr(batch_module, "LATE", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made(tmp_path, 6)
    return tmp_path


ARGUMENTS = ("--input", "reports.jsonl", "--batch")


def test_a_batch_gives_the_rows_that_single_calls_give(folder: Path) -> None:
    with batching(FakeBatches()) as fake:
        printed = extracted(folder, fake, *ARGUMENTS)  # type: ignore[arg-type]
        assert len(fake.made) == 1
        # The one that looks whether the model is there.
        assert fake.singly == 1
    assert [row["findings"]["GI"][0]["quote"] for row in rows(folder)] == [
        f"cough {n}" for n in range(6)
    ]
    assert not any(row["errors"] for row in rows(folder))
    assert "calls      13," in printed


def test_who_waits_may_be_ended_and_goes_on_with_the_same_batch(folder: Path) -> None:
    waited: list[int] = []

    def never(batch: str) -> str | None:
        waited.append(1)
        if len(waited) > 2:
            raise KeyboardInterrupt
        return None

    fake = FakeBatches()
    with batching(fake):
        looks = batch_module._Api.look

        def look(api: Any, batch: str) -> Any:
            never(batch)
            return looks(api, batch)

        fake.over = lambda batch: None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch_module._Api, "look", look)
            with chdir(folder), pytest.raises(KeyboardInterrupt):
                main(flags(fake, *ARGUMENTS))  # type: ignore[arg-type]
        assert len(fake.made) == 1 and not rows_of(folder)
        fake.over = lambda batch: "completed"
        extracted(folder, fake, *ARGUMENTS)  # type: ignore[arg-type]
        assert len(fake.made) == 1
    assert len(rows(folder)) == 6


def rows_of(folder: Path) -> str:
    return (folder / "out/findings.jsonl").read_text()


def test_what_failed_in_a_batch_is_a_row_with_an_error_and_sent_again(folder: Path) -> None:
    broken = {2}

    def reply(body: Body) -> Reply:
        found = re.search(r"cough (\d+)", body["messages"][-1]["content"])
        return 500 if found and int(found[1]) in broken else quoting(body)

    with batching(FakeBatches(reply)) as fake:
        with chdir(folder):
            main(flags(fake, *ARGUMENTS))  # type: ignore[arg-type]
        assert [bool(row["errors"]) for row in rows(folder)] == [n == 2 for n in range(6)]
        broken.clear()
        sent = len(fake.made)
        extracted(folder, fake, *ARGUMENTS)  # type: ignore[arg-type]
        assert len(fake.made) == sent + 1
        assert fake.files[fake.made[-1]["input_file_id"]].count(b"\n") == 2
    assert not any(row["errors"] for row in rows(folder))


def test_a_batch_that_fails_is_one_line_and_is_sent_again(folder: Path) -> None:
    with batching(FakeBatches(over=lambda batch: "failed")) as fake:
        with chdir(folder), pytest.raises(RunError, match="a batch has failed; the same command"):
            main(flags(fake, *ARGUMENTS))  # type: ignore[arg-type]
        fake.over = lambda batch: "completed"
        extracted(folder, fake, *ARGUMENTS)  # type: ignore[arg-type]
        assert len(fake.made) == 2
    assert len(rows(folder)) == 6


def test_a_cap_holds_before_anything_is_sent(folder: Path) -> None:
    with batching(FakeBatches()) as fake:
        with chdir(folder), pytest.raises(RunError, match="--max-calls 5: a batch of 12"):
            main(flags(fake, *ARGUMENTS, "--max-calls", "5"))  # type: ignore[arg-type]
        assert not fake.made and not fake.files
    with pytest.raises(UserError, match="--engine ray"):
        main([*flags(fake, *ARGUMENTS), "--engine", "ray"])  # type: ignore[arg-type]


def test_a_part_that_looks_again_takes_a_second_batch(tmp_path: Path) -> None:
    program = tuned("review").program
    parts = list(program.parts.values())
    with chdir(tmp_path), batching(FakeBatches()) as fake:
        settings = Settings(model="openai/fake", api_base=fake.address)
        cases = [Case("c1", {"R": "A girl had cough 1."}), Case("c2", {"R": "Boy, cough 2."})]
        with session(settings) as model:
            batches.answer(model, parts, lambda: cases, attempt, tmp_path / "b")
            readings = [attempt(part, case) for case in cases for part in parts]
        assert len(fake.made) == 2
        assert not [reading.error for reading in readings if reading.error]
        assert fake.singly == 1


def test_evaluate_by_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_program(tmp_path / "program.json", tuned())
    with chdir(tmp_path), batching(FakeBatches(lambda body: '{"GI": []}')) as fake:
        given = ["program.json", "--data", "sample", "--limit", "3", "--json"]
        assert evaluate_main([*given, "--api-base", fake.address, "--batch"]) == 0
        assert len(fake.made) == 1
    assert json.loads(capsys.readouterr().out)["cells"] == 6
