"""Python: a program that is called, a compile, scores of a frame, and what notebooks show."""

from __future__ import annotations

import copy
import json
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pandas as pd
import pytest

import crb_dspy as crb
from crb_dspy.api import Extractor, Found
from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.saved import write_program
from tests.fake_model import fake_model
from tests.fake_server import Body, FakeServer, Reply, asked_keys, empty, serving
from tests.made_run import Home, home
from tests.test_saved import tuned

TEXT = "He had a fever & <b>no</b> cough."


def answer(body: Body) -> Reply:
    """Quote what is there and what is not; fail about neurology in reports that say so."""
    prompt = body["messages"][-1]["content"]
    if "Task:" not in prompt:
        return empty(body)
    (key,) = asked_keys(body)
    if "broken" in prompt and key == "Neuro":
        return "no list at all"
    return json.dumps({key: ["fever", "rash"] if key == "GI" else []})


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with serving(answer) as fake:
        yield fake


@pytest.fixture
def program(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Extractor]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_program(tmp_path / "program.json", tuned(api_base=server.address))
    loaded = crb.load(tmp_path)
    yield loaded
    loaded.close()


@pytest.mark.parametrize(
    "given", [TEXT, {"Report": TEXT}, Case("a", {"Report": TEXT})], ids=["text", "sections", "case"]
)
def test_a_program_takes_a_text_sections_or_a_case(program: Extractor, given: Any) -> None:
    found = program(given)
    assert found["GI"] == ["fever", "rash"]
    fever, rash = found.findings["GI"]
    ((start, end),) = fever.spans
    assert found.case.text[start:end] == "fever"
    assert rash.spans == ()
    assert found.errors == {}


def test_a_data_frame_becomes_a_row_a_finding(program: Extractor) -> None:
    frame = pd.DataFrame({"id": ["x", "y"], "text": [TEXT, "broken: a fever"]})
    found = program(frame)
    assert found["id"].tolist() == ["x", "x", "y", "y", "y"]
    assert found["quote"].tolist()[:4] == ["fever", "rash", "fever", "rash"]
    assert found["error"].tolist()[:4] == [""] * 4
    assert found["category"].tolist()[4] == "Neuro"
    assert "no list" in found["error"].tolist()[4]
    start, end = map(int, found.loc[0, ["start", "end"]])
    assert f"## Report\n{TEXT}"[start:end] == "fever"


@pytest.mark.parametrize("given", [3, None, ["a"], {"a": 1}])
def test_what_is_no_report_is_an_error_at_once(program: Extractor, given: Any) -> None:
    with pytest.raises(TypeError, match="a text, a case, sections by heading or a data frame"):
        program(given)


def test_a_frame_without_a_text_is_an_error(program: Extractor) -> None:
    with pytest.raises(TypeError, match="no column 'text'"):
        program(pd.DataFrame({"note": [TEXT]}))


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    at = "http://127.0.0.1:9/v1"
    write_program(tmp_path / "program.json", tuned(api_base=at))
    with pytest.raises(UserError, match="127.0.0.1:9"):
        crb.load(tmp_path)(TEXT)


def test_a_programs_parameters_and_those_that_are_given_reach_the_model(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own: dict[str, Any] = {"request": {"top_p": 0.9, "top_k": 4}, "max_answer_tokens": 4000}
    write_program(tmp_path / "program.json", tuned(api_base=server.address, **own))
    trials: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"top_p": 0.9, "top_k": 4, "max_tokens": 4000}),
        (
            {"request": {"top_p": 0.5}, "max_answer_tokens": 5000, "timeout": 9.0, "threads": 2},
            {"top_p": 0.5, "top_k": 4, "max_tokens": 5000},
        ),
    ]
    for given, sent in trials:
        loaded = crb.load(tmp_path, **given)
        loaded(f"{TEXT} {len(given)}.")
        loaded.close()
        assert {name: server.bodies[-1][name] for name in sent} == sent
    with pytest.raises(UserError, match="unknown setting 'timeuot': did you mean 'timeout'"):
        crb.load(tmp_path, timeuot=3)
    with pytest.raises(UserError, match=r"timeout = -1.*greater than 0"):
        crb.load(tmp_path, timeout=-1.0)
    write_program(tmp_path / "program.json", tuned(request={"headers": {"X": "$HOME"}}))
    with pytest.raises(UserError, match="--trust"):
        crb.load(tmp_path)
    assert crb.load(tmp_path, trust=True)


