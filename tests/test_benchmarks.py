from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from crb_dspy.benchmarks import SOURCES, Loaded, hub, load
from crb_dspy.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.grounding import Status, ground
from crb_dspy.schema import Category, Schema, load_schema

SCHEMA = Schema("small", tuple(Category(key, key, key, key) for key in ("GI", "Neuro", "History")))
REAL = Path(os.environ.get("CRB_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL} (CRB_REAL_DATA)")

# Invented. Each case: sections, then gold as the report has it and as the hub table mangles it.
FIRST = "A 4-year-old girl, born at term, had vomiting at 37.5°C. No dark stools; “soft” abdomen."
SECOND = "Floppy limbs were seen in the patient's first year, without seizures."
GOLD = {
    "1000001": {
        "GI": ["had vomiting at 37.5°C", "No dark stools; “soft” abdomen"],
        "Neuro": [],
        "History": ["4-year-old girl, born at term"],
    },
    "1000002": {"GI": [], "Neuro": ["Floppy limbs", "without seizures"], "History": []},
}
MANGLED: dict[str, dict[str, Any]] = {
    "1000001": {
        "GI": ["had vomiting at 37.5 Â ° C", "No dark stools ; â€œsoftâ€\u009d abdomen"],
        "Neuro": ["null"],
        "History": ["4 - year - old girl , born at term"],
    },
    "1000002": {"GI": None, "Neuro": ["Floppy limbs", "without seizures"], "History": []},
}
SECTIONS = {"1000001": {"Case": FIRST, "Outcome": "She did well."}, "1000002": {"Case": SECOND}}


def save(path: Path, *entries: object) -> str:
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries), "utf-8")
    return str(path)


def entry(name: object = "a", **changes: object) -> dict[str, object]:
    whole: dict[str, object] = {"id": name, "sections": {"Case": FIRST}, "gold": {"GI": []}}
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def hub_rows() -> list[dict[str, object]]:
    return [
        {"pmcid": int(name), "text": str(SECTIONS[name]), **MANGLED[name], "Age (of onset)": "4"}
        for name in SECTIONS
    ]


def case_lines(folder: Path) -> str:
    return save(
        folder / "cases.jsonl",
        *({"id": f"PMC{n}", "sections": SECTIONS[n], "gold": GOLD[n], "more": 1} for n in GOLD),
    )


def hub_lines(folder: Path) -> str:
    return save(folder / "hub.jsonl", *hub_rows())


