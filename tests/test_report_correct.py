"""Corrections in a real browser: accepted, rejected, moved, marked, downloaded, read again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crb_dspy import report
from crb_dspy.convert.formats import cases as case_lines
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.evaluation.rows import row_of
from crb_dspy.program import Reading
from crb_dspy.score import main as scored
from tests import mixed_data
from tests.browser import chromium, console, open_file

SCHEMA = load_schema("casereportbench")
TEXT = "A boy 😀 had no fever, severe vomiting & a <b>rash</b>.\r\nHe was floppy."
CASE = Case(
    "c1",
    {"2": TEXT, "1": "He did well."},
    {"GI": ("severe vomiting",), "Vitals_Hema": ("no fever",), "Neuro": ()},
    "family",
)
QUOTED = {"GI": ("vomiting",), "Vitals_Hema": ("no fever",), "Neuro": ("did well", "nowhere")}
ROWS = [row_of(CASE, key, Reading(QUOTED)) for key in QUOTED]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium(1400, 900) as started:
        yield started


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Any]:
    opened(driver, tmp_path, report.report("a run", "x", ROWS, ROWS, [CASE], SCHEMA, []))
    yield driver
    assert console(driver) == []


def opened(driver: Any, folder: Path, html: str) -> None:
    """Open a page at its corrections; what is downloaded goes to its folder."""
    path = folder / "report.html"
    path.write_text(html, "utf-8")
    where = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Page.setDownloadBehavior", where)
    open_file(driver, path)
    driver.find_element("css selector", ".fix summary").click()


def act(page: Any, quote: str, label: str) -> None:
    """Press a button beside a finding."""
    rows = page.find_elements("css selector", ".fix li")
    row = next(row for row in rows if row.find_element("css selector", "q").text == quote)
    next(b for b in row.find_elements("css selector", "button") if b.text == label).click()


def chosen(page: Any, key: str) -> None:
    page.execute_script("document.querySelector('.fix select').value = arguments[0]", key)


def marked(page: Any) -> None:
    page.find_element("css selector", ".fix ul ~ button").click()


def downloaded(page: Any, folder: Path) -> list[Any]:
    """Download, and read the file as convert and as compile would."""
    page.find_element("id", "download").click()
    path, until = folder / "corrections.jsonl", time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    loaded = load(str(path), SCHEMA)
    assert loaded.ungrounded == ()
    (document,) = case_lines.read(path)
    assert document.text == CASE.text
    return [loaded.cases[0], document]


def test_nothing_is_offered_before_anything_is_corrected(page: Any) -> None:
    assert not page.find_element("id", "download").is_displayed()
    states = [e.text for e in page.find_elements("css selector", ".fix li small")]
    assert states == ["accepted", "accepted", "not in gold"]


def test_findings_are_accepted_rejected_moved_and_marked(page: Any, tmp_path: Path) -> None:
    act(page, "no fever", "reject")
    act(page, "severe vomiting", "start ›")
    act(page, "did well", "accept")
    chosen(page, "Neuro")
    page.find_element("css selector", ".fix input").send_keys("rash")
    marked(page)
    case, document = downloaded(page, tmp_path)
    assert (case.id, case.group, dict(case.sections)) == ("c1", "family", dict(CASE.sections))
    assert list(case.sections) == ["2", "1"]
    assert {key: quotes for key, quotes in case.gold.items() if quotes} == {
        "GI": ("vomiting",),
        "Neuro": ("rash", "did well"),
    }
    quotes = [CASE.text[mark.start : mark.end] for mark in document.marks]
    assert quotes == ["vomiting", "rash", "did well"]


def test_a_missed_finding_is_marked_with_the_mouse(page: Any, tmp_path: Path) -> None:
    chosen(page, "Neuro")
    page.execute_script(
        "const text = document.querySelector('.text'), walker = document.createTreeWalker(text, 4);"
        "let node; while ((node = walker.nextNode()) && !node.data.includes('floppy'));"
        "const at = node.data.indexOf('floppy'); "
        "getSelection().setBaseAndExtent(node, at - 1, node, at + 6)"
    )
    field = page.find_element("css selector", ".fix input")
    until = time.monotonic() + 30
    while field.get_property("value") != "floppy" and time.monotonic() < until:
        time.sleep(0.05)
    marked(page)
    case, document = downloaded(page, tmp_path)
    assert case.gold["Neuro"] == ("floppy",)
    assert "floppy" in [CASE.text[mark.start : mark.end] for mark in document.marks]


def test_corrections_are_gold_that_the_program_is_scored_against(
    page: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted = tmp_path / "findings.jsonl"
    found = {"GI": ["vomiting"], "Vitals_Hema": ["no fever"], "Neuro": ["did well"]}
    predicted.write_text(json.dumps({"id": "c1", "findings": found}), "utf-8")
    act(page, "severe vomiting", "start ›")
    act(page, "did well", "accept")
    chosen(page, "Vitals_Hema")
    page.find_element("css selector", ".fix input").send_keys("rash")
    marked(page)
    downloaded(page, tmp_path)
    gold = tmp_path / "corrections.jsonl"
    asked = ["--gold", str(gold), "--pred", str(predicted), "--metrics", "objective"]
    assert scored([*asked, "--format", "json"]) == 0
    cells = {cell["category"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    # "no fever" of "no fever" and the missed "rash": all that was found, two words of three.
    assert {key: cells[key]["score"] for key in found} == {
        "GI": 1.0,
        "Neuro": 1.0,
        "Vitals_Hema": pytest.approx(0.8),
    }
    assert "rash" in cells["Vitals_Hema"]["reason"]


def test_what_is_no_quote_is_chosen_or_written(driver: Any, tmp_path: Path) -> None:
    """A select, boxes and lines of text; what is not touched stays gold, with its quote."""
    schema, data = mixed_data.written(tmp_path, 3)
    many = 'kind = "choice"\nmany = true\noptions = ["rest", "fluids", "surgery"]\n'
    told = 'key = "Care"\ntitle = "c"\nguidance = "g"\ninstruction = "i"\n'
    quoted = mixed_data.SCHEMA.replace("default = ", "evidence = true\ndefault = ")
    Path(schema).write_text(f"{quoted}\n[[category]]\n{told}{many}", "utf-8")
    mixed = load_schema(schema)
    (case,) = load(data, mixed).cases[2:]
    gold = {**(case.gold or {}), "Smoking": ("never | He never smoked",), "Care": ("rest",)}
    case = replace(case, gold=gold)
    found = {"Smoking": ["smoker"], "Temperature": ["41 °C"], "Course": ["-9 h: rash"], "Care": []}
    rows = [row_of(case, key, Reading(found), kind=kind) for key, kind in mixed.kinds.items()]
    opened(driver, tmp_path, report.report("a run", "x", rows, rows, [case], mixed, []))
    keys = [one.text for one in driver.find_elements("css selector", ".fix select option")]
    assert keys[0] == "Findings" and "Care" not in keys

    def control(key: str) -> Any:
        return driver.find_element("css selector", f".fix [aria-label={key}]")

    driver.find_element("css selector", ".fix .field:nth-child(2) button").click()
    course = control("Course")
    course.send_keys("\n? h: vomiting")
    control("Care").find_element("css selector", "[value=fluids]").click()
    states = [one.text for one in driver.find_elements("css selector", ".fix .field small")]
    assert states == ["as in gold", "corrected", "corrected", "as in gold", "corrected"]

    def corrected() -> Any:
        driver.find_element("id", "download").click()
        file, until = tmp_path / "corrections.jsonl", time.monotonic() + 30
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        (read,) = load(str(file), mixed).cases
        file.unlink()
        return read.gold

    now = corrected()
    assert now["Temperature"] == ("41 °C",)
    assert now["Course"] == ("-72 h: cough", "? h: vomiting")
    assert now["Care"] == ("rest", "fluids")
    assert {key: now[key] for key in ("Findings", "Smoking", "Diagnosis")} == {
        key: gold[key] for key in ("Findings", "Smoking", "Diagnosis")
    }
    control("Smoking").send_keys("former")
    control("Temperature").clear()
    now = corrected()
    assert now["Smoking"] == ("former smoker",) and now["Temperature"] == ()
    assert console(driver) == []


def test_words_that_are_not_there_are_not_marked(page: Any) -> None:
    page.find_element("css selector", ".fix input").send_keys("seizures")
    marked(page)
    said = page.find_element("css selector", ".fix [role=status]").text
    assert said == "these words are not in the report"
    assert len(page.find_elements("css selector", ".fix li")) == 3