def test_it_asks_its_own_model_whatever_dspy_is_configured_with(program: Extractor) -> None:
    with fake_model() as other:
        assert program(TEXT)["GI"] == ["fever", "rash"]
    assert other.requests == []


def test_dspy_evaluates_it(program: Extractor) -> None:
    devset = [dspy.Example(case=TEXT, gold=["fever"]).with_inputs("case")]
    judge = dspy.Evaluate(
        devset=devset, metric=lambda example, found, *_: float(found["GI"][0] in example.gold)
    )
    assert judge(program).score == 100.0


def test_a_larger_program_holds_it(program: Extractor, tmp_path: Path) -> None:
    class Larger(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.extract = program

        def forward(self, note: str) -> dspy.Prediction:
            return dspy.Prediction(count=len(self.extract(case=note)["GI"]))

    larger = Larger()
    assert larger(note=TEXT).count == 2
    assert {name for name, _ in larger.named_predictors()} == {
        f"extract.program.{key}.predict" for key in ("GI", "Neuro")
    }
    assert copy.deepcopy(larger)(note=TEXT).count == 2
    larger.save(tmp_path / "larger.json")
    again = Larger()
    again.load(tmp_path / "larger.json")
    assert again(note=TEXT).count == 2


def test_a_program_of_its_own_says_what_it_lacks() -> None:
    inner = tuned().program
    with pytest.raises(ValueError, match="no model"):
        inner(case=Case("a", {"Report": TEXT}))
    with fake_model(), pytest.raises(TypeError, match="a Case is wanted, not str"):
        inner(case=TEXT)


def test_the_layout_comes_with_the_program() -> None:
    with fake_model() as engine, dspy.context(adapter=None):
        tuned().program(case=Case("a", {"Report": TEXT}))
    assert all("<report>\n## Report" in prompt for prompt in engine.prompts)


def test_a_notebook_shows_the_report_with_its_quotes(program: Extractor, tmp_path: Path) -> None:
    found = program(TEXT)
    assert isinstance(found, Found)
    html = found._repr_html_()
    assert 'title="GI">fever</mark> &amp; &lt;b&gt;no&lt;/b&gt; cough.' in html
    assert "rash (not in the report)" in html
    assert found.show(tmp_path / "a.html") == tmp_path / "a.html"
    assert html in (tmp_path / "a.html").read_text("utf-8")


def test_an_error_is_shown_too(program: Extractor) -> None:
    assert "Neuro: no answer" in program("broken: a fever")._repr_html_()


def test_scores_of_a_frame() -> None:
    rows = [(TEXT, ["fever"], ["fever"]), (TEXT, ["fever"], ["cough"]), (TEXT, [], [])]
    frame = pd.DataFrame(rows, columns=["text", "gold", "predicted"], index=[5, 6, 7])
    scored = crb.score(frame)
    assert scored["score"].tolist() == [1.0, 0.0, 1.0]
    assert list(scored.index) == [5, 6, 7]
    assert list(frame.columns) == ["text", "gold", "predicted"]
    with pytest.raises(UserError, match="column 'gold' is missing"):
        crb.score(frame.drop(columns="gold"))
    with pytest.raises(UserError, match="row 5: gold and predicted are lists"):
        crb.score(frame.assign(gold="fever"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path) as made:
        yield made


def test_a_compile_returns_its_program_and_its_report(place: Home) -> None:
    with serving() as server:
        done = crb.compile(
            limit=6,
            categories=["GI"],
            optimizer="none",
            model="openai/fake",
            api_base=server.address,
        )
        assert done.program("She was well.")["GI"] == []
    assert 0 <= done.scores["test/score"] <= 1
    assert done.headline in done._repr_html_()
    shown = done.show()
    assert shown == done.report
    assert done.report.is_file()


def test_the_package_is_light_and_its_help_fits_on_a_screen() -> None:
    code = (
        "import sys, crb_dspy as crb\n"
        "heavy = {'dspy', 'mlflow', 'litellm', 'pandas', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert callable(crb.compile) and callable(crb.score)\n"
        "import crb_dspy.compile.config, crb_dspy.score as module\n"
        "assert callable(crb.compile) and callable(crb.score)\n"
        "assert crb.compile.config.Experiment and module.main\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    shown = pydoc.plain(pydoc.render_doc(crb))
    assert len(shown.splitlines()) <= 66
    assert "load(program)" in shown


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'extract_all'"):
        _ = crb.extract_all  # type: ignore[attr-defined]


def test_types_are_told() -> None:
    assert (Path(crb.__file__).parent / "py.typed").is_file()
