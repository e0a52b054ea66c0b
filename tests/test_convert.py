"""The convert command, on files as the real tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.convert.__main__ import main
from crb_dspy.data.benchmarks import load
from crb_dspy.data.benchmarks.predictions import read_predictions
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from tests.made_data import save

SCHEMA = load_schema("casereportbench")
TEXT = "A boy of 3 had no fever 😀 but vomited twice."
FEVER, VOMIT = (15, 23), (30, 43)


def ends(span: tuple[int, int]) -> dict[str, int]:
    return {"start": span[0], "end": span[1]}


# A task as Label Studio 1.x exports it, with everything that it adds; the report is invented.
EXPORTED: dict[str, Any] = {
    "id": 7,
    "annotations": [
        {
            "id": 3,
            "completed_by": 1,
            "result": [
                {
                    "value": {**ends(VOMIT), "text": "vomited twice", "labels": ["GI"]},
                    "id": "gew3t9fgkg",
                    "from_name": "label",
                    "to_name": "text",
                    "type": "labels",
                    "origin": "manual",
                },
                {"value": {"choices": ["easy"]}, "type": "choices", "id": "x"},
            ],
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2024-03-09T22:16:08.728353Z",
            "lead_time": 4.288,
            "result_count": 1,
        },
        {"id": 4, "result": [], "was_cancelled": True},
    ],
    "file_upload": "a.json",
    "drafts": [],
    "predictions": [],
    "data": {"text": TEXT},
    "meta": {},
    "project": 83,
}
DOCCANO_LABELS = {"id": 5, "text": TEXT, "label": [[*FEVER, "Vitals_Hema"]], "Comments": []}
DOCCANO_ENTITIES = {
    "id": 6,
    "text": TEXT,
    "entities": [
        {"id": 1, "label": "GI", "start_offset": VOMIT[0], "end_offset": VOMIT[1]},
    ],
    "relations": [],
    "Comments": [],
}
PRODIGY = {
    "text": TEXT,
    "_input_hash": 1294982232,
    "_task_hash": -1432,
    "tokens": [{"text": "A", "start": 0, "end": 1, "id": 0, "ws": True}],
    "spans": [{**ends(VOMIT), "token_start": 8, "token_end": 9, "label": "GI"}],
    "_view_id": "spans_manual",
    "answer": "accept",
}
ARGILLA = {
    "id": "r9",
    "fields": {"text": TEXT},
    "metadata": {},
    "suggestions": {
        "span": {"value": [{**ends(FEVER), "label": "GI"}], "score": None, "agent": "m"}
    },
    "responses": {
        "span": [
            {
                "value": [{**ends(VOMIT), "label": "GI"}],
                "user_id": "6d1a0c3a-3f8e-4b5b-9c1e-1f0f0f0f0f0f",
            }
        ],
        "quality": [{"value": "good", "user_id": "6d1a0c3a-3f8e-4b5b-9c1e-1f0f0f0f0f0f"}],
    },
    "vectors": {},
    "status": "completed",
    "_server_id": "a",
}
BIOC = """<?xml version='1.0' encoding='UTF-8'?>
<!DOCTYPE collection SYSTEM 'BioC.dtd'>
<collection><source>PubTator</source><date></date><key>BioC.key</key><document><id>101</id>
<passage><infon key="type">title</infon><offset>0</offset><text>A boy of 3.</text></passage>
<passage><infon key="type">abstract</infon><offset>12</offset><text>He vomited twice.</text>
<annotation id="1"><infon key="type">GI</infon><location offset="15" length="13"/>
<text>vomited twice</text></annotation></passage></document></collection>
"""
XMI = """<?xml version="1.0" encoding="UTF-8"?>
<xmi:XMI xmlns:xmi="http://www.omg.org/XMI" xmlns:cas="http:///uima/cas.ecore"
 xmlns:custom="http:///webanno/custom.ecore" xmi:version="2.0">
<cas:NULL xmi:id="0"/>
<custom:Finding xmi:id="5" sofa="1" begin="31" end="44" label="GI"/>
<cas:Sofa xmi:id="1" sofaNum="1" sofaID="_InitialView" mimeType="text"
 sofaString="A boy of 3 had no fever 😀 but vomited twice."/>
