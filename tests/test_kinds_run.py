"""Several kinds in one schema and one run, from data to report, exports and extraction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.evaluate import main as evaluate
from crb_dspy.export.__main__ import main as export
from crb_dspy.export._seam import messages_of
from crb_dspy.extract.__main__ import main as extract
from crb_dspy.saved import load_program
from crb_dspy.score import main as score
from crb_dspy.suggest.__main__ import main as suggest
from tests import mixed_data
from tests.fake_server import FakeServer, serving
from tests.made_run import Home, home


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, FakeServer]]:
    """A compile of five kinds; the folder stays the current one."""
    with home(tmp_path_factory.mktemp("mixed")) as place, serving(mixed_data.reply) as server:
        schema, data = mixed_data.written(place.path)
        place.compile(server, "--data", data, "--set", f"schema={schema}")
        yield place, server


def test_gold_is_read_by_its_kind(tmp_path: Path) -> None:
    schema, data = mixed_data.written(tmp_path, 4)
    gold = load(data, load_schema(schema)).cases[0].gold
    assert gold == {
        "Findings": ("fever",),
        "Smoking": ("smoker",),
        "Temperature": ("37.0 °C",),
        "Course": ("-24 h: fever",),
        "Diagnosis": ("measles",),
    }


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("Smoking", "sometimes", "gold of Smoking: not one of the options: 'sometimes'"),
        ("Course", [[]], "gold of Course: 1 of 1 events cannot be read"),
        ("Findings", "fever", "gold of Findings must be a list of texts, not a text"),
    ],
)
def test_faulty_gold_is_named_in_one_line(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    schema, data = mixed_data.written(tmp_path, 1)
    case = mixed_data.entry(0)
    case["gold"][key] = value
    Path(data).write_text(json.dumps(case))
    with pytest.raises(UserError, match=said):
        load(data, load_schema(schema))


def test_all_questions_of_a_case_share_the_prompt_up_to_the_report(
    run: tuple[Home, FakeServer],
) -> None:
    asked = [body["messages"] for body in run[1].bodies if "Patient 1 " in str(body["messages"])]
    whole = [m for m in asked if "\nPatient 1 " in m[1]["content"].partition("</report>")[0]]
    assert len({m[0]["content"] for m in whole}) == 1
    shared = {m[1]["content"].partition("\nTask:")[0] for m in whole}
    # Demonstrations come after what is shared.
    assert len({text.partition("Examples,")[0].rstrip() for text in shared}) == 1


def test_each_category_scores_as_its_kind_does(run: tuple[Home, FakeServer]) -> None:
    rows = run[0].rows("cells.jsonl")
    for row in rows:
        if row["category"] != "Smoking":
            assert row["score_baseline"] == 1, row
        elif row["gold"] != ["not mentioned"]:
            assert row["score_baseline"] == 0
    assert {row["silent"] for row in rows if row["category"] == "Smoking"} == {True, False}


def test_metrics_of_each_kind_and_systems_without_a_model_go_to_mlflow(
    run: tuple[Home, FakeServer],
) -> None:
    (stored,) = run[0].runs()
    metrics = stored.data.metrics
    for name in (
        "test/Smoking/accuracy",
        "test/Smoking/kappa",
        "test/Temperature/normalised_accuracy",
        "test/Course/concordance",
        "test/Diagnosis/answer_exact_match",
        "test/macro_f1",
        "most_frequent_answer/score",
        "text_classifier/score",
        "sentence_classifier/score",
        "empty_answer/score",
    ):
        if name != "test/Course/concordance":  # of one event a report there is no order
            assert name in metrics, name
    assert metrics["test/Course/match_rate"] == 1
    assert metrics["test/Diagnosis/answer_f1"] == 1


def test_the_report_shows_every_kind(run: tuple[Home, FakeServer]) -> None:
    page = (run[0].out / "report.html").read_text("utf-8")
    for text in ("gold ↓ answer →", "<circle", "former smoker"):
        assert text in page, text


def test_a_program_of_several_kinds_is_saved_loaded_and_judged(
    run: tuple[Home, FakeServer], capsys: pytest.CaptureFixture[str]
) -> None:
    place = run[0]
    saved = load_program(place.out)
    assert [type(kind).__name__ for kind in saved.program.kinds.values()] == [
        "Quotes", "Choice", "Value", "Events", "Answer",
    ]  # fmt: skip
    evaluate([str(place.out), "--data", "mixed.jsonl", "--limit", "4", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["categories"]["Diagnosis"]["answer_f1"] == 1


def test_findings_are_written_by_kind_and_read_again(run: tuple[Home, FakeServer]) -> None:
    place = run[0]
    Path("report.txt").write_text(mixed_data.entry(1)["sections"]["Case report"], "utf-8")
    extract([str(place.out), "--input", "report.txt", "--out", "found.jsonl"])
    row = json.loads(Path("found.jsonl").read_text("utf-8"))
    found = row["findings"]
    assert found["Temperature"] == [{"value": "38.1 °C"}]
    assert found["Diagnosis"] == [{"answer": "influenza"}]
    (event,) = found["Course"]
    assert event["event"] == "rash" and event["hours"] == -48
    section = row["sections"].get("Report", "")
    assert not section or section[event["section_start"] :].startswith("rash")
    (again,) = load("found.jsonl", load_schema("mixed.toml")).cases
    assert again.gold and again.gold["Course"] == ("-48 h: rash",)
    assert again.gold["Diagnosis"] == ("influenza",)


def test_reports_to_annotate_come_with_findings_of_every_kind(
    run: tuple[Home, FakeServer], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("reports").mkdir()
    for number in (41, 42):
        text = mixed_data.entry(number)["sections"]["Case report"]
        Path(f"reports/r{number}.txt").write_text(text, "utf-8")
    more = ["--data", "mixed.jsonl", "--n", "2", "--out", "tasks.json"]
    suggest([str(run[0].out), "--input", "reports", *more])
    assert "answers    8: Smoking, Temperature, Course, Diagnosis" in capsys.readouterr().out
    tasks = json.loads(Path("tasks.json").read_text("utf-8"))
    for task in tasks:
        (guess,) = task["predictions"]
        assert {one["from_name"] for one in guess["result"]} == {"label", *mixed_data.KEYS[1:]}


def test_anybodys_predictions_are_scored_by_kind(
    run: tuple[Home, FakeServer], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for number in range(4):
        text = mixed_data.entry(number)["sections"]["Case report"]
        lines.append(json.dumps({"id": f"c{number}", "findings": mixed_data.answers(text)}))
    Path("pred.jsonl").write_text("\n".join(lines))
    gold = [json.dumps(mixed_data.entry(number)) for number in range(4)]
    Path("gold.jsonl").write_text("\n".join(gold))
    arguments = ["--gold", "gold.jsonl", "--pred", "pred.jsonl", "--schema", "mixed.toml"]
    score([*arguments, "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert told["categories"]["Course"]["match_rate"] == 1
    assert told["categories"]["Smoking"]["accuracy"] == 0.25
    assert told["categories"]["Findings"]["quote_exact_f1_micro"] == 1
    score([*arguments, "--cells"])
    assert "of kinds" in capsys.readouterr().out
    score([*arguments, "--format", "csv", "--cells"])


CARRYING = ("messages", "state", "litellm", "openai-batch", "promptfoo", "markdown", "mlflow-model")


@pytest.mark.parametrize("name", CARRYING)
def test_formats_that_carry_prompts_carry_all_kinds(
    run: tuple[Home, FakeServer], name: str
) -> None:
    out = f"exported-{name}"
    more = ["--input", "mixed.jsonl"] if name == "openai-batch" else []
    trial = ["--data", "mixed.jsonl", "--check-cases", "2"] if name in ("messages", "state") else []
    export([str(run[0].out), "--to", name, "--out", out, *more, *trial])
    proof = json.loads((Path(out) / "proof.json").read_text())
    assert proof["check"]["messages"] == "identical"
    if trial:
        assert proof["cases"]["findings"] == "identical"
    needs = () if name in ("state", "mlflow-model") else ("kinds",)
    assert set(needs) <= set(proof["lacks"])


@pytest.mark.parametrize("name", ["python", "langextract"])
def test_formats_that_read_quotes_alone_say_so(run: tuple[Home, FakeServer], name: str) -> None:
    said = "reads lists of quotes alone, which Smoking, Temperature, Course, Diagnosis are not"
    with pytest.raises(UserError, match=said):
        export([str(run[0].out), "--to", name, "--out", f"not-{name}"])
    assert not Path(f"not-{name}").exists()
    export([str(run[0].out), "--to", name, "--out", f"only-{name}", "--category", "Findings"])


def test_a_second_look_is_taken_only_where_there_may_be_more() -> None:
    from crb_dspy.catalog import build_program

    schema = load_schema("mixed.toml")
    parts = build_program("review", schema, {}).parts
    twice = {name for name, part in parts.items() if part.twice}
    assert twice == {"Findings", "Course"}
    course, findings = (parts[key].review for key in ("Course", "Findings"))
    asked = [str(messages_of(one, "No fever.", ["?"])) for one in (course, findings)]
    assert "Already listed" in asked[0] and "uote" not in asked[0].partition("Task:")[2]
    assert "Already quoted" in asked[1] and "Quote what that reader missed" in asked[1]
    whole = build_program("monolithic", schema, {}).parts["all_categories"]
    (system, user) = whole.messages("No fever.")
    assert "answer a question about it" in system["content"]
    last = user["content"].splitlines()[-1]
    assert last.count(";") >= 4 and all(f'"{key}"' in last for key in mixed_data.KEYS)


# The example of the documentation, which has to be a whole one.
DOCS = (Path(__file__).parents[1] / "docs/kinds.md").read_text("utf-8")
GRADE = re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1]  # type: ignore[index]


def test_a_strangers_kind_runs_like_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def graded(body: Any) -> str:
        return '{"Severity": 3}' if "Severity" in str(body) else '{"answer": ["yes"]}'

    with home(tmp_path) as place, serving(graded) as server:
        assert GRADE.count("\n") <= 60
        Path("mine.py").write_text(GRADE)
        Path("mine.toml").write_text(
            '[[category]]\nkey = "Severity"\ntitle = "Severity"\nguidance = "how bad"\n'
            'instruction = "Grade it."\nkind = "./mine.py:Grade"\n'
        )
        cases = [
            {"id": f"g{n}", "sections": {"R": f"Patient {n}."}, "gold": {"Severity": n % 4 + 1}}
            for n in range(12)
        ]
        Path("cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
        place.compile(server, "--data", "cases.jsonl", "--set", "schema=mine.toml")
        assert "Severity" in capsys.readouterr().out
        saved = load_program(place.out)
        assert type(saved.program.kinds["Severity"]).__name__ == "Grade"
        # Elsewhere nobody has agreed to it.
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(UserError, match=r"it would run the Python code in ./mine.py; --trust"):
            load_program(place.out)
        assert load_program(place.out, trust=True)
        Path("mine.py").write_text(GRADE + "\n# changed\n")
        with pytest.raises(UserError, match="not what it was; compile again"):
            load_program(place.out, trust=True)


def test_a_judge_says_what_means_the_same_with_meter_and_cache_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two names for a disease count as one where the judge says so; a pair is asked about once."""

    def answered(body: Any) -> str:
        prompt = body["messages"][-1]["content"]
        if "<report>" in prompt:
            return '{"Diagnosis": "podagra"}' if "Diagnosis" in prompt else '{"answer": ["yes"]}'
        if "second" not in prompt:
            return '{"answer": ["yes"]}'
        same = "podagra" in prompt and "gout" in prompt
        return f"[[ ## same ## ]]\n{same}\n\n[[ ## completed ## ]]"

    with home(tmp_path) as place, serving(answered) as server, serving(answered) as other:
        Path("d.toml").write_text(
            '[[category]]\nkey = "Diagnosis"\ntitle = "Diagnosis"\nguidance = "g"\n'
            'instruction = "Name it."\nkind = "answer"\njudge = true\ndefault = "measles"\n'
        )
        cases = [
            {"id": f"d{n}", "sections": {"R": f"Patient {n}."}, "gold": {"Diagnosis": own}}
            for n, own in enumerate(["gout", "gout", "measles", "typhus"] * 3)
        ]
        Path("d.jsonl").write_text("\n".join(map(json.dumps, cases)))
        judge = ["--set", "judge_model=openai/judge", "--set", f"judge_api_base={other.address}"]
        place.compile(
            server, "--data", "d.jsonl", "--set", "schema=d.toml", "--optimizer", "none", *judge
        )
        rows = place.rows("cells.jsonl")
        for row in rows:
            assert row["score"] == float(row["gold"] == ["gout"]), row
        asked = [prompt for prompt in other.prompts() if "podagra" in prompt]
        assert 0 < len(asked) == len(set(asked)) <= 3
        assert not any("<report>" in prompt for prompt in other.prompts())
        told = capsys.readouterr().out
        assert re.search(r"^ +\w+ +judge +unknown +\d+", told, re.M), told
        # A saved program is judged by the model that is named, or by words; what was asked before
        # is known.
        named = ["--judge-model", "openai/judge", "--judge-api-base", other.address]
        before = len(other.bodies)
        evaluate([str(place.out), "--data", "d.jsonl", "--json"])
        words = json.loads(capsys.readouterr().out)
        evaluate([str(place.out), "--data", "d.jsonl", "--json", *named])
        judged = json.loads(capsys.readouterr().out)
        assert words["categories"]["Diagnosis"]["answer_f1"] == 0
        assert judged["categories"]["Diagnosis"]["answer_f1"] == 0.5
        asked = judged["judge"]
        # The compile has asked about the test cases' gold.
        assert asked["asked"] == 3 > asked["calls"] == len(other.bodies) - before
        assert "judge" not in words
        Path("new.jsonl").write_text(Path("d.jsonl").read_text().replace("gout", "the gout"))
        evaluate([str(place.out), "--data", "new.jsonl", *named, "--judge-max-calls", "1"])
        assert re.search(r"^judge +openai/judge: 1 calls, 2 more", capsys.readouterr().out, re.M)
        with pytest.raises(UserError, match="--judge-model is missing"):
            evaluate([str(place.out), "--data", "d.jsonl", "--judge-max-calls", "1"])
        with pytest.raises(UserError, match="--judge-api-key-env: .*name the environment variable"):
            evaluate([str(place.out), "--data", "d.jsonl", *named, "--judge-api-key-env", "sk-1 2"])


