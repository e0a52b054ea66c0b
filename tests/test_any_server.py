"""Whatever a server does, a run ends as the table of behaviours says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from hashlib import sha256
from io import StringIO
from itertools import count
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from dspy.lm15 import Message, Request

from crb_dspy.data.cases import Case
from crb_dspy.errors import RunError, UserError
from crb_dspy.evaluate import main as evaluate
from crb_dspy.export._seam import Export, prompts_of
from crb_dspy.export.python import Python
from crb_dspy.extract.__main__ import main
from crb_dspy.models import server as server_module
from crb_dspy.models.budget import Budget, BudgetSpent, Caps
from crb_dspy.models.engine import TINY, Engine, ModelGone
from crb_dspy.models.learnt import Learnt
from crb_dspy.models.lm import Model
from crb_dspy.models.meter import Meter
from crb_dspy.models.server import Server
from crb_dspy.models.settings import Settings
from crb_dspy.program import attempt
from crb_dspy.program.matching import MOST_QUOTES
from crb_dspy.saved import write_program
from tests.behaviours import (
    HUGE,
    QUOTE,
    SPECIAL,
    TABLE,
    Behaviour,
    changed,
    good,
    openai,
    serving_as,
    text_of,
)
from tests.fake_model import fake_model
from tests.fake_server import Body, FakeServer, Raw, Reply, completion, serving
from tests.made_run import home
from tests.test_saved import WHOLE, tuned

REPORTS = ("A girl had no fever.", f"A boy, {SPECIAL}, had no fever.", "A man had no fever.")


# One of each kind, for what takes longer than an extraction; the others are slow tests.
KINDS = (
    "too long, vLLM",
    "filtered, Azure",
    "no choices",
    "maxItems, unnamed",
    "an empty answer under a schema",
    "in reasoning_content",
    "content in parts",
    "items as objects",
)
COMPILED = [pytest.param(b, marks=[pytest.mark.slow] * (b.name not in KINDS)) for b in TABLE]


def named(behaviour: Behaviour) -> str:
    return behaviour.name


BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": f'{SPECIAL}\nTask: x\n"GI" is the list.'}],
}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BACKOFF", 0.001)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_program(tmp_path / "program.json", tuned())
    cases = [{"id": f"c{n}", "sections": {"Case": text}} for n, text in enumerate(REPORTS)]
    (tmp_path / "reports.jsonl").write_text("\n".join(map(json.dumps, cases)))
    return tmp_path


def extracted(folder: Path, server: FakeServer, *more: str) -> tuple[int, str, list[Any]]:
    given = ["program.json", "--input", "reports.jsonl", "--out", "out.jsonl", *more]
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        code = main([*given, "--api-base", server.address])
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return code, printed.getvalue(), rows


def quotes(row: Any, key: str) -> tuple[str, ...]:
    return tuple(quote["quote"] for quote in row["findings"][key])


@pytest.mark.parametrize("behaviour", TABLE, ids=named)
def test_extract(folder: Path, behaviour: Behaviour) -> None:
    with serving(serving_as(behaviour)) as server:
        code, printed, rows = extracted(folder, server)
    assert [row["id"] for row in rows] == ["c0", "c1", "c2"]
    special = rows[1]
    for key in special["findings"]:
        if behaviour.found is None:
            assert behaviour.said in special["errors"][key]
        else:
            assert (quotes(special, key), special["errors"]) == (behaviour.found, {})
            assert behaviour.said in special["mended"].get(key, "")
            assert behaviour.said or key not in special["mended"]
        for row in (rows[0], rows[2]):
            assert (quotes(row, key), row["errors"]) == ((QUOTE,), {})
    assert behaviour.learnt in printed
    assert code == 0


def evaluated(folder: Path, server: FakeServer, *more: str) -> tuple[int, str]:
    case = {"gold": {"GI": [QUOTE]}}
    lines = [json.loads(line) | case for line in (folder / "reports.jsonl").read_text().split("\n")]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = ["program.json", "--data", "cases.jsonl", "--api-base", server.address, *more]
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        code = evaluate(given)
    return code, printed.getvalue()


@pytest.mark.parametrize("behaviour", TABLE, ids=named)
def test_evaluate(folder: Path, behaviour: Behaviour) -> None:
    with serving(serving_as(behaviour)) as server:
        code, printed = evaluated(folder, server, "--json")
    found = json.loads(printed)
    assert (found["cells"], found["failed"]) == (6, 0 if behaviour.found else 2)
    assert behaviour.found or behaviour.said in found["reasons"][0]
    # Every quote is found, where it is gold and where it is not.
    own = 1.0 if behaviour.found else 2 / 3
    assert found["categories"]["GI"]["nonempty_f1"] == pytest.approx(own)
    learnt = [f"takes no {name.replace('_', ' ')}" for name in found["server"]["lacking"]]
    learnt += ["estimated"] * (found["server"]["estimated"] >= 2)
    assert behaviour.learnt in "\n".join(learnt)
    assert code == 0


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is in an exported script."""
    place = tmp_path_factory.mktemp("script")
    Python().write(Export(tuned(), prompts_of(tuned())), place)
    module = ModuleType("exported")
    sys.modules["exported"] = module
    exec(compile((place / "extract.py").read_text(), "extract.py", "exec"), vars(module))
    return vars(module)


