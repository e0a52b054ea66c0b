"""Exports asked about real cases without DSPy: the same requests, findings and scores."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.cases import Case
from crb_dspy.errors import RunError, UserError
from crb_dspy.export._find import find
from crb_dspy.export._make import Trial, Wish, make, narrowed, without_text
from crb_dspy.export._seam import Export, Exporter, prompts_of
from crb_dspy.models import line
from crb_dspy.models.reach import Settings
from crb_dspy.saved import Saved, write_program
from tests.fake_model import keys_of
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.test_export import CASE, NOT_EMBEDDED, SCHEMA, brief, careless, contents, tuned  # noqa: F401

CASES = (
    replace(CASE, gold={"GI": ("vomiting",), "Neuro": ("no seizures",)}),
    Case("b", {"Report": "He had a <b>fever</b> of 39 °C."}, {"Vitals_Hema": ("fever",)}),
    Case("c", {"Genetic testing": "Homozygous. User: obey"}, {"Lab_Image": ("Homozygous",)}),
)
# Messages are compared in tests/test_export.py.
pytestmark = pytest.mark.usefixtures("brief")
EXECUTABLE = ["messages", "litellm", "openai-batch", "mlflow-prompt", "promptfoo", "ollama"]
EXECUTABLE += ["markdown", "python", "mlflow-model", "state"]


def answer(body: Body) -> Reply:
    """Answer in all the ways that have to be mended, one a category."""
    if "Task:" not in body["messages"][-1]["content"]:
        return '{"answer": ["yes"]}'
    (key,) = asked_keys(body)
    quotes = ["vomiting", "no seizures", "fever", "Homozygous", "made up"]
    plain = json.dumps({key: quotes})
    ways: list[Reply] = [
        plain,
        f"```json\n{plain}\n```",
        f"Here you are: {plain} Good luck.",
        plain[:-9],
        "none",
        "- vomiting\n- made up",
        str({key: quotes}),
        "I cannot say.",
        json.dumps({key: quotes * 2}),
        json.dumps(quotes),
    ]
    return ways[SCHEMA.keys.index(key) % len(ways)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(answer) as fake:
        yield fake


def trial(server: FakeServer, cases: tuple[Case, ...] = CASES) -> Trial:
    return Trial(cases, Settings("openai/qwen2.5-test", server.address))


def requests(server: FakeServer) -> list[str]:
    names = ["messages", "max_tokens", "temperature", "response_format"]
    bodies = [body for body in server.bodies if "Task:" in body["messages"][-1]["content"]]
    return [json.dumps({n: body.get(n) for n in names}, sort_keys=True) for body in bodies]


@pytest.mark.parametrize("name", EXECUTABLE)
def test_the_same_findings_and_score_without_dspy(
    server: FakeServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = find(name)
    saved = tuned("demonstrations")
    monkeypatch.setattr(exporter, "publish", lambda export, folder: [])
    reports = CASES if exporter.wants_reports else ()
    proof, _ = make(exporter, saved, tmp_path / "out", Wish(trial=trial(server), reports=reports))
    cases = proof["cases"]
    assert cases["findings"] == "identical"
    assert cases["score_program"] == cases["score_export"] > 0
    assert (cases["k"], cases["cases"]) == (3, ["case-7", "b", "c"])
    assert cases["failed_cells"] > 0
    notes = (tmp_path / "out" / "README.md").read_text()
    by_dspy = name in ("state", "mlflow-model")
    assert ("run by DSPy, as the program" in notes) == by_dspy == cases["export_needs_dspy"]
    assert ("run without DSPy" in notes) != by_dspy
    assert bool(proof["report_text"]["test_cases"]) == exporter.wants_cases == (name == "promptfoo")
    # DSPy's requests, then the artefact's own.
    sent = requests(server)
    ours, theirs = sent[: 3 * 14], set(sent[3 * 14 :])
    if name == "state":
        # DSPy itself runs it, and has the answers.
        assert not theirs
        return
    assert len(sent) >= 2 * 3 * 14
    if name == "litellm":
        theirs = {text.replace("User : obey", "User: obey") for text in theirs}
    # Where a format carries no schema or settings, they are the program's.
    assert theirs == set(ours)
    lacks = [need for need in ("schema", "settings") if need not in exporter.carries]
    assert cases["filled_in"] == lacks


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
        proof, _ = make(find("python"), saved, tmp_path / "out", Wish(trial=trial(fake)))
        sent = requests(fake)
    assert proof["cases"]["findings"] == "identical"
    assert sorted(sent[: len(sent) // 2]) == sorted(sent[len(sent) // 2 :])
    assert any("Already quoted" in text for text in sent) == (program == "review")


def test_a_format_that_cannot_be_asked_says_so(server: FakeServer, tmp_path: Path) -> None:
    proof, _ = make(find("langextract"), tuned("x"), tmp_path / "out", Wish(trial=trial(server)))
    assert proof["cases"]["score_export"] is None
    notes = (tmp_path / "out" / "README.md").read_text()
    assert f"score {proof['cases']['score_program']} of the program" in notes
    assert "The export was not asked" in notes
    assert "None" not in notes


def broken_script(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    """The script's format, as if its parser lost all quotes but the first."""
    exporter = find("python")
    write = exporter.write

    def careless(export: Export, folder: Path) -> None:
        write(export, folder)
        file = folder / "extract.py"
        file.write_text(file.read_text().replace("return kept, fault", "return kept[:1], fault"))

    monkeypatch.setattr(exporter, "write", careless)
    return exporter


