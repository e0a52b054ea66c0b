"""The benchmarks beside CaseReportBench: readers on invented stand-ins, figures on real data."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from crb_dspy import list as listing
from crb_dspy.data.benchmarks import benchmarks, e3c, load
from crb_dspy.data.benchmarks.medcase import points
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.kinds import _timeline as timeline
from tests.real_data import real


def only(source: object, schema: str) -> Case:
    (case,) = load(str(source), load_schema(schema)).cases
    return case


def gold(case: Case) -> dict[str, tuple[str, ...]]:
    return {key: tuple(items) for key, items in (case.gold or {}).items()}


def test_timelines_of_t2s2(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    entry = {
        "id": "P1",
        "sections": {"Case report": "A man had fever for a day."},
        "events": [["\ufeffevent", "time"], ["man", 0.0], ["fever", -24.0], ["fever", None]],
    }
    path.write_text(json.dumps(entry))
    case = only(path, "t2s2")
    assert gold(case) == {"Timeline": ("0 h: man", "-24 h: fever", "? h: fever")}
    with pytest.raises(UserError, match="holds events; take schema t2s2"):
        load(str(path), load_schema("casereportbench"))


# A thumb's length of the corpus' own format; 🧬 takes two UTF-16 units.
XMI = """<?xml version="1.0" encoding="UTF-8"?>
<xmi:XMI xmlns:xmi="http://www.omg.org/XMI" xmlns:cas="http:///uima/cas.ecore"
  xmlns:custom="http:///webanno/custom.ecore" xmi:version="2.0">
  <cas:NULL xmi:id="0"/>
  <custom:EVENT xmi:id="5" sofa="1" begin="{fever}" end="{fever_end}" polarity="NEG"/>
  <custom:CLINENTITY xmi:id="6" sofa="1" begin="{pain}" end="{pain_end}" entityID="C0030193"/>
  <custom:RML xmi:id="7" sofa="1" begin="{rml}" end="{rml_end}"/>
  <cas:Sofa xmi:id="1" sofaNum="1" sofaID="_InitialView" mimeType="text" sofaString="{text}"/>