def scripted(script: dict[str, Any], server: FakeServer) -> tuple[list[Any], list[str]]:
    """The rows of an exported script, and what it says of the server."""
    wire = {"model": "openai/fake", "api_base": server.address, "api_key": "none"}
    beside = {"extra_body": {"stream": False}, "max_retries": 0, "timeout": 30.0}
    client = script["Client"]({**wire, **beside})
    rows = [script["extract"](client, "r", {"Case report": text}) for text in REPORTS]
    return rows, client.learnt.lines()


@pytest.mark.parametrize("behaviour", TABLE, ids=named)
def test_an_exported_script(script: dict[str, Any], behaviour: Behaviour) -> None:
    with serving(serving_as(behaviour)) as server:
        rows, learnt = scripted(script, server)
    for number, row in enumerate(rows):
        failed = number == 1 and behaviour.found is None
        for key, quotes in row["findings"].items():
            assert quotes == ([] if failed else [QUOTE]), row
            assert (key in row["errors"]) == failed
    told = rows[1]["mended"] if behaviour.found else rows[1]["errors"]
    assert all(behaviour.said in told.get(key, "") for key in rows[1]["findings"])
    # A script counts no tokens.
    assert behaviour.learnt in "\n".join(learnt) or behaviour.learnt == "estimated"


@pytest.mark.parametrize("behaviour", HUGE, ids=named)
def test_what_is_huge_is_cut_off(folder: Path, behaviour: Behaviour) -> None:
    text = str(behaviour.reply(BODY))
    started = time.process_time()
    case = Case("c", {"Case": REPORTS[1] + " She was well." * 300})
    with fake_model(lambda prompt: text):
        reading = attempt(tuned().program.parts["GI"], case)
    assert len(reading.quotes["GI"]) <= MOST_QUOTES
    # On a machine of its own it takes half a second; before, it took minutes.
    assert time.process_time() - started < 20


@pytest.mark.parametrize("behaviour", HUGE, ids=named)
def test_what_is_huge_is_cut_off_by_a_script(script: dict[str, Any], behaviour: Behaviour) -> None:
    started = time.process_time()
    with serving(serving_as(behaviour)) as server:
        rows, _ = scripted(script, server)
    assert all(len(quotes) <= MOST_QUOTES for quotes in rows[1]["findings"].values())
    assert rows[2]["findings"] == {"GI": [QUOTE], "Neuro": [QUOTE]}
    assert time.process_time() - started < 30


@pytest.mark.parametrize("behaviour", COMPILED, ids=named)
def test_compile(tmp_path: Path, behaviour: Behaviour) -> None:
    cases = [
        {"id": f"c{n}", "sections": {"Case": f"{REPORTS[n == 10]} {n}."}, "gold": {"GI": [QUOTE]}}
        for n in range(12)
    ]
    with home(tmp_path) as place, serving(serving_as(behaviour)) as server:
        for name, some in (("cases", cases[:9]), ("test", cases[9:])):
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
        given = ("--data", "cases.jsonl", "--test-data", "test.jsonl", "--optimizer", "none")
        with redirect_stdout(StringIO()) as printed:
            code = place.compile(server, *given, "--categories", "GI,Neuro")
        rows = place.rows("cells.jsonl")
    assert code == 0
    assert len(rows) == 6
    for row in rows:
        failed = row["case"] == "c10" and behaviour.found is None
        assert bool(row["error"] and not row["salvaged"]) == failed
        assert row["predicted"] == ([] if failed else [QUOTE])
        assert row["case"] != "c10" or behaviour.said in row["error"]
    assert behaviour.learnt in printed.getvalue()