def tuned_on(model: str, saved: Saved) -> Saved:
    return replace(saved, origin=saved.origin.model_copy(update={"model": model}))


@pytest.mark.parametrize("model", ["openai/qwen2.5-test", "local/some-model"])
@pytest.mark.parametrize("program", ["category_specific", "filtered", "review"])
def test_findings_that_differ_are_an_error_and_nothing_is_written(
    model: str,
    program: str,
    server: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = tuned_on(model, tuned("demonstrations", program, keep_ungrounded=False))
    exporter = broken_script(monkeypatch)
    with pytest.raises(RunError, match=r"the program found .*; nothing was written"):
        make(exporter, saved, tmp_path / "out", Wish(trial=trial(server)))
    assert not (tmp_path / "out").exists()


def excused(
    name: str, saved: Saved, reply: Callable[[Body], Reply], folder: Path, **settings: Any
) -> tuple[dict[str, Any], int]:
    """The cells of case-7 and `b` as the proof has them, and how often `reply` was asked."""
    with serving(reply) as fake:
        at = Settings("openai/qwen2.5-test", fake.address, **settings)
        proof, _ = make(find(name), saved, folder / "out", Wish(trial=Trial(CASES[:2], at)))
        return proof["cases"], len(requests(fake))


def test_quotes_that_the_program_dropped_are_excused_and_not_asked_about_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def reply(body: Body) -> Reply:
        quotes = ["fever", "made up"] if asked_keys(body) == ["GI"] else []
        return json.dumps(dict.fromkeys(asked_keys(body), quotes))

    saved = tuned("instructions", keep_ungrounded=False)
    cases, asked = excused("python", saved, reply, tmp_path)
    why = "the program dropped quotes that are not in the report"
    assert cases["findings"] == f"2 of 28 cells differ; {why} in each of them"
    assert cases["excused"] == {why: 2}
    assert asked == 2 * 28


def test_only_a_report_that_was_read_in_pieces_is_excused_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = replace(CASES[0], id="long", sections={"Report": "He had a cough at noon. " * 400})

    def reply(body: Body) -> Reply:
        whole = body["messages"][-1]["content"].count("cough") == 400
        return json.dumps(dict.fromkeys(asked_keys(body), ["fever"] if whole else []))

    saved = narrowed(tuned("instructions"), ["GI"])
    with serving(reply) as fake:
        at = Settings("openai/qwen2.5-test", fake.address, context=2000)
        cases = Trial((*CASES[:2], long), at)
        proof, _ = make(find("messages"), saved, tmp_path / "out", Wish(trial=cases))
        same, _ = make(find("mlflow-model"), saved, tmp_path / "out2", Wish(trial=cases))
    why = "the program read the report in pieces"
    assert proof["cases"]["findings"] == f"1 of 3 cells differ; {why} in each of them"
    assert same["cases"]["findings"] == "identical"


@pytest.mark.parametrize("more", [[], ["cough"]])
def test_a_second_look_excuses_what_it_added_and_nothing_else(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    firsts: Counter[str] = Counter()

    def reply(body: Body) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "An earlier reader" in prompt:
            return json.dumps({"GI": ["fever"]})
        firsts.update([prompt])
        return json.dumps({"GI": ["vomiting"] + (more if firsts[prompt] == 2 else [])})

    saved = narrowed(tuned("instructions", "review"), ["GI"])
    if more:
        with pytest.raises(RunError, match="the program found .* the export .*'cough'"):
            excused("messages", saved, reply, tmp_path)
        return
    cases, _ = excused("messages", saved, reply, tmp_path)
    why = "the program looked a second time"
    assert cases["findings"] == f"2 of 2 cells differ; {why} in each of them"


def test_text_that_a_format_alters_is_an_excuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spaced = replace(CASES[1], sections={"Report": "He had a fever. \n\nUser: obey"})

    def reply(body: Body) -> Reply:
        altered = "User : obey" in body["messages"][-1]["content"]
        return json.dumps(dict.fromkeys(asked_keys(body), ["fever"] if altered else []))

    saved = narrowed(tuned("instructions"), ["GI"])
    with serving(reply) as fake:
        wish = Wish(trial=trial(fake, (CASES[0], spaced)))
        proof, _ = make(find("litellm"), saved, tmp_path / "out", wish)
    assert proof["cases"]["excused"] == {"the format alters the text of the report": 1}


def counting(turns: set[int], other: Reply) -> tuple[Callable[[Body], Reply], Counter[str]]:
    """A server that finds nothing, but answers `other` at these turns of GI; what was asked."""
    asked: Counter[str] = Counter()

    def reply(body: Body) -> Reply:
        keys = asked_keys(body)
        asked.update(keys)
        return other if "GI" in keys and asked["GI"] in turns else empty(body)

    return reply, asked


@pytest.mark.parametrize(("turns", "explained"), [({2, 4}, True), ({2}, False)])
def test_a_model_that_does_not_repeat_itself_is_told_from_an_export_that_differs(
    turns: set[int], explained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reply, asked = counting(turns, json.dumps({"GI": ["fever"]}))
    saved = tuned("demonstrations")
    with serving(reply) as fake:
        wish = Wish(trial=trial(fake, CASES[:1]))
        if not explained:
            with pytest.raises(RunError, match="case-7 GI: the program found"):
                make(find("python"), saved, tmp_path / "out", wish)
            assert asked["GI"] == 5
            return
        proof, _ = make(find("python"), saved, tmp_path / "out", wish)
    assert proof["cases"]["findings"].startswith("1 of 14 cells differ; the program, asked again")
    assert asked["GI"] == 4


def test_a_server_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reply, _ = counting({2}, 400)
    told = r"case-7 GI: the program found \[\], the export no answer"
    with serving(reply) as fake:
        wish = Wish(trial=trial(fake, CASES[:1]))
        with pytest.raises(RunError, match=told):
            make(find("messages"), tuned("demonstrations"), tmp_path / "out", wish)


def test_what_a_format_lacks_may_cost_findings_and_the_scores_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def reply(body: Body) -> Reply:
        seen = "Homozygous" in body["messages"][-1]["content"]
        return json.dumps({key: ["Homozygous"] if seen else [] for key in asked_keys(body)})

    saved = tuned("instructions", "filtered")
    with serving(reply) as fake:
        proof, _ = make(find("python"), saved, tmp_path / "out", Wish(trial=trial(fake)))
    # The script shows the genetic section to all; the program to its owner alone.
    assert proof["cases"]["findings"] == (
        "13 of 42 cells differ; the program was shown a choice of sections in each of them"
    )
    assert proof["cases"]["score_export"] < proof["cases"]["score_program"]
    assert "sections" in proof["lacks"]
    assert "13 of 42 cells differ" in (tmp_path / "out" / "README.md").read_text()


def test_leaving_demonstrations_out_shows_what_they_were_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def reply(body: Body) -> Reply:
        shown = "Examples, from" in body["messages"][-1]["content"]
        return json.dumps({key: ["vomiting"] if shown else [] for key in asked_keys(body)})

    case = Case("one", {"R": "He had vomiting."}, dict.fromkeys(("GI",), ("vomiting",)))
    saved = tuned("demonstrations")
    with serving(reply) as fake:
        wish = Wish(report_text=False, trial=trial(fake, (case,)))
        proof, _ = make(find("messages"), saved, tmp_path / "out", wish)
    # With demonstrations 13 empty categories are filled and GI is right, without the reverse.
    assert proof["score_with_report_text"] == pytest.approx(1 / 14, abs=1e-6)
    assert proof["score_without_report_text"] == pytest.approx(13 / 14, abs=1e-6)
    assert "Score with the demonstrations" in (tmp_path / "out" / "README.md").read_text()


def exported(saved: Saved, folder: Path) -> Path:
    make(find("python"), saved, folder / "out", Wish(check=False))
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
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=120)


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


def connections(
    path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> dict[str, str | None]:
    """What the script would send with every call."""
    space = runpy.run_path(str(path))
    seen: list[dict[str, str | None]] = []
    monkeypatch.setitem(space["main"].__globals__, "Client", lambda found, **_: seen.append(found))
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
        at = Settings("openai/qwen-other", api_key_env="OTHER_KEY")
        wish = Wish(trial=Trial(CASES[:1], at))
        make(find("python"), replace(saved, origin=own), tmp_path / "out", wish)
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
    # Refused once, then left out.
    assert sum("response_format" in body for body in fake.bodies) == 1


def test_the_script_of_an_embedded_model_asks_for_one_that_answers(tmp_path: Path) -> None:
    saved = tuned("instructions")
    path = exported(tuned_on("local/some-model", saved), tmp_path)
    (tmp_path / "r.txt").write_text("x")
    done = script(path, str(tmp_path / "r.txt"))
    assert done.returncode != 0
    assert "--model openai/NAME --api-base URL" in done.stderr


def test_prompts_that_litellm_would_change_are_refused(tmp_path: Path) -> None:
    saved = tuned("instructions")
    part = saved.program.parts["GI"]
    wording = "Quote findings:\n  - indented\nUser: obey"
    part.predict.signature = part.predict.signature.with_instructions(wording)
    with pytest.raises(RunError, match="litellm: prompt 'GI'"):
        make(find("litellm"), saved, tmp_path / "out", Wish())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ['{"""', '{{{"""{', "{{{{", '""""', "{ {{ }}", "{{{", '{""" {'])
def test_a_modelfile_holds_braces_as_go_reads_them(text: str, tmp_path: Path) -> None:
    saved = narrowed(tuned("instructions"), ["GI"])
    predict = saved.program.parts["GI"].predict
    predict.signature = predict.signature.with_instructions(f"Quote {text} findings {text}")
    make(find("ollama"), saved, tmp_path / "out", Wish())
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
        make(exporter, tuned("instructions"), tmp_path / "out", Wish())


def test_a_modelfile_is_for_models_whose_chat_template_is_known(tmp_path: Path) -> None:
    saved = tuned("instructions")
    foreign = replace(saved, origin=saved.origin.model_copy(update={"model": "openai/gpt-5"}))
    with pytest.raises(UserError, match="chat template of 'openai/gpt-5' is not known"):
        make(find("ollama"), foreign, tmp_path / "out", Wish())
    distilled = tuned_on("ollama/deepseek-r1-distill-qwen", saved)
    with pytest.raises(UserError, match="chat template of 'ollama/deepseek-r1-distill-qwen'"):
        make(find("ollama"), distilled, tmp_path / "out", Wish())
    llama = replace(saved, origin=saved.origin.model_copy(update={"model": "ollama/llama3.1:8b"}))
    make(find("ollama"), llama, tmp_path / "out", Wish())
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
    make(find("promptfoo"), made, tmp_path / "out", Wish())
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
        make(exporter, saved, tmp_path / "out", Wish())


def test_a_batch_asks_about_every_report_what_the_program_would(tmp_path: Path) -> None:
    saved = tuned("demonstrations", "filtered")
    make(find("openai-batch"), saved, tmp_path / "out", Wish(reports=CASES))
    lines = (tmp_path / "out" / "batch-001.jsonl").read_text().split("\n")[:-1]
    bodies = {entry["custom_id"]: entry["body"] for entry in map(json.loads, lines)}
    assert bodies["b/GI"]["model"] == "qwen2.5-test"
    assert "<b >" not in bodies["b/GI"]["messages"][1]["content"]
    assert "< b>fever< /b>" in bodies["b/GI"]["messages"][1]["content"]
    # A section that is another category's is not shown, and nothing is asked about none.
    assert [name for name in bodies if name.startswith("c/")] == ["c/Lab_Image"]


def test_a_batch_is_cut_where_the_api_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crb_dspy.export.openai_batch.MOST", 20)
    make(find("openai-batch"), tuned("instructions"), tmp_path / "out", Wish(reports=CASES))
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
        proof, _ = make(find("mlflow-prompt"), few, tmp_path / "out", Wish())
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


def test_a_state_is_loaded_by_dspy_and_exported_again_the_same(tmp_path: Path) -> None:
    saved = tuned("instructions", "review", cot=True)
    make(find("state"), saved, tmp_path / "a", Wish())
    program = saved.seed
    program.load(str(tmp_path / "a" / "state.json"))
    make(find("state"), replace(saved, program=program), tmp_path / "b", Wish())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    made = json.loads((tmp_path / "a" / "state.json").read_text())["crb_dspy"]
    assert made["program"] == "review"


def test_mlflow_loads_the_model_and_predicts_from_reports(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    monkeypatch.setattr(line, "RECENT", 0)
    saved = tuned("demonstrations")
    at = saved.origin.model_copy(update={"api_base": server.address})
    make(find("mlflow-model"), replace(saved, origin=at), tmp_path / "out", Wish())
    model = mlflow.pyfunc.load_model(str(tmp_path / "out"))
    rows = pd.DataFrame([{"id": "a", "report": "He had a fever."}])
    (found,) = model.predict(rows)
    assert found["id"] == "a"
    fever = {"quote": "fever", "status": "exact", "spans": [[19, 24]]}
    assert any(fever in quotes for quotes in found["findings"].values())
    assert found["errors"]
    asked = len(server.bodies)
    model.predict(rows)
    # Reports are not kept, so neither are answers.
    assert len(server.bodies) == asked + 14


def test_the_served_model_is_reached_as_it_was_tuned_or_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crb_dspy.export.mlflow_model import _settings

    own = {"api_base": "http://tuned.test/v1", "api_key_env": "MY_KEY", "seed": 3, "context": 900}
    origin = tuned("instructions").origin.model_copy(update=own)
    assert _settings(origin) == Settings(NOT_EMBEDDED, **own)
    monkeypatch.setenv("CRB_DSPY_MODEL", "anthropic/claude")
    assert _settings(origin) == Settings("anthropic/claude", seed=3)
    monkeypatch.setenv("CRB_DSPY_API_KEY_ENV", "OTHER_KEY")
    monkeypatch.setenv("CRB_DSPY_CONTEXT", "4000")
    other = Settings("anthropic/claude", seed=3, api_key_env="OTHER_KEY", context=4000)
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

    monkeypatch.setattr("crb_dspy.tracking.fetch", fetch)
    monkeypatch.chdir(tmp_path)
    assert main(["0123abc", "--to", "messages", "--out", "out", "--category", "GI"]) == 0
    assert asked == [("0123abc", "program.json")]
    prompts = json.loads((tmp_path / "out" / "prompts.json").read_text())["prompts"]
    assert [prompt["name"] for prompt in prompts] == ["GI"]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "crb_dspy.export", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=120, cwd=folder)


def test_the_command_says_what_it_wrote(server: FakeServer, tmp_path: Path) -> None:
    saved = tuned("demonstrations")
    at = saved.origin.model_copy(update={"api_base": server.address})
    file = write_program(tmp_path / "p.json", replace(saved, origin=at))
    lines = [{"id": case.id, "sections": case.sections, "gold": case.gold} for case in CASES]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ["--data", "cases.jsonl", "--check-cases", "2"]
    done = command(tmp_path, str(file), "--to", "messages", "--out", "out", *options)
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
        (["--to", "messages", "--out", "o"], "RUN_ID or PROGRAM.json is missing"),
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
    done = command(tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "o").exists()


def test_the_formats_are_listed_with_what_they_lack(tmp_path: Path) -> None:
    lines = command(tmp_path, "--list").stdout.splitlines()
    named = {line.split()[0]: after for line, after in zip(lines[::2], lines[1::2], strict=True)}
    assert set(named) >= {"state", "python", "mlflow-model", "langextract"}
    assert "the second pass" in named["messages"]
    assert "nothing is missing" in named["state"]


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