</xmi:XMI>
"""
REPORT = "🧬 The girl had no fever but chest pain. Haemoglobin was 9.1 g/dl. CRP was low."


def xmi(path: Path) -> Path:
    marks: dict[str, int] = {}
    for name, word in {"fever": "fever", "pain": "chest pain", "rml": "9.1 g/dl"}.items():
        # One unit more than Python counts, after the first character.
        at = REPORT.index(word) + 1
        marks |= {name: at, f"{name}_end": at + len(word)}
    path.write_text(XMI.format(text=REPORT, **marks), "utf-8")
    return path


def test_e3c_in_its_own_format(tmp_path: Path) -> None:
    found = gold(only(xmi(tmp_path / "EN1.xmi"), "e3c"))
    assert found["CLINENTITY"] == ("chest pain",) and found["RML"] == ("9.1 g/dl",)
    case = only(tmp_path, "e3c")  # the folder
    assert gold(case) == found and case.id == "EN1"


def test_e3c_as_a_case_report_form(tmp_path: Path) -> None:
    found = gold(only(xmi(tmp_path / "EN1.xmi"), "e3c_crf"))
    assert found["Fever"] == ("absent",) and found["Pain"] == ("present",)
    assert found["Vomiting"] == ("unknown",)
    assert found["Haemoglobin"] == ("9.1 g/dl",) and found["CRP"] == ()


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ({"EVENT": [("fever", "POS"), ("fever", "NEG")]}, "POS"),
        ({"EVENT": [("fevers", "NEG")]}, "NEG"),
        ({"EVENT": [("cough", "POS")]}, ""),
        ({"CLINENTITY": [("high fever", None)]}, "POS"),
        ({"CLINENTITY": [("high fever", None)], "EVENT": [("fever", "NEG")]}, "NEG"),
    ],
)
def test_rules_of_polarity(spans: dict[str, list[tuple[str, str | None]]], said: str) -> None:
    made_ = {
        type_: [e3c._Span(10, 10 + len(text), text, polarity) for text, polarity in own]
        for type_, own in spans.items()
    }
    assert e3c.polarity(["fever"], made_) == said


def test_a_result_belongs_to_the_test_before_it() -> None:
    text = "Haemoglobin was 9.1 g/dl and platelets 300. The CRP rose. Then 57 was seen."
    spans = [e3c._Span(text.index(v), text.index(v) + len(v), v) for v in ("9.1 g/dl", "300", "57")]
    assert e3c.result(["haemoglobin"], text, spans) == "9.1 g/dl"
    assert e3c.result(["platelet"], text, spans) == "300"
    assert e3c.result(["crp"], text, spans) is None  # another sentence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<a>", "not XML"),
        ("<a/>", "no text in it"),
        (
            XMI.format(text="", fever=0, fever_end=1, pain=0, pain_end=1, rml=0, rml_end=1),
            "no text",
        ),
        (
            XMI.format(text="x", fever=0, fever_end=9, pain=0, pain_end=1, rml=0, rml_end=1),
            "offset",
        ),
    ],
)
def test_a_faulty_file_of_e3c_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.xmi").write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        load(str(tmp_path / "a.xmi"), load_schema("e3c"))
    assert "\n" not in str(caught.value)


def test_medcasereasoning(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "pmcid,case_prompt,diagnostic_reasoning,final_diagnosis\n"
        'PMC1,"A man had a painful toe.","1. The toe was painful. 2. Urate was high.",Gout\n'
        'PMC1,"His brother, too.","It runs in families.",Gout\n'
    )
    first, second = load(str(path), load_schema("medcasereasoning")).cases
    assert first.group == second.group == "PMC1" and first.id != second.id
    assert gold(first)["Diagnosis"] == (
        "Gout", "because: The toe was painful.", "because: Urate was high.",
    )  # fmt: skip
    assert points("1) a\n2) b 3.5 mg") == ["a", "b 3.5 mg"] and points("") == []
    lines = [{"case_prompt": "x", "final_diagnosis": "", "pmcid": 1}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(UserError, match="row 1: case_prompt or final_diagnosis is empty"):
        load(str(tmp_path / "rows.jsonl"), load_schema("medcasereasoning"))


def test_clicr(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    answers = [{"origin": "dataset", "text": "fever"}, {"origin": "umls", "text": "pyrexia"}]
    entry = {
        "source": "bcr1",
        "document": {
            "title": "A toe",
            "context": "She had BEG__high fever__END .",
            "qas": [
                {"id": "q1", "query": "She had @placeholder .", "answers": answers},
                {"id": "q2", "query": "BEG__She__END was ill .", "answers": answers[:1]},
            ],
        },
    }
    path.write_text(json.dumps({"version": "1", "data": [entry]}))
    first, second = load(str(path), load_schema("clicr")).cases
    assert first.sections == {
        "Case report": "She had high fever .",
        "Query": "She had @placeholder .",
    }
    assert gold(first) == {"Gap": ("fever", "pyrexia")} and first.group == second.group == "bcr1"
    path.write_text('{"data": [{"document": {}}]}')
    with pytest.raises(UserError, match="not as CliCR is published"):
        load(str(path), load_schema("clicr"))


def test_toxhabits_is_brat_in_spanish(tmp_path: Path) -> None:
    text = "Varón fumador de 20 cigarrillos; niega consumo de cocaína."
    (tmp_path / "a.txt").write_text(text, "utf-8")
    spans = [("Tobacco", "fumador"), ("Drug", "consumo de cocaína"), ("Amount", "20")]
    (tmp_path / "a.ann").write_text(
        "".join(
            f"T{n}\t{type_} {text.index(s)} {text.index(s) + len(s)}\t{s}\n"
            for n, (type_, s) in enumerate(spans)
        ),
        "utf-8",
    )
    loaded = load(str(tmp_path), load_schema("toxhabits"))
    found = gold(loaded.cases[0])
    assert found["Tobacco"] == ("fumador",) and found["Drug"] == ("consumo de cocaína",)
    assert loaded.ignored == {"Amount": 1}


def test_tables_of_chexperts_labeller(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "Reports,No Finding,Edema,Pleural Effusion,Pneumonia\n"
        '"No effusion. Possible edema.",,-1.0,0.0,\n'
        '"Pneumonia, surely.",,,,1.0\n'
    )
    first, second = load(str(path), load_schema("chexpert")).cases
    assert gold(first)["Edema"] == ("uncertain",)
    assert gold(first)["Pleural_Effusion"] == ("negative",)
    assert gold(first)["Fracture"] == ("not mentioned",)  # no such column
    assert gold(second)["Pneumonia"] == ("positive",)


def test_a_table_of_ones_own_labels(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[[category]]\nkey = "Grade"\ntitle = "Tumour grade"\nguidance = "g"\ninstruction = "i"\n'
        'kind = "choice"\noptions = ["low", "high"]\n\n'
        '[[category]]\nkey = "Signs"\ntitle = "Signs"\nguidance = "g"\ninstruction = "i"\n'
    )
    path = tmp_path / "own.csv"
    path.write_text(
        "id,text,Tumour grade,Signs,note,group\n"
        "a,He had fever and rash.,HIGH,fever | rash,x,g\nb,Well.,,,,g\n"
    )
    loaded = load(str(path), load_schema(str(tmp_path / "own.toml")))
    first, second = loaded.cases
    assert gold(first) == {"Grade": ("high",), "Signs": ("fever", "rash")}
    assert gold(second) == {"Grade": (), "Signs": ()} and second.group == "g"
    assert loaded.ignored == {"note": 2}
    path.write_text("id,text,Tumour grade,Signs\na,He.,medium,\n")
    with pytest.raises(UserError, match=r"row 1: Tumour grade: not one of the options: 'medium'"):
        load(str(path), load_schema(str(tmp_path / "own.toml")))


def test_every_benchmark_has_a_schema_and_says_what_it_was_tried_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listing.main(["benchmarks"])
    shown = " ".join(capsys.readouterr().out.split())
    for own in benchmarks():
        assert own.name in shown and own.tried in shown
        if own.schema != "your own":
            assert load_schema(own.schema).kinds
    listing.main(["kinds", "--verbose"])
    assert "evidence = False" in capsys.readouterr().out


def test_metrics_of_published_systems_are_reproduced() -> None:
    """From stored matches (a distance below 0.1 is one) come the figures kept beside them."""
    path, expected = real("t2s2/matches.jsonl"), json.loads(real("t2s2/expected.json").read_text())
    reports: dict[str, dict[str, list[timeline.Matched]]] = defaultdict(lambda: defaultdict(list))
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        hours, predicted = (
            value if isinstance(value, float) else None
            for value in (row["hours"], row["predicted_hours"])
        )
        hit = row["distance"] is not None and row["distance"] < 0.1
        reports[row["system"]][row["id"]].append(timeline.Matched(hit, hours, predicted))
    assert set(reports) == set(expected)
    for system, wanted in expected.items():
        found = timeline.figures(list(reports[system].values()))
        assert sum(map(len, reports[system].values())) == wanted["count"]
        for name, other in {
            "match_rate": "match_rate",
            "concordance": "concordance",
            "c25": "concordance_25",
            "c75": "concordance_75",
            "mae": "median_error_hours",
        }.items():
            assert found[other] == pytest.approx(wanted[name], abs=0.001), (system, name)
        assert found["log_time_area"] == pytest.approx(wanted["auc"], abs=0.002), system


def test_real_timelines_score_one_against_themselves() -> None:
    schema = load_schema("t2s2")
    cases = load(str(real("t2s2/cases.jsonl")), schema).cases
    kind = schema.kinds["Timeline"]
    items = [(case.gold or {})["Timeline"] for case in cases]
    assert len(cases) == 20 and round(sum(map(len, items)) / 20) in range(80, 91)
    for case, own in list(zip(cases, items, strict=True))[:5]:
        assert kind.score(case.text, own, own).score == pytest.approx(1)
        assert kind.score(case.text, own, ()).score == 0


def test_real_cases_of_e3c_fill_the_form() -> None:
    cases = load(str(real("e3c/cases.jsonl")), load_schema("e3c_crf")).cases
    counts = Counter(own for case in cases for own in (case.gold or {})["Fever"])
    assert len(cases) == 44 and counts == {"unknown": 34, "present": 9, "absent": 1}
    entities = load(str(real("e3c/cases.jsonl")), load_schema("e3c"))
    assert not entities.ungrounded and sum(entities.levels.values()) == 1787