def test_too_many_failures_are_an_exit_code_and_in_every_case_said(folder: Path) -> None:
    cases = [{"id": f"c{n}", "sections": {"Case": REPORTS[n > 0]}} for n in range(3)]
    (folder / "reports.jsonl").write_text("\n".join(map(json.dumps, cases)))

    def filtering(body: Body) -> Reply:
        special = SPECIAL in text_of(body)
        return Raw(openai("blocked by the content filter"), 400) if special else good(body)

    with serving(filtering) as server:
        code, printed, _ = extracted(folder, server)
        assert code == 1
        assert "errors     4 of 6 cells" in printed
        assert "4 x LMInvalidRequestError" in printed
        assert extracted(folder, server, "--max-failed", "0.7")[0] == 0
        assert evaluated(folder, server)[0] == 1
        assert evaluated(folder, server, "--max-failed", "0.7")[0] == 0
        with pytest.raises(UserError, match="a share is from 0 to 1"):
            extracted(folder, server, "--max-failed", "7")


def test_what_was_learnt_is_asked_once_and_kept(folder: Path) -> None:
    def strict(body: Body) -> Reply:
        return Raw({"error": "no"}, 400) if "maxItems" in json.dumps(body) else good(body)

    with serving(strict) as server:
        extracted(folder, server)
        held = ["maxItems" in json.dumps(body) for body in server.bodies]
        # The check found out; no request of the run was refused.
        assert not any(held[-6:])
        noted = json.loads((folder / "out.jsonl.run.json").read_text())
        assert list(noted["server"]["lacking"]) == ["schema keywords"]
        (folder / "out.jsonl").unlink()
        before = len(server.bodies)
        extracted(folder, server)
        assert len(server.bodies) == before  # from the cache, though the schema was not sent


def test_a_server_that_changes_its_mind_is_learnt_from_where_it_names_what(folder: Path) -> None:
    later = count()

    def strict(body: Body) -> Reply:
        if "temperature" in body and next(later) > 2:
            return Raw(openai("'temperature' does not support 0"), 400)
        return good(body)

    with serving(strict) as server:
        code, printed, rows = extracted(folder, server)
    assert (code, [row["errors"] for row in rows]) == (0, [{}] * 3)
    assert "takes no temperature" in printed


def test_twelve_failures_about_one_report_end_no_run(tmp_path: Path) -> None:
    # 14 categories, each refused at the first report in words that nobody knows.
    write_program(tmp_path / "program.json", tuned(asked=WHOLE))
    cases = [{"id": f"c{n}", "sections": {"Case": text}} for n, text in enumerate(REPORTS[1:])]
    (tmp_path / "reports.jsonl").write_text("\n".join(map(json.dumps, cases)))

    def puzzling(body: Body) -> Reply:
        if SPECIAL in text_of(body):
            return Raw({"error": "E77"}, 400 if "GI" in text_of(body) else 500)
        return good(body)

    with serving(puzzling) as server:
        code, _, rows = extracted(tmp_path, server, "--max-failed", "0.9")
        asked = len(server.bodies)
        again, _, same = extracted(tmp_path, server, "--max-failed", "0.9")
    assert code == again == 0
    assert len(rows[0]["errors"]) == 14
    assert rows[1]["errors"] == {}
    assert [row["errors"] for row in same] == [row["errors"] for row in rows]
    assert asked < 14 * 5


def test_a_server_that_is_dead_is_given_up_after_something_tiny_failed_too(folder: Path) -> None:
    write_program(folder / "program.json", tuned(asked=WHOLE))
    later = count()

    def dying(body: Body) -> Reply:
        return good(body) if next(later) < 2 else 401

    with serving(dying) as server, pytest.raises(RunError, match="stopped answering"):
        extracted(folder, server)


def test_a_byte_a_second_ends_at_the_timeout() -> None:
    slow = Raw(completion({"model": "m", "messages": []}, "x"), pause=0.2)
    with serving(lambda _: slow) as server:
        wire = {"model": "openai/f", "api_base": server.address, "api_key": "k", "timeout": 0.6}
        engine = Engine(Server(lambda: wire, 1, 0.6), Meter())
        started = time.monotonic()
        with pytest.raises(ModelGone, match=r"no answer within 0\.6 s"):
            engine.complete(TINY)
    # Three attempts and something tiny; the whole reply would take a minute each time.
    assert time.monotonic() - started < 60


TRICKLING = Behaviour(
    "a byte at a time",
    lambda body: Raw(completion(body, good(body)), pause=0.2),
    None,
    "no whole answer within 2 s",
)


