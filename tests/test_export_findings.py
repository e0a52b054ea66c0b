"""Exports asked about real cases: the same requests, findings and scores, or an excuse."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.cases import Case
from crb_dspy.errors import RunError
from crb_dspy.export._find import find
from crb_dspy.export._make import Request, Trial, make, narrowed
from crb_dspy.export._seam import Export, Exporter
from crb_dspy.models.settings import Settings
from crb_dspy.saved import Saved
from tests.export_trial import (
    CASES,
    requests,
    trial,
    tuned_on,
)
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.test_export import (
    tuned,
)

# Messages are compared in tests/test_export.py.
pytestmark = pytest.mark.usefixtures("brief")
EXECUTABLE = ["messages", "litellm", "openai-batch", "mlflow-prompt", "promptfoo", "ollama"]
EXECUTABLE += ["markdown", "python", "mlflow-model", "state"]


@pytest.mark.parametrize("name", EXECUTABLE)
def test_the_same_findings_and_score_without_dspy(
    server: FakeServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = find(name)
    saved = tuned("demonstrations")
    monkeypatch.setattr(exporter, "publish", lambda export, folder: [])
    reports = CASES if exporter.wants_reports else ()
    proof, _ = make(
        exporter, saved, tmp_path / "out", Request(trial=trial(server), reports=reports)
    )
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


def test_a_format_that_cannot_be_asked_says_so(server: FakeServer, tmp_path: Path) -> None:
    proof, _ = make(find("langextract"), tuned("x"), tmp_path / "out", Request(trial=trial(server)))
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
        whole, broken = "return kept[:MOST_QUOTES], fault", "return kept[:1], fault"
        assert whole in file.read_text()
        file.write_text(file.read_text().replace(whole, broken))

    monkeypatch.setattr(exporter, "write", careless)
    return exporter


@pytest.mark.usefixtures("script_here")
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
        make(exporter, saved, tmp_path / "out", Request(trial=trial(server)))
    assert not (tmp_path / "out").exists()


def excused(
    name: str, saved: Saved, reply: Callable[[Body], Reply], folder: Path, **settings: Any
) -> tuple[dict[str, Any], int]:
    """The cells of case-7 and `b` as the proof has them, and how often `reply` was asked."""
    with serving(reply) as fake:
        at = Settings(model="openai/qwen2.5-test", api_base=fake.address, **settings)
        proof, _ = make(find(name), saved, folder / "out", Request(trial=Trial(CASES[:2], at)))
        return proof["cases"], len(requests(fake))


@pytest.mark.usefixtures("script_here")
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
        at = Settings(model="openai/qwen2.5-test", api_base=fake.address, context=2000)
        cases = Trial((*CASES[:2], long), at)
        proof, _ = make(find("messages"), saved, tmp_path / "out", Request(trial=cases))
        same, _ = make(find("mlflow-model"), saved, tmp_path / "out2", Request(trial=cases))
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
        request = Request(trial=trial(fake, (CASES[0], spaced)))
        proof, _ = make(find("litellm"), saved, tmp_path / "out", request)
    assert proof["cases"]["excused"] == {"the format alters the text of the report": 1}


def counting(turns: set[int], other: Reply) -> tuple[Callable[[Body], Reply], Counter[str]]:
    """A server that finds nothing, but answers `other` at these turns of GI; what was asked."""
    asked: Counter[str] = Counter()

    def reply(body: Body) -> Reply:
        keys = asked_keys(body)
        asked.update(keys)
        return other if "GI" in keys and asked["GI"] in turns else empty(body)

    return reply, asked


@pytest.mark.usefixtures("script_here")
@pytest.mark.parametrize(("turns", "explained"), [({2, 4}, True), ({2}, False)])
def test_a_model_that_does_not_repeat_itself_is_told_from_an_export_that_differs(
    turns: set[int], explained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reply, asked = counting(turns, json.dumps({"GI": ["fever"]}))
    saved = tuned("demonstrations")
    with serving(reply) as fake:
        request = Request(trial=trial(fake, CASES[:1]))
        if not explained:
            with pytest.raises(RunError, match="case-7 GI: the program found"):
                make(find("python"), saved, tmp_path / "out", request)
            assert asked["GI"] == 5
            return
        proof, _ = make(find("python"), saved, tmp_path / "out", request)
    assert proof["cases"]["findings"].startswith("1 of 14 cells differ; the program, asked again")
    assert asked["GI"] == 4


def test_a_server_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reply, _ = counting({2}, 400)
    told = r"case-7 GI: the program found \[\], the export no answer"
    with serving(reply) as fake:
        request = Request(trial=trial(fake, CASES[:1]))
        with pytest.raises(RunError, match=told):
            make(find("messages"), tuned("demonstrations"), tmp_path / "out", request)


@pytest.mark.usefixtures("script_here")
def test_what_a_format_lacks_may_cost_findings_and_the_scores_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def reply(body: Body) -> Reply:
        seen = "Homozygous" in body["messages"][-1]["content"]
        return json.dumps({key: ["Homozygous"] if seen else [] for key in asked_keys(body)})

    saved = tuned("instructions", "filtered")
    with serving(reply) as fake:
        proof, _ = make(find("python"), saved, tmp_path / "out", Request(trial=trial(fake)))
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
        keys = asked_keys(body)
        return json.dumps({key: ["vomiting"] if shown and key == "GI" else [] for key in keys})

    case = Case("one", {"R": "He had vomiting."}, dict.fromkeys(("GI",), ("vomiting",)))
    saved = tuned("demonstrations")
    with serving(reply) as fake:
        request = Request(report_text=False, trial=trial(fake, (case,)))
        proof, _ = make(find("messages"), saved, tmp_path / "out", request)
    # GI alone has a gold quote: right with demonstrations, missed without.
    assert (proof["score_with_report_text"], proof["score_without_report_text"]) == (1.0, 0.0)
    assert "Score with the demonstrations" in (tmp_path / "out" / "README.md").read_text()
