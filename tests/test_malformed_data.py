"""Every malformed input is one line that names file, line and case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.made_data import brat, entry, hub_rows, refusal, save

LATIN = '{"id": "x", "sections": {"Case": "na\xefve"}}'.encode("latin-1")
GOOD = [json.dumps(entry(f"c{n}")).encode() for n in range(6)]
MALFORMED: Mapping[str, tuple[Sequence[bytes], str]] = {
    "bad JSON": ([*GOOD, b'{"id": "x", "sections": {"Case": "A"'], "line 7: case 'x': not JSON"),
    "an array": ([*GOOD, b"[1]"], "line 7: not a JSON object but a list"),
    "a key twice": ([b'{"id": "x", "id": "y"}'], "line 1: case 'x': cannot be read: 'id' stands"),
    "nested": ([b'{"id": "x", "gold": ' + b"[" * 100_000], "line 1: case 'x': cannot be read"),
    "Latin-1": (
        [GOOD[0], LATIN],
        f"line 2: case 'x': not UTF-8 at byte {len(GOOD[0] + LATIN) - 5}: save it as UTF-8",
    ),
    "same id": ([*GOOD, GOOD[2]], "line 7: case 'c2' was given before, on line 3"),
    "same number": (
        [b"", *(json.dumps(entry(i)).encode() for i in (1, "1"))],
        "line 3: case '1' was",
    ),
    "nothing": ([b"", b" "], "the file is empty; give one case a line"),
}
ENTRIES: Mapping[str, tuple[dict[str, object], str]] = {
    "no id": (entry(...), "line 1: field 'id' must be a text, not missing"),
    "blank id": (entry(" "), "line 1: field 'id' must be a text, not blank"),
    "true id": (entry(True), "line 1: field 'id' must be a text, not true or false"),
    "two lines": (entry("a\nb"), "line 1: field 'id' must be a text, not blank or unprintable"),
    "no sections": (entry(sections=...), "case 'a': field 'sections' must be an object of texts"),
    "list": (entry(sections=["x"]), "'sections' must be an object of texts, not a list"),
    "number": (entry(sections={"S": 1}), "case 'a': section 'S' must be a text, not a number"),
    "heading": (entry(sections={"S\nT": "x"}), "case 'a': heading 'S\\nT' must be one plain line"),
    "empty": (entry(sections={"S": " \n"}), "case 'a': the report is empty"),
    "none": (entry(sections={}), "case 'a': the report is empty"),
    "group": (entry(group=[]), "case 'a': field 'group' must be a text, not a list"),
    "gold": (entry(gold=[]), "case 'a': field 'gold' must be an object of lists, not a list"),
    "null list": (
        entry(gold={"GI": None}),
        "case 'a': gold of GI must be a list of texts, not null",
    ),
    "text": (entry(gold={"GI": "x"}), "case 'a': gold of GI must be a list of texts, not a text"),
    "quote": (entry(gold={"GI": [1.5]}), "case 'a': a gold quote of GI is a number, not a text"),
    "category": (
        entry(gold={"Nuero": []}),
        "case 'a': unknown gold category 'Nuero': did you mean 'Neuro'?",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(name: str, tmp_path: Path) -> None:
    data, message = MALFORMED[name]
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b"\n".join(data) + b"\n")
    said = refusal(str(path))
    assert said.startswith(str(path))
    assert message in said
    # A faulty line is told with one that is right.
    shown = name in ("bad JSON", "an array", "a key twice", "nested")
    assert ('; right is {"id": "c1", "text"' in said) == shown


@pytest.mark.parametrize("name", ENTRIES)
def test_malformed_cases(name: str, tmp_path: Path) -> None:
    malformed, message = ENTRIES[name]
    path = save(tmp_path / "cases.jsonl", malformed)
    said = refusal(path)
    assert said.startswith(f"{path}, line 1: ")
    assert message in said
    assert '; right is {"id": "c1", "text"' in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pmcid": "x"}, "row 2: pmcid must be a number, not 'x'"),
        ({"text": "{'a': open('x')}"}, "row 2: case 'PMC1000002': text is not a dict of heading"),
        ({"text": "plain"}, "row 2: case 'PMC1000002': text is not a dict of heading"),
        ({"text": "{'a': 1}"}, "row 2: case 'PMC1000002': text must be a dict of heading and text"),
        ({"text": "{'a': ' '}"}, "row 2: case 'PMC1000002': the report is empty"),
        ({"GI": [1]}, "row 2: case 'PMC1000002': GI: a quote is a number, not a text"),
        ({"GI": 3}, "row 2: case 'PMC1000002': GI: must be a list of quotes, not a number"),
        ({"GI": "['a"}, "row 2: case 'PMC1000002': GI: not a list of quotes"),
    ],
)
def test_malformed_rows(change: dict[str, object], message: str, tmp_path: Path) -> None:
    first, second = hub_rows()
    path = save(tmp_path / "hub.jsonl", first, second | change)
    assert refusal(path).startswith(f"{path}, {message}")


def test_malformed_tables(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    assert refusal(str(tmp_path / "bad.parquet")).endswith("not a parquet file")
    (tmp_path / "none.csv").write_text("")
    assert refusal(str(tmp_path / "none.csv")).endswith(
        "the table has no rows; give one case a row"
    )
    (tmp_path / "odd.csv").write_text("pmcid,text\n1,{}\n")
    message = refusal(str(tmp_path / "odd.csv"))
    assert "column 'Neuro' is missing; it has pmcid, text; --columns" in message
    (tmp_path / "latin.csv").write_bytes("pmcid,text\n1,\xe9\n".encode("latin-1"))
    assert "not UTF-8 at byte 13" in refusal(str(tmp_path / "latin.csv"))


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("T1\tGI 0 x\tVomiting", "a.ann, line 2: case 'a': not an entity"),
        ("T1 GI 0 8 Vomiting", "a.ann, line 2: case 'a': not an entity"),
        (
            "T1\tGI 1 9\tVomiting",
            "line 2: case 'a': the report has 'omiting.' at 1 9, not 'Vomiting'",
        ),
        ("T1\tGI 70 80\t", "line 2: case 'a': the report has '' at 70 80"),
        ("T1\tMood 0 8\tVomiting", "no type of entity is a category: found Mood"),
    ],
)
def test_malformed_notes(note: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(brat(tmp_path, "Vomiting.", "#1\tnote", note))


def test_malformed_folders(tmp_path: Path) -> None:
    assert "no .txt file in this folder" in refusal(str(tmp_path))
    brat(tmp_path, " ")
    assert refusal(str(tmp_path)).endswith("a.txt: case 'a': the report is empty")
    (tmp_path / "b.ann").write_text("")
    assert refusal(str(tmp_path)).endswith("b.ann: there is no b.txt beside it")


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "did you mean 'sample'?" in refusal("smaple")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert refusal(str(tmp_path / name)).endswith(
            f"{name}: cannot be read: No such file or directory"
        )
    path = save(tmp_path / "b.jsonl", entry("a"))
    assert "groups: unknown case 'b': choose from a" in refusal(path, groups={"b": "x"})
    assert refusal(path, limit=0) == "limit 0: keep at least one case"