def hub_csv(folder: Path, cell: Callable[[Any], str] = str) -> str:
    with (folder / "hub.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, hub_rows()[0])
        writer.writeheader()
        for row in hub_rows():
            writer.writerow({k: cell(v) if k in SCHEMA.keys else v for k, v in row.items()})
    return str(folder / "hub.csv")


def numpy_csv(folder: Path) -> str:
    # As pandas writes lists that it read from parquet: no commas, and long ones broken.
    return hub_csv(folder, lambda v: f"[{chr(10).join(map(repr, v))}]" if v is not None else "")


def hub_parquet(folder: Path) -> str:
    pd.DataFrame(hub_rows()).to_parquet(folder / "hub.parquet")
    return str(folder / "hub.parquet")


def brat_folder(folder: Path) -> str:
    (folder / "brat").mkdir()
    for name, gold in GOLD.items():
        report = "\r\n".join(SECTIONS[name].values())
        notes = ["#1\tAnnotatorNotes T1\tnone", "R1\tMODIFY Arg1:T1 Arg2:T2"]
        for key, quotes in [*gold.items(), ("Weather", [report[:5]])]:
            for number, quote in enumerate(quotes):
                at = report.index(quote)
                notes.append(f"T{key}{number}\t{key} {at} {at + len(quote)}\t{quote}")
        (folder / "brat" / f"PMC{name}.txt").write_bytes(report.encode())
        (folder / "brat" / f"PMC{name}.ann").write_text("\n".join(notes) + "\n", "utf-8")
    return str(folder / "brat")


KINDS = [case_lines, hub_lines, hub_csv, numpy_csv, hub_parquet, brat_folder]


@pytest.mark.parametrize("make", KINDS)
class TestEverySource:
    """What all sources promise, shown on the same two cases."""

    def test_ids_reports_and_gold(self, make: Callable[[Path], str], tmp_path: Path) -> None:
        loaded = load(make(tmp_path), SCHEMA)
        assert [case.id for case in loaded.cases] == ["PMC1000001", "PMC1000002"]
        assert [case.group for case in loaded.cases] == ["PMC1000001", "PMC1000002"]
        for case, gold, sections in zip(
            loaded.cases, GOLD.values(), SECTIONS.values(), strict=True
        ):
            assert case.gold == {key: tuple(quotes) for key, quotes in gold.items()}
            assert all(text in case.text for text in sections.values())

    def test_every_quote_is_placed(self, make: Callable[[Path], str], tmp_path: Path) -> None:
        loaded = load(make(tmp_path), SCHEMA)
        assert sum(loaded.levels.values()) == 5
        assert list(loaded.levels) == list(Status)
        assert loaded.ungrounded == ()
        for case in loaded.cases:
            for quotes in (case.gold or {}).values():
                assert all(ground(case.text, quote).status is Status.EXACT for quote in quotes)

    def test_one_source_claims_it(self, make: Callable[[Path], str], tmp_path: Path) -> None:
        source = make(tmp_path)
        first = next(module for module in SOURCES if module.claims(source))
        assert first.read(source, SCHEMA).cases == first.read(source, SCHEMA).cases

    def test_groups_and_limit(self, make: Callable[[Path], str], tmp_path: Path) -> None:
        source = make(tmp_path)
        loaded = load(source, SCHEMA, groups={"PMC1000002": "MMA"}, limit=5)
        assert [case.group for case in loaded.cases] == ["PMC1000001", "MMA"]
        assert len(load(source, SCHEMA, limit=1).cases) == 1


def test_what_was_repaired_is_counted(tmp_path: Path) -> None:
    levels = load(hub_lines(tmp_path), SCHEMA).levels
    assert (levels[Status.EXACT], levels[Status.NORMALISED]) == (2, 3)
    assert load(brat_folder(tmp_path), SCHEMA).ignored == {"Weather": 2}


def test_gold_that_is_nowhere_is_listed_and_kept(tmp_path: Path) -> None:
    gold = {"GI": ["born at term", "diarrhoea"], "Neuro": [" "]}
    loaded = load(save(tmp_path / "a.jsonl", entry(gold=gold)), SCHEMA)
    assert loaded.ungrounded == (("a", "GI", "diarrhoea"), ("a", "Neuro", " "))
    assert loaded.levels[Status.UNGROUNDED] == 2
    assert loaded.cases[0].gold == {
        "GI": ("born at term", "diarrhoea"), "Neuro": (" ",), "History": (),
    }  # fmt: skip


def test_lines_may_lack_gold_and_have_numbers_for_names(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jsonl",
        entry(7, gold=..., group=3),
        entry("b", gold=None),
        entry("c", gold={}),
    )
    cases = load(path, SCHEMA).cases
    assert [(case.id, case.group) for case in cases] == [("7", "3"), ("b", "b"), ("c", "c")]
    assert [case.gold for case in cases] == [None, None, dict.fromkeys(SCHEMA.keys, ())]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    text = "Vomiting.\u2028Fever.\u0085Rash."
    lines = [json.dumps(entry("a", sections={"Case": text}), ensure_ascii=False), "", "  "]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert load(str(tmp_path / "a.jsonl"), SCHEMA).cases[0].sections == {"Case": text}


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


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(source, SCHEMA, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(name: str, tmp_path: Path) -> None:
    data, message = MALFORMED[name]
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b"\n".join(data) + b"\n")
    said = refusal(str(path))
    assert said.startswith(str(path))
    assert message in said


@pytest.mark.parametrize("name", ENTRIES)
def test_malformed_cases(name: str, tmp_path: Path) -> None:
    malformed, message = ENTRIES[name]
    path = save(tmp_path / "cases.jsonl", malformed)
    said = refusal(path)
    assert said.startswith(f"{path}, line 1: ")
    assert message in said


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


def test_rows_of_one_paper_are_one_group(tmp_path: Path) -> None:
    first, second = hub_rows()
    loaded = load(save(tmp_path / "a.jsonl", first, second | {"pmcid": "PMC1000001"}), SCHEMA)
    assert [case.id for case in loaded.cases] == ["PMC1000001", "PMC1000001-2"]
    assert {case.group for case in loaded.cases} == {"PMC1000001"}


def test_malformed_tables(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    assert refusal(str(tmp_path / "bad.parquet")).endswith("not a parquet file")
    (tmp_path / "none.csv").write_text("")
    assert refusal(str(tmp_path / "none.csv")).endswith(
        "the table has no rows; give one case a row"
    )
    (tmp_path / "odd.csv").write_text("pmcid,text\n1,{}\n")
    message = refusal(str(tmp_path / "odd.csv"))
    assert message.endswith("column 'GI' is missing; it has pmcid, text")
    (tmp_path / "latin.csv").write_bytes("pmcid,text\n1,\xe9\n".encode("latin-1"))
    assert "not UTF-8 at byte 13" in refusal(str(tmp_path / "latin.csv"))


def brat(folder: Path, report: str, *notes: str) -> str:
    (folder / "a.txt").write_text(report, "utf-8")
    (folder / "a.ann").write_text("\n".join(notes), "utf-8")
    return str(folder)


def test_a_discontinuous_entity_is_one_quote(tmp_path: Path) -> None:
    source = brat(tmp_path, "Left and right limbs.", "T1\tNeuro 0 4;15 20\tLeft limbs")
    (tmp_path / "b.txt").write_text("Not annotated.")
    cases = load(source, SCHEMA).cases
    assert [case.gold and case.gold["Neuro"] for case in cases] == [("Left and right limbs",), None]


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


def test_a_limit_goes_by_group_and_not_by_position(tmp_path: Path) -> None:
    entries = [entry(f"c{n}") for n in range(30)]
    kept = [
        [{case.id for case in load(save(tmp_path / "a.jsonl", *order), SCHEMA, limit=n).cases}
         for order in (entries, entries[::-1])]
        for n in (5, 10)
    ]  # fmt: skip
    assert kept[0][0] == kept[0][1] < kept[1][0] == kept[1][1]
    assert kept[0][0] != {f"c{n}" for n in range(5)}


class FakeHub(ModuleType):
    """The package `datasets` as far as it is used: a table, or a failure."""

    class exceptions:
        class DatasetsError(Exception):
            pass

    def __init__(self, answer: list[dict[str, object]] | Exception) -> None:
        super().__init__("datasets")
        self.answer, self.asked = answer, ""

    def load_dataset(self, name: str, split: str) -> list[dict[str, object]]:
        self.asked = f"{name}/{split}"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("source", "asked"),
    [("casereportbench", f"{hub.CASEREPORTBENCH}/train"), ("hub:me/mine", "me/mine/train")],
)
def test_the_hub(source: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(hub_rows())
    monkeypatch.setitem(sys.modules, "datasets", fake)
    loaded = load(source, SCHEMA)
    assert fake.asked == asked
    assert [quotes_of(case) for case in loaded.cases] == list(GOLD.values())


def quotes_of(case: Case) -> dict[str, list[str]]:
    return {key: list(quotes) for key, quotes in (case.gold or {}).items()}


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'crb_dspy[hub]'" in refusal("casereportbench")
    for error in (ConnectionError("no\nroute"), FakeHub.exceptions.DatasetsError("gone")):
        monkeypatch.setitem(sys.modules, "datasets", FakeHub(error))
        assert "cannot be read from the hub" in refusal("hub:me/mine")


@pytest.mark.parametrize("name", ["casereportbench", "maccrobat"])
def test_bundled_schemas(name: str) -> None:
    assert len(load_schema(name).keys) == {"casereportbench": 14, "maccrobat": 10}[name]


@pytest.fixture(scope="module")
def annotated() -> Loaded:
    return load(str(REAL / "casereportbench" / "gold_cases.jsonl"), load_schema("casereportbench"))


@real
def test_real_gold_is_all_exact(annotated: Loaded) -> None:
    assert annotated.levels[Status.EXACT] == 94
    assert annotated.ungrounded == ()


@real
def test_the_hub_table_is_repaired(annotated: Loaded) -> None:
    path = REAL / "casereportbench" / "hub_rows_sample.jsonl"
    loaded = load(str(path), load_schema("casereportbench"))
    assert loaded.levels[Status.NORMALISED] == 24
    assert loaded.ungrounded == ()
    for mended, case in zip(loaded.cases, annotated.cases, strict=True):
        assert (mended.id, mended.sections) == (case.id, case.sections)
        for ours, theirs in zip(quotes_of(mended).values(), quotes_of(case).values(), strict=True):
            spans = [
                [ground(case.text, quote).spans for quote in quotes] for quotes in (ours, theirs)
            ]
            assert spans[0] == spans[1]


@real
def test_maccrobat_is_grounded_where_it_was_annotated() -> None:
    path = REAL / "maccrobat" / "cases.jsonl"
    cases = load(str(path), load_schema("maccrobat"))
    placed = sum(cases.levels.values()) - cases.levels[Status.UNGROUNDED]
    assert len(cases.cases) == 140
    assert placed >= 0.999 * sum(cases.levels.values())
    spans = [json.loads(line)["spans"] for line in path.read_text("utf-8").splitlines()]
    found = [
        span_found(case, span)
        for case, each in zip(cases.cases, spans, strict=True)
        for span in each
    ]
    assert sum(found) >= 0.998 * len(found)


def span_found(case: Case, span: Mapping[str, Any]) -> bool:
    offset = case.text.index("\n") + 1
    start, end = span["start"] + offset, span["end"] + offset
    return (start, end) in ground(case.text, case.text[start:end]).spans


def test_the_bundled_sample_is_sound() -> None:
    loaded = load("sample", load_schema("casereportbench"))
    assert len(loaded.cases) >= 24
    assert loaded.levels[Status.EXACT] == sum(loaded.levels.values()) > 0
