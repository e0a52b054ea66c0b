"""Data that people have: texts, arrays, tables of any columns, offsets of other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.data.benchmarks import load
from crb_dspy.data.readers import reports
from crb_dspy.data.readers.tables import parsed
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.quotes.grounding import Status, ground

SCHEMA = load_schema("casereportbench")
TEXT = "A boy had no fever. He vomited twice."
COLUMNS = {"id": "case no", "text": "report", "GI": "abdomen", "Neuro": "nerves"}
ROWS = [
    {"case no": "a", "report": TEXT, "abdomen": '["vomited twice"]', "nerves": ""},
    {"case no": "b", "report": f"{TEXT} No seizures.", "abdomen": "vomited\nvomited twice",
     "nerves": "No seizures"},
]  # fmt: skip


def test_a_text_stands_in_for_sections(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps({"id": "a", "text": TEXT, "gold": {"GI": ["vomited twice"]}}))
    (case,) = load(str(path), SCHEMA).cases
    assert dict(case.sections) == {"Case report": TEXT}
    (report,) = reports([str(path)], tmp_path / "out")
    assert dict(report.case.sections) == {"Case report": TEXT}


@pytest.mark.parametrize("name", ["cases.json", "cases.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_may_be_one_array(tmp_path: Path, name: str, indent: int | None) -> None:
    path = tmp_path / name
    entries = [{"id": n, "text": TEXT, "gold": {"GI": ["vomited"]}} for n in "ab"]
    path.write_text(json.dumps(entries, indent=indent))
    assert [case.id for case in load(str(path), SCHEMA).cases] == ["a", "b"]
    assert [report.case.id for report in reports([str(path)], tmp_path / "out")] == ["a", "b"]


def test_an_entry_of_an_array_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([{"id": "a", "text": TEXT}, {"id": "b"}]))
    with pytest.raises(UserError, match=r"cases.json, entry 2: case 'b': field 'sections'"):
        load(str(path), SCHEMA)
    with pytest.raises(UserError, match=r'entry 2: sections: field required; write \{"id"'):
        list(reports([str(path)], tmp_path / "out"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolons", "parquet", "xlsx"])
def test_tables_of_any_columns(tmp_path: Path, kind: str) -> None:
    frame, path = pd.DataFrame(ROWS), tmp_path / f"t.{'csv' if kind == 'semicolons' else kind}"
    if kind in ("csv", "tsv", "semicolons"):
        frame.to_csv(path, index=False, sep={"csv": ",", "tsv": "\t", "semicolons": ";"}[kind])
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_excel(path, index=False)
    loaded = load(str(path), SCHEMA, named=COLUMNS)
    gold = [(case.id, case.gold and (case.gold["GI"], case.gold["Neuro"])) for case in loaded.cases]
    assert gold == [
        ("a", (("vomited twice",), ())),
        ("b", (("vomited", "vomited twice"), ("No seizures",))),
    ]
    assert not loaded.ungrounded
    read = list(reports([str(path)], tmp_path / "out", COLUMNS))
    assert [report.case.text for report in read] == [case.text for case in loaded.cases]
    assert [report.case.id for report in read] == ["a", "b"]
    (tmp_path / "r.txt").write_text("She was well.")
    beside = reports([str(tmp_path)], tmp_path / "out", COLUMNS)
    assert [report.case.id for report in beside] == ["r", "a", "b"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"id": "case no"}, "which column holds the report is missing"),
        ({"text": "reprot"}, "unknown column 'reprot': did you mean 'report'"),
        ({"text": "report", "Nuero": "nerves"}, "unknown category 'Nuero': did you mean 'Neuro'"),
        ({"text": "nerves"}, r"row 1: column 'nerves' holds no report"),
    ],
)
def test_columns_that_are_wrong_are_named(tmp_path: Path, named: dict[str, str], said: str) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    with pytest.raises(UserError, match=said):
        load(str(path), SCHEMA, named=named)
    with pytest.raises(UserError, match=r"no column is a category.*--columns id=NAME"):
        load(str(path), SCHEMA)


def test_reports_of_a_table_whose_columns_are_not_known_say_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    for columns, said in (
        ({}, r"no column 'text'; it has .*--columns id=NAME,text=NAME"),
        ({"id": "case no"}, "which column holds the report is missing"),
        ({"text": "reprot"}, "unknown column 'reprot': did you mean 'report'"),
    ):
        with pytest.raises(UserError, match=said):
            list(reports([str(path)], tmp_path / "out", columns))
    (tmp_path / "r.txt").write_text("She was well.")
    with pytest.raises(UserError, match="--columns is for tables, and there is none"):
        reports([str(tmp_path / "r.txt")], tmp_path / "out", {"text": "report"})
    path.write_text("text\nShe was well.\n\nHe was ill.\n")
    read = list(reports([str(path)], tmp_path / "out"))
    assert [(report.case.id, *report.case.sections.values()) for report in read] == [
        ("1", "She was well."),
        ("2", "He was ill."),
    ]


def test_columns_are_told_in_one_argument() -> None:
    assert parsed("id=case no, text=report") == {"id": "case no", "text": "report"}
    for wrong in ("", "id", "id=", "=x"):
        with pytest.raises(UserError, match="write --columns id=NAME"):
            parsed(wrong)


def test_offsets_in_utf16_units_are_repaired_and_said_so(tmp_path: Path) -> None:
    text = "😀 A boy 😀 vomited twice; no fever."
    (tmp_path / "a.txt").write_text(text)
    start, end = text.index("vomited"), text.index("vomited") + len("vomited twice")
    (tmp_path / "a.ann").write_text(f"T1\tGI {start + 2} {end + 2}\tvomited twice\n")
    loaded = load(str(tmp_path), SCHEMA)
    assert (loaded.cases[0].gold or {})["GI"] == ("vomited twice",)
    assert loaded.notes == ("offsets of 1 entities counted in UTF-16 units, and repaired",)
    (tmp_path / "a.ann").write_text(f"T1\tGI {start} {end}\tvomited twice\n")
    assert load(str(tmp_path), SCHEMA).notes == ()
    (tmp_path / "a.ann").write_text(f"T1\tGI {start + 1} {end + 1}\tvomited twice\n")
    with pytest.raises(UserError, match="the report has"):
        load(str(tmp_path), SCHEMA)


BREAKS = st.sampled_from(
    ["", "-\n", "‐\n", "-\r\n", "\u00ad", "\u200b", "\u00ad\n", "\u200b\n", "-\u200b\n  ",
     "\u00ad\u200b\n", "\u200b-\n", "\ufeff", "-\n\u200b"]
)  # fmt: skip


@given(st.lists(BREAKS, min_size=3, max_size=3), st.lists(BREAKS, min_size=3, max_size=3))
def test_words_broken_in_any_way_are_found_whole(text: list[str], quote: list[str]) -> None:
    def broken(breaks: list[str]) -> str:
        return "hepa{}tomegaly and well{}-known icte{}rus".format(*breaks)

    place = ground(f"He had {broken(text)} on day 3.", broken(quote))
    assert place.status in (Status.EXACT, Status.NORMALISED)
    (span,) = place.spans
    assert span == (7, 7 + len(broken(text)))


def test_a_broken_word_is_no_reason_to_find_a_part_of_another() -> None:
    text = "Hepato-\nmegaly was found; no illness."
    assert ground(text, "ill").status is Status.UNGROUNDED
    assert ground(text, "hepatomegaly").spans == ((0, 14),)