def test_mlflow_has_a_table_of_what_kinds_measure(run: tuple[Home, FakeServer]) -> None:
    from crb_dspy.tracking.store import connect

    client = connect()
    (stored,) = run[0].runs()
    table = client.download_artifacts(stored.info.run_id, "kinds.json", str(run[0].path))
    rows = json.loads(Path(table).read_text("utf-8"))
    assert rows["columns"] == ["category", "metric", "seed", "tuned"]
    known = {(row[0], row[1]): row[3] for row in rows["data"]}
    assert known["Course", "match_rate"] == 1 and known["Smoking", "accuracy"] < 1


OPTIMIZERS = [
    "bootstrap",
    pytest.param("factors", marks=pytest.mark.slow),
    pytest.param("labeled", marks=pytest.mark.slow),
    pytest.param("mipro", marks=pytest.mark.slow),
    pytest.param("gepa", marks=pytest.mark.slow),
    pytest.param("simba", marks=pytest.mark.slow),
    pytest.param("chain", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_tunes_parts_of_several_kinds(tmp_path: Path, optimizer: str) -> None:
    """One prompt for all kinds; a model that answers only where it is shown an example."""

    def taught(body: Any) -> str:
        prompt = body["messages"][-1]["content"]
        if "<report>" not in prompt:
            return "[[ ## improved_instruction ## ]]\nAnswer well.\n\n[[ ## completed ## ]]"
        known = mixed_data.answers(prompt.split("\n</report>\n", 1)[0])
        keys = mixed_data.asked(prompt)
        blank: dict[str, Any] = {
            "Temperature": None,
            "Course": [],
            "Findings": [],
            "Diagnosis": "unclear",
        }
        shown = "<excerpt>" in prompt
        return json.dumps({k: known[k] if shown or k not in blank else blank[k] for k in keys})

    with home(tmp_path) as place, serving(taught) as server:
        schema, data = mixed_data.written(place.path, 12)
        options = ["--data", data, "--set", f"schema={schema}", "--program", "monolithic"]
        # Its cases are made by one template, so that wordings are shared.
        own = ["--optimizer", optimizer, "--force", "--set", "allow_leaks=true"]
        place.compile(server, *options, *own)
        (stored,) = place.runs()
        assert stored.info.status == "FINISHED"
        gained = stored.data.metrics["test/difference"]
        assert gained > 0.3 if optimizer in ("bootstrap", "factors", "labeled") else gained >= 0
        assert len(place.rows("candidates.jsonl")) > 1, "it tried something"
        for part in load_program(place.out).program.parts.values():
            for demo in part.predict.demos:
                assert set(demo) <= {"case", "report", *mixed_data.KEYS}
                assert all(isinstance(demo[key], list) for key in mixed_data.KEYS)
