from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crb_dspy.data.benchmarks import SOURCES, Loaded, hub, load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.quotes.grounding import Status, ground
from tests.made_data import (
    GOLD,
    SCHEMA,
    SECTIONS,
    brat,
    brat_folder,
    case_lines,
    entry,
    hub_csv,
    hub_lines,
    hub_parquet,
    hub_rows,
    numpy_csv,
    refusal,
    save,
)
from tests.real_data import real

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
    assert loaded.ungrounded == (("a", "Neuro", " "), ("a", "GI", "diarrhoea"))
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


def test_rows_of_one_paper_are_one_group(tmp_path: Path) -> None:
    first, second = hub_rows()
    loaded = load(save(tmp_path / "a.jsonl", first, second | {"pmcid": "PMC1000001"}), SCHEMA)
    assert [case.id for case in loaded.cases] == ["PMC1000001", "PMC1000001-2"]
    assert {case.group for case in loaded.cases} == {"PMC1000001"}


def test_a_discontinuous_entity_is_one_quote(tmp_path: Path) -> None:
    source = brat(tmp_path, "Left and right limbs.", "T1\tNeuro 0 4;15 20\tLeft limbs")
    (tmp_path / "b.txt").write_text("Not annotated.")
    cases = load(source, SCHEMA).cases
    assert [case.gold and case.gold["Neuro"] for case in cases] == [("Left and right limbs",), None]


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
    return load(str(real("casereportbench/gold_cases.jsonl")), load_schema("casereportbench"))


def test_real_gold_is_all_exact(annotated: Loaded) -> None:
    assert annotated.levels[Status.EXACT] == 94
    assert annotated.ungrounded == ()


def test_the_hub_table_is_repaired(annotated: Loaded) -> None:
    path = real("casereportbench/hub_rows_sample.jsonl")
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


def test_maccrobat_is_grounded_where_it_was_annotated() -> None:
    path = real("maccrobat/cases.jsonl")
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