@pytest.mark.slow
def test_what_trickles_is_an_error_of_its_report_alone(
    folder: Path, script: dict[str, Any]
) -> None:
    with serving(serving_as(TRICKLING)) as server:
        code, _, rows = extracted(folder, server, "--timeout", "2")
        evaluated_code, printed = evaluated(folder, server, "--json", "--timeout", "2")
        client = {"model": "openai/fake", "api_base": server.address, "api_key": "none"}
        asking = script["Client"]({**client, "max_retries": 0, "timeout": 2.0})
        row = script["extract"](asking, "r", {"Case report": REPORTS[1]})
    assert code == evaluated_code == 0
    assert [sorted(row["errors"]) for row in rows] == [[], ["GI", "Neuro"], []]
    for errors in (rows[1]["errors"], row["errors"]):
        assert all(TRICKLING.said in errors[key] for key in ("GI", "Neuro"))
    assert json.loads(printed)["failed"] == 2


def test_loopback_is_reached_past_any_proxy_and_a_proxy_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://user:pass-word@127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    with serving(good) as server:
        assert extracted(folder, server)[0] == 0
    private = FakeServer(good, address="http://10.255.255.1:8000/v1")
    (folder / "out.jsonl").unlink()
    with pytest.raises(UserError, match=r"through the proxy 127\.0\.0\.1:9") as caught:
        extracted(folder, private)
    assert "pass-word" not in str(caught.value)


def test_caps_hold_where_no_usage_is_reported() -> None:
    with serving(changed(usage={"prompt_tokens": 0, "completion_tokens": 0})) as server:
        wire = {"model": "openai/f", "api_base": server.address, "api_key": "k", "timeout": 30}
        meter, budget = Meter(), Budget(Caps(tokens=2000))
        engine = Engine(Server(lambda: wire), meter, budget)
        texts = [f"{number} She was well. " * 20 for number in range(99)]
        config = TINY.config
        asked = (Request("m", messages=(Message.user(t),), config=config) for t in texts)
        with pytest.raises(BudgetSpent, match="--max-tokens 2000 reached"):
            list(map(engine.complete, asked))
        assert 1000 < meter.usage.tokens <= 2000
        assert "estimated: no usage worth the name" in engine.server.learnt.lines()[-1]


def test_ollama_is_told_its_context_and_a_cut_prompt_is_seen() -> None:
    told = Settings(model="ollama_chat/qwen", context=32768)
    assert told.sent == {"num_ctx": 32768}
    assert Settings(model="ollama/q", context=4096, request={"num_ctx": 8192}).sent == {
        "num_ctx": 8192
    }
    assert told.identity != Settings(model="ollama_chat/qwen").identity
    learnt = Learnt()
    learnt.read(40_000, 9_000)
    learnt.read(40_000, 30)  # a count of what a cache lacked
    assert learnt.lines() == []
    learnt.read(40_000, 4_096)
    assert "4096 of about 10000" in learnt.lines()[0]


def test_a_model_of_fixed_temperature_works_or_is_one_line(folder: Path) -> None:
    def fixed(body: Body) -> Reply:
        refused = body.get("temperature", 1) != 1 or "max_tokens" in body
        return Raw(openai("Unsupported value"), 400) if refused else good(body)

    with serving(fixed) as server:
        code, printed, rows = extracted(folder, server, "--model", "openai/gpt-5-mini")
        assert (code, [row["errors"] for row in rows]) == (0, [{}] * 3)
        assert "takes no temperature" in printed
    with pytest.raises(UserError, match="leave it out, or say temperature = 1"):
        Model(Settings(model="openai/gpt-5-mini", temperature=0.3), folder)


def test_parameters_reach_the_model_as_they_are_and_decide_what_is_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TENANT", "tenant-77-secret")
    given = ("--request", "top_p=0.9", "--request", "chat_template_kwargs.enable_thinking=false")
    header = ("--request", "headers.X-Tenant=$MY_TENANT", "--max-answer-tokens", "4000")
    with serving(good) as server:
        extracted(folder, server, *given, *header)
        body = server.bodies[-1]
        assert (body["top_p"], body["stream"]) == (0.9, False)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert body["max_tokens"] == 4000
        noted = (folder / "out.jsonl.run.json").read_text()
        assert "tenant-77" not in noted
        with pytest.raises(UserError, match="not the same request"):
            extracted(folder, server, "--request", "top_p=0.5")
    plain, other = (Settings(model="m", request=r) for r in ({}, {"top_p": 0.9}))
    assert plain.identity == Settings(model="m").identity != other.identity
    assert "request" not in plain.model_dump()
    for bad in (
        {"temperature": 1},
        {"api_base": "x"},
        {"mock_response": "x"},
        {"h": "sk-" + "a" * 20},
    ):
        with pytest.raises(ValueError, match="request"):
            Settings(model="m", request=bad)