<cas:View sofa="1" members="5"/></xmi:XMI>
"""
TYPES = """<?xml version="1.0" encoding="UTF-8"?>
<typeSystemDescription xmlns="http://uima.apache.org/resourceSpecifier"><types>
<typeDescription><name>webanno.custom.Finding</name><description/>
<supertypeName>uima.tcas.Annotation</supertypeName><features><featureDescription>
<name>label</name><description/><rangeTypeName>uima.cas.String</rangeTypeName>
</featureDescription></features></typeDescription></types></typeSystemDescription>
"""


def converted(path: Path, source: str, *flags: str) -> list[dict[str, Any]]:
    """Convert a file to cases and return their lines."""
    out = path.parent / "converted.jsonl"
    assert main([str(path), "--from", source, "--to", str(out), *flags]) == 0
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def as_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


FILES = {
    "labelstudio": ("a.json", json.dumps([EXPORTED]), "7"),
    "doccano": ("a.jsonl", json.dumps(DOCCANO_ENTITIES), "6"),
    "prodigy": ("a.jsonl", json.dumps(PRODIGY), "1"),
    "argilla": ("a.json", json.dumps([ARGILLA]), "r9"),
    "xmi": ("a.xmi", XMI, "a"),
    "csv": ("a.csv", f"ID;category;quote;text\r\nk;GI;vomited twice;{TEXT}\r\n", "k"),
}


@pytest.mark.parametrize("source", list(FILES))
def test_files_as_the_tools_publish_them(source: str, tmp_path: Path) -> None:
    if source == "xmi":
        pytest.importorskip("cassis")
        as_file(tmp_path, "TypeSystem.xml", TYPES)
    name, text, expected = FILES[source]
    (case,) = converted(as_file(tmp_path, name, text), source)
    assert case["id"] == expected
    assert case["sections"] == {"Report": TEXT}
    assert case["gold"] == {"GI": ["vomited twice"]}
    ((place,),) = case["places"].values()
    assert place == [at + len("## Report\n") for at in VOMIT]


def test_bioc_passages_are_put_together_at_their_offsets(tmp_path: Path) -> None:
    pytest.importorskip("bioc")
    (case,) = converted(as_file(tmp_path, "a.xml", BIOC), "bioc")
    assert case["sections"] == {"Report": "A boy of 3.\nHe vomited twice."}
    assert (case["id"], case["gold"]) == ("101", {"GI": ["vomited twice"]})


def test_doccano_labels_as_triples(tmp_path: Path) -> None:
    path = as_file(tmp_path, "a.jsonl", json.dumps(DOCCANO_LABELS))
    (case,) = converted(path, "doccano")
    assert case["gold"] == {"Vitals_Hema": ["no fever"]}


def test_label_studio_offsets_of_browsers_are_mended(tmp_path: Path) -> None:
    task = json.loads(json.dumps(EXPORTED))
    value = task["annotations"][0]["result"][0]["value"]
    value["start"], value["end"] = value["start"] + 1, value["end"] + 1
    (case,) = converted(as_file(tmp_path, "a.json", json.dumps([task])), "labelstudio")
    assert case["gold"] == {"GI": ["vomited twice"]}
    value["text"] = "fell"
    path = as_file(tmp_path, "b.json", json.dumps([task]))
    with pytest.raises(UserError, match=r"task 1: the text has .* at 31, not 'fell'"):
        converted(path, "labelstudio")


def test_label_studio_minimal_export(tmp_path: Path) -> None:
    span = {**ends(VOMIT), "text": "vomited twice", "labels": ["GI"]}
    task = {"text": TEXT, "id": 7, "label": [span], "annotator": 1, "annotation_id": 3}
    (case,) = converted(as_file(tmp_path, "a.json", json.dumps([task])), "labelstudio")
    assert case["gold"] == {"GI": ["vomited twice"]}


def test_what_nobody_has_annotated_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = [{"type": "labels", "value": {**ends(FEVER), "labels": ["GI"]}}]
    guessed = {"id": 8, "data": {"text": TEXT}, "predictions": [{"result": result}]}
    path = as_file(tmp_path, "a.json", json.dumps([EXPORTED, guessed]))
    assert [case["id"] for case in converted(path, "labelstudio")] == ["7"]
    assert "left out   1 that nobody has annotated" in capsys.readouterr().out
    _, other = converted(path, "labelstudio", "--all")
    assert "gold" not in other
    assert other["findings"]["GI"][0]["quote"] == "no fever"


def test_labels_become_categories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps([EXPORTED]).replace('"GI"', '"Gut"')
    path = as_file(tmp_path, "a.json", text)
    with pytest.raises(UserError, match="unknown category 'Gut'.* --rename LABEL=KEY"):
        converted(path, "labelstudio", "--schema", "casereportbench")
    (case,) = converted(path, "labelstudio", "--schema", "casereportbench", "--rename", "Gut=GI")
    assert case["gold"] == {"GI": ["vomited twice"]}
    loaded = load(str(tmp_path / "converted.jsonl"), SCHEMA)
    assert loaded.cases[0].gold is not None
    assert loaded.ungrounded == ()


def found(*quotes: tuple[str, int | None], **more: object) -> dict[str, object]:
    findings: list[dict[str, object]] = [
        {
            "quote": quote,
            "status": "exact" if start is not None else "ungrounded",
            "start": start,
            "end": None if start is None else start + len(quote),
            "also": [],
        }
        for quote, start in quotes
    ]
    return {
        "id": "c1",
        "source": "x.txt",
        "sections": {"Case": TEXT},
        "findings": {"GI": findings, "Neuro": []},
        "errors": {},
        "mended": {},
        **more,
    }


AT = len("## Case\n")
FOUND = found(("vomited twice", VOMIT[0] + AT), ("not there", None))


def test_predictions_become_pre_annotations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "findings.jsonl", FOUND)
    out = tmp_path / "tasks.json"
    assert main([path, "--to", "labelstudio", "--out", str(out)]) == 0
    (task,) = json.loads(out.read_text("utf-8"))
    assert task["data"] == {"text": f"## Case\n{TEXT}", "case": "c1"}
    ((prediction,),) = [task["predictions"]]
    (region,) = prediction["result"]
    assert region["value"]["text"] == "vomited twice"
    printed = capsys.readouterr().out
    assert "1 of them with marks of a program" in printed
    assert "not in its report: c1 GI: 'not there'" in printed
    assert '<Label value="GI"/>' in printed


def test_what_extract_writes_is_scored_and_trained_on(tmp_path: Path) -> None:
    path = save(tmp_path / "findings.jsonl", FOUND)
    predicted = read_predictions(Path(path), SCHEMA.keys, ["c1"])
    assert predicted["c1"] == {"GI": ["vomited twice", "not there"], "Neuro": []}
    (case,) = load(path, SCHEMA).cases
    assert case.gold is not None
    assert case.gold["GI"] == ("vomited twice",)


def test_a_report_without_an_answer_is_no_gold(tmp_path: Path) -> None:
    path = save(tmp_path / "findings.jsonl", {**FOUND, "errors": {"Neuro": "TimeoutError"}})
    with pytest.raises(UserError, match="case 'c1': no answer about Neuro"):
        load(path, SCHEMA)


def test_corrections_come_back_as_gold(tmp_path: Path) -> None:
    """Predictions to a tool, a person's work on them, and back."""
    path = save(tmp_path / "findings.jsonl", FOUND)
    tasks = tmp_path / "tasks.json"
    main([path, "--to", "labelstudio", "--out", str(tasks)])
    (task,) = json.loads(tasks.read_text("utf-8"))
    (region,) = task["predictions"][0]["result"]
    start = task["data"]["text"].index("no fever")
    value = {"start": start, "end": start + 8, "text": "no fever", "labels": ["Vitals_Hema"]}
    task["annotations"] = [{"result": [region, {**region, "id": "n", "value": value}]}]
    (case,) = converted(as_file(tmp_path, "done.json", json.dumps([task])), "labelstudio")
    assert case["sections"] == {"Case": TEXT}
    assert case["gold"] == {"Vitals_Hema": ["no fever"], "GI": ["vomited twice"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "FILE is missing"),
        (["a.json"], "--out is missing"),
        (["a.json", "--out", "a.json"], "would be written over what is read"),
        (["a.json", "--from", "doccana", "--out", "b"], "did you mean 'doccano'"),
        (["a.json", "--out", "b"], "a.json: cannot be read"),
        (["in.json", "--from", "labelstudio", "--out", "b"], "none of 1 documents is annotated"),
        (["in.json", "--out", "b", "--from", "labelstudio", "--rename", "x"], "--rename x: write"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    as_file(tmp_path, "in.json", json.dumps([{"data": {"text": TEXT}}]))
    with pytest.raises(UserError) as caught:
        main(arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_document_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = as_file(tmp_path, "a.json", json.dumps([EXPORTED, EXPORTED]))
    with pytest.raises(UserError, match="document '7' comes twice"):
        converted(path, "labelstudio")


def test_the_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 11
