"""Annotation tools and categories that hold something else than quotes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.convert import formats
from crb_dspy.convert.__main__ import main
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from tests import mixed_data

ABLE = [name for name in formats.NAMES if formats.find(name).ANSWERS]


@pytest.fixture(autouse=True)
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mixed_data.written(tmp_path, 5)


def converted(*arguments: str) -> None:
    assert main([*arguments, "--schema", "mixed.toml"]) == 0


def golds(path: str) -> list[Any]:
    cases: tuple[Case, ...] = load(path, load_schema("mixed.toml")).cases
    return [(case.id, case.gold) for case in cases]


@pytest.mark.parametrize("name", ABLE)
def test_what_is_no_mark_comes_back_from_tools_that_hold_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = f"there{formats.find(name).SUFFIX}"
    converted("mixed.jsonl", "--to", name, "--out", there)
    assert "answers    19: Smoking, Temperature, Course, Diagnosis" in capsys.readouterr().out
    converted(there, "--from", name, "--out", "back.jsonl")
    assert golds("back.jsonl") == golds("mixed.jsonl")
    assert "not in its report" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in formats.NAMES if name not in ABLE])
def test_tools_that_hold_marks_alone_say_what_is_left_out(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = f"there{formats.find(name).SUFFIX}"
    converted("mixed.jsonl", "--to", name, "--out", there)
    said = "left out   19 answers to Smoking, Temperature, Course, Diagnosis: "
    assert f"{said}{name} holds marks alone, not so cases, labelstudio" in capsys.readouterr().out
    converted(there, "--from", name, "--out", "back.jsonl")
    back = {case: gold["Findings"] for case, gold in golds("back.jsonl")}
    assert back == {case: gold["Findings"] for case, gold in golds("mixed.jsonl")}


def test_a_mark_of_such_a_category_is_its_answer() -> None:
    """Whoever marks the temperature in the text has given it."""
    text = "His temperature was 38.2 °C."
    line = {"text": text, "label": [[20, 27, "Temperature"], [4, 15, "Findings"]], "case": "c1"}
    Path("marked.jsonl").write_text(json.dumps(line))
    converted("marked.jsonl", "--from", "doccano", "--out", "back.jsonl")
    ((_, gold),) = golds("back.jsonl")
    assert gold["Temperature"] == ("38.2 °C",) and gold["Findings"] == ("temperature",)


def test_predictions_become_suggestions_of_every_kind() -> None:
    entry = mixed_data.entry(1)
    found = mixed_data.answers(entry["sections"]["Case report"])
    told = {"Temperature": [{"value": found["Temperature"]}], "Smoking": [{"choice": "never"}]}
    told["Course"] = [{"event": "rash", "hours": -48, "quote": "rash", "start": None, "end": None}]
    line = {"id": "c1", "sections": entry["sections"], "findings": told}
    Path("found.jsonl").write_text(json.dumps(line))
    converted("found.jsonl", "--to", "labelstudio", "--out", "tasks.json")
    (task,) = json.loads(Path("tasks.json").read_text())
    results = {one["from_name"]: one["value"] for one in task["predictions"][0]["result"]}
    assert results == {
        "Temperature": {"text": ["38.1 °C"]},
        "Smoking": {"choices": ["never"]},
        "Course": {"text": ["-48 h: rash"]},
    }
    converted("tasks.json", "--from", "labelstudio", "--out", "back.jsonl", "--all")
    (back,) = [json.loads(line) for line in Path("back.jsonl").read_text().splitlines()]
    assert back["findings"]["Course"][0]["hours"] == -48 and "gold" not in back


def test_the_interface_asks_for_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    converted("mixed.jsonl", "--to", "labelstudio", "--out", "tasks.json")
    told = capsys.readouterr().out.partition("interface  ")[2]
    assert '<Choices name="Smoking" toName="text" choice="single"><Choice value="smoker"/>' in told
    assert '<TextArea name="Course" toName="text"' in told
    assert '<Label value="Findings"/>' in told and 'Label value="Smoking"' not in told


def test_the_short_export_of_label_studio_is_read() -> None:
    task = {"id": 7, "text": "He smoked 9 a day.", "case": "c9", "annotation_id": 3, "lead_time": 4}
    own = {"Smoking": "smoker", "Diagnosis": ["gout", "podagra"], "Temperature": {"choices": []}}
    label = [{"start": 3, "end": 9, "text": "smoked", "labels": ["Findings"]}]
    Path("min.json").write_text(json.dumps([{**task, **own, "label": label}]))
    converted("min.json", "--from", "labelstudio", "--out", "back.jsonl")
    ((name, gold),) = golds("back.jsonl")
    assert name == "c9" and gold["Smoking"] == ("smoker",)
    assert gold["Diagnosis"] == ("gout", "podagra") and gold["Findings"] == ("smoked",)


def test_without_a_schema_nothing_is_lost_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"document 'c0': what stands under 'Smoking' is no list"):
        main(["mixed.jsonl", "--to", "doccano", "--out", "there.jsonl"])
    converted("mixed.jsonl", "--to", "labelstudio", "--out", "tasks.json")
    capsys.readouterr()
    main(["tasks.json", "--from", "labelstudio", "--out", "back.jsonl"])
    said = "left out   what stands under Course, Diagnosis, Smoking, Temperature; --schema says"
    assert said in capsys.readouterr().out
    # Quotes beside an option have no place in a list of choices.
    schema = (
        Path("mixed.toml").read_text().replace('default = "not', 'evidence = true\ndefault = "not')
    )
    Path("mixed.toml").write_text(schema)
    lines = Path("mixed.jsonl").read_text().replace('"never"', '"never | He never smoked"')
    Path("mixed.jsonl").write_text(lines)
    converted("mixed.jsonl", "--to", "labelstudio", "--out", "tasks.json")
    assert "left out   the quotes beside 1 answers to Smoking" in capsys.readouterr().out


def test_what_a_kind_cannot_read_is_one_line() -> None:

    result = {"type": "choices", "from_name": "Smoking", "value": {"choices": ["now and then"]}}
    entry = {"data": {"text": "He smokes."}, "annotations": [{"result": [result]}]}
    Path("tasks.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=r"document '1': Smoking: not one of the options"):
        converted("tasks.json", "--from", "labelstudio", "--out", "back.jsonl")