def test_a_foreign_programs_headers_need_trust_and_its_sampling_does_not(tmp_path: Path) -> None:
    plain = tuned(request={"top_p": 0.9}).origin
    assert plain.settings(None, None, 1).request == {"top_p": 0.9}
    for request in (
        {"extra_headers": {"X": "$OPENAI_API_KEY"}},
        {"extra_body": {"webhook": "http://far.example"}},
    ):
        with pytest.raises(UserError, match="--trust allows this"):
            tuned(request=request).origin.settings(None, None, 1)
        assert tuned(request=request).origin.settings(None, None, 1, trust=True)


MIX = [b for b in TABLE if not b.all and b.name not in ("a crash at one report",)]


def unlucky(seed: int, share: float) -> Callable[[Body], Reply]:
    """A server that misbehaves at a share of all requests, the same way at the same request."""

    def reply(body: Body) -> Reply:
        if "Task:" not in text_of(body):
            return good(body)
        digest = sha256(f"{seed}{body['messages']}".encode()).digest()
        chance = Random(digest)
        if chance.random() >= share:
            return good(body)
        return chance.choice(MIX).reply(body)

    return reply


def mixed(folder: Path, count: int, categories: list[str] | None = None) -> None:
    schema = WHOLE.select(categories) if categories else WHOLE
    write_program(folder / "program.json", tuned(asked=schema))
    text = "A girl, number {}, had no fever."
    cases = [{"id": f"c{n}", "sections": {"Case": text.format(n)}} for n in range(count)]
    (folder / "reports.jsonl").write_text("\n".join(map(json.dumps, cases)))


def judged(rows: list[Any], cases: int, categories: int) -> None:
    assert [row["id"] for row in rows] == [f"c{n}" for n in range(cases)]
    for row in rows:
        assert len(row["findings"]) == categories
        for key in row["findings"]:
            assert quotes(row, key) == (() if key in row["errors"] else (QUOTE,))


def test_a_mix_of_all_ends_every_cell_as_an_answer_or_an_error(tmp_path: Path) -> None:
    mixed(tmp_path, 12, ["GI", "Neuro"])
    with serving(unlucky(1, 0.3)) as server:
        code, printed, rows = extracted(tmp_path, server, "--threads", "4")
    judged(rows, 12, 2)
    assert code == 0
    assert 0 < sum(len(row["errors"]) for row in rows) < 16
    assert f"errors     {sum(len(row['errors']) for row in rows)} of 24 cells" in printed


@pytest.mark.slow
def test_a_thousand_misbehaviours_end_every_cell_and_counts_add_up(tmp_path: Path) -> None:
    mixed(tmp_path, 138)
    with serving(unlucky(2, 0.52)) as server:
        _, printed, rows = extracted(tmp_path, server, "--threads", "16", "--max-failed", "1")
    judged(rows, 138, 14)
    failed = sum(len(row["errors"]) for row in rows)
    assert 300 < failed < 1000
    assert f"errors     {failed} of 1932 cells" in printed
    reasons = re.findall(r"^ +(\d+) x ", printed, re.MULTILINE)
    assert sum(map(int, reasons)) == failed


# The command, without waits between attempts.
HASTY = (
    "import sys; from crb_dspy.models import server; server.BACKOFF = 0.001;"
    "from crb_dspy.extract.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_five_places_among_misbehaviours_a_run_leaves_the_same_rows(
    tmp_path: Path,
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        mixed(folder, 138)
    with serving(unlucky(3, 0.05)) as server:
        _, _, rows = extracted(whole, server, "--threads", "16")
        judged(rows, 138, 14)
        given = ["program.json", "--input", "reports.jsonl", "--out", "out.jsonl"]
        command = [sys.executable, "-c", HASTY, *given, "--api-base", server.address]
        command += ["--threads", "16"]
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            process = subprocess.Popen(command, cwd=broken, stdout=subprocess.DEVNULL)
            while process.poll() is None and _lines(broken / "out.jsonl") < share * 138:
                time.sleep(0.02)
            process.kill()
            process.wait()
        subprocess.run(command, cwd=broken, check=True, stdout=subprocess.DEVNULL)
    again = [json.loads(line) for line in (broken / "out.jsonl").read_text().splitlines()]
    judged(again, 138, 14)
    assert [row["findings"] for row in again] == [row["findings"] for row in rows]
    assert [list(row["errors"]) for row in again] == [list(row["errors"]) for row in rows]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
