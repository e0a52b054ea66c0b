"""The page in a real browser: marks, filters, keys, hostile text, the network."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crb_dspy import report
from tests.browser import chromium, console, open_file, requests
from tests.report_data import SCHEMA
from tests.test_report import CASES, PROMPTS, SEED, TUNED, hostile_page

# Passages with a label and a line, in reports that are not folded away or filtered out.
VISIBLE = """
return [...document.querySelectorAll('.case:not([hidden]) mark[data-t]')].filter(mark =>
  !['none', 'normal'].includes(getComputedStyle(mark, '::before').content) &&
  getComputedStyle(mark, '::before').display !== 'none' &&
  getComputedStyle(mark).borderBottomStyle !== 'none' &&
  getComputedStyle(mark).borderBottomColor !== 'rgba(0, 0, 0, 0)'
).map(mark => mark.className)
"""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        report.report("a run", "+0.1: improved", SEED, TUNED, CASES, SCHEMA, PROMPTS), "utf-8"
    )
    return path


@pytest.fixture
def page(driver: Any, file: Path) -> Iterator[Any]:
    open_file(driver, file)
    yield driver
    assert console(driver) == []


def click(driver: Any, selector: str) -> None:
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def choose(driver: Any, name: str, *values: str) -> None:
    """Leave only these boxes of a filter ticked, by clicks."""
    driver.execute_script(
        "for (const box of document.querySelectorAll(`[name=${arguments[0]}]`))"
        "  if (box.checked !== arguments[1].includes(box.value)) box.click()",
        name,
        values,
    )


def press(driver: Any, keys: str) -> None:
    driver.switch_to.active_element.send_keys(keys)


def visible(driver: Any) -> list[str]:
    marks: list[str] = driver.execute_script(VISIBLE)
    return marks


def status(driver: Any) -> str:
    return str(driver.find_element("id", "status").text)


def said(driver: Any) -> str:
    return str(driver.execute_script("return document.getElementById('said').textContent"))


def test_opens_with_its_result_and_highlights_and_asks_for_nothing_else(
    driver: Any, file: Path
) -> None:
    open_file(driver, file)
    assert requests(driver) == [file.as_uri()]
    assert console(driver) == []
    assert driver.find_element("id", "headline").text == "+0.1: improved"
    marks = visible(driver)
    for kind in ("bf", "bm", "bw"):
        assert any(kind in mark.split() for mark in marks)
    mark = driver.find_element("css selector", ".case details[open] mark.bf")
    assert mark.is_displayed() and mark.size["width"] > 0


def test_the_text_of_a_report_is_untouched(page: Any) -> None:
    texts = page.execute_script(
        "return [...document.querySelectorAll('.text')].map(text => text.textContent)"
    )
    assert texts == [case.text for case in CASES]


def test_filter_by_category_shows_its_marks_only(page: Any) -> None:
    before = visible(page)
    number = SCHEMA.keys.index("GI")
    click(page, "[data-set=none]")
    assert visible(page) == [] and status(page).startswith("0 of 6 reports, 0 passages")
    assert page.find_element("id", "empty").is_displayed()
    choose(page, "category", str(number))
    after = visible(page)
    assert after == [mark for mark in before if f"c{number}" in mark.split()]
    assert 0 < len(after) < len(before)
    click(page, "[data-set=all]")
    assert visible(page) == before


@pytest.mark.parametrize("kind", ["f", "m", "w", "l"])
def test_filter_by_what_happened_shows_that_only(page: Any, kind: str) -> None:
    before = visible(page)
    choose(page, "kind", kind)
    after = visible(page)
    assert after == [mark for mark in before if f"b{kind}" in mark.split()]
    assert len(after) < len(before)
    assert f", {len(after)} passages marked" in status(page)


@pytest.mark.parametrize("view", ["a", "b"])
def test_the_filters_count_what_the_table_counts(page: Any, view: str) -> None:
    choose(page, "view", view)
    counts = page.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('[name=kind]')]"
        ".map(box => [box.value, Number(box.parentNode.querySelector('output').value)]))"
    )
    first = 5 if view == "a" else 12
    table = [
        sum(
            int(row.find_elements("css selector", "td")[first + at].text.split()[0])
            for row in page.find_elements("css selector", "#categories tbody tr")
        )
        for at in range(6)
    ]
    assert [counts[kind] for kind in "fmwule"] == table


def test_reports_without_what_is_sought_are_left_out(page: Any) -> None:
    choose(page, "kind", "e")
    shown = page.find_elements("css selector", ".case:not([hidden])")
    failed = {row.case for row in TUNED if row.error}
    assert len(shown) == len(failed) < len(CASES)
    assert status(page).startswith(f"{len(failed)} of {len(CASES)} reports")


def test_negative_findings_can_be_shown_alone(page: Any) -> None:
    before = visible(page)
    click(page, "[name=negative]")
    after = visible(page)
    assert 0 < len(after) < len(before) and all("n" in mark.split() for mark in after)


def test_the_other_run_can_be_looked_at_and_both_side_by_side(page: Any) -> None:
    press(page, "v")
    assert any("af" in mark.split() for mark in visible(page))
    assert page.find_element("css selector", ".who").text == "seed"
    click(page, "[name=view][value=ab]")
    columns = page.find_elements("css selector", ".case details[open] .column")
    assert [column.find_element("class name", "who").text for column in columns] == [
        "seed",
        "tuned",
    ]
    assert columns[0].rect["y"] == columns[1].rect["y"]
    click(page, "[name=view][value=b]")
    assert len(page.find_elements("css selector", ".case details[open] .column")) == 1


def test_keys_lead_from_mistake_to_mistake(page: Any) -> None:
    press(page, "j")
    first = page.switch_to.active_element
    assert "now" in first.get_attribute("class").split()
    assert said(page).startswith("1 of ")
    press(page, "j")
    assert said(page).startswith("2 of ") and page.switch_to.active_element != first
    press(page, "k")
    assert page.switch_to.active_element == first
    assert first.rect["height"] > 0


def test_every_mistake_can_be_reached_by_key(page: Any) -> None:
    press(page, "j")
    total = int(said(page).split(" of ")[1].split(":")[0])
    reached = {said(page)}
    for _ in range(total):
        press(page, "j")
        reached.add(said(page))
    assert len({text.split(" of ")[0] for text in reached}) == total
    assert said(page).startswith(f"{total} of {total}: ")


def test_search_finds_a_case_and_keys_are_letters_there(page: Any) -> None:
    press(page, "/")
    press(page, CASES[2].id)
    shown = page.find_elements("css selector", ".case:not([hidden]) h3")
    assert [heading.text for heading in shown] == [CASES[2].id]
    press(page, "jx")
    assert status(page).startswith("0 of 6 reports")
    assert page.find_elements("css selector", ".now") == []
    click(page, "#clear")
    assert status(page).startswith("6 of 6 reports")


def test_single_keys_can_be_turned_off(page: Any) -> None:
    click(page, "#shortcuts")
    press(page, "j")
    assert page.find_elements("css selector", ".now") == []


def test_filters_can_be_worked_by_keyboard(page: Any) -> None:
    box = page.find_element("css selector", "[name=kind][value=f]")
    page.execute_script("arguments[0].focus()", box)
    before = len(visible(page))
    press(page, " ")
    assert not box.is_selected() and len(visible(page)) < before


def test_a_listed_difference_leads_to_its_place(page: Any) -> None:
    link = page.find_element("css selector", ".card .go")
    page.execute_script("arguments[0].click()", link)
    place = page.switch_to.active_element
    assert f"c{link.get_attribute('data-category')}" in place.get_attribute("class").split()
    target = page.find_element("id", link.get_attribute("href").rsplit("#", 1)[1])
    assert page.execute_script("return arguments[0].contains(arguments[1])", target, place)


def test_reports_can_be_ordered_by_score(page: Any) -> None:
    page.execute_script(
        "const sort = document.getElementById('sort'); sort.value = 'score';"
        "sort.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    scores = [
        float(c.get_attribute("data-score")) for c in page.find_elements("class name", "case")
    ]
    assert scores == sorted(scores)


def test_hostile_text_is_inert(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile_page(), "utf-8")
    open_file(driver, path)
    # An open dialog would make each of these fail.
    assert driver.find_element("css selector", "h1").text.startswith("</script><script>alert(1)")
    click(driver, "[name=view][value=ab]")
    press(driver, "j")
    assert driver.find_elements("css selector", "img") == []
    assert len(driver.find_elements("css selector", "script")) == 1
    assert (console(driver), requests(driver)) == ([], [path.as_uri()])


def test_a_script_that_got_in_would_not_run(driver: Any, tmp_path: Path, file: Path) -> None:
    path = tmp_path / "injected.html"
    text = file.read_text("utf-8")
    path.write_text(text.replace("<h1>", "<script>window.ran = 1</script><h1>", 1), "utf-8")
    open_file(driver, path)
    assert driver.execute_script("return window.ran") is None
    assert any("Content Security Policy" in message for message in console(driver))


def test_works_in_a_viewer_that_frames_it(driver: Any, tmp_path: Path, file: Path) -> None:
    host = tmp_path / "host.html"
    source = html.escape(file.read_text("utf-8"))
    host.write_text(
        f'<iframe id="frame" sandbox="allow-scripts" width="1200" height="800" srcdoc="{source}">',
        "utf-8",
    )
    open_file(driver, host)
    driver.switch_to.frame("frame")
    click(driver, "nav a[href='#reports']")
    click(driver, ".card .go")
    assert len(driver.find_elements("css selector", ".now")) == 1
    driver.switch_to.default_content()
    assert console(driver) == []


def test_two_runs_open_side_by_side(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "two.html"
    path.write_text(
        report.side_by_side("two", "no gain shown", SEED, TUNED, CASES, SCHEMA, ("one", "two")),
        "utf-8",
    )
    open_file(driver, path)
    columns = driver.find_elements("css selector", ".case details[open] .column")
    assert [column.find_element("class name", "who").text for column in columns] == ["one", "two"]
    press(driver, "j")
    assert len(driver.find_elements("css selector", ".now")) == 1
    assert console(driver) == []


def test_a_narrow_screen_needs_no_sideways_scrolling(driver: Any, file: Path) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_file(driver, file)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 400
        summary = driver.find_element("css selector", ".filters summary")
        assert summary.is_displayed()
        assert not driver.find_element("id", "search").is_displayed()
        summary.click()
        assert driver.find_element("id", "search").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_print_holds_every_report(driver: Any, file: Path) -> None:
    open_file(driver, file)
    click(driver, "#close")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert all(text.is_displayed() for text in driver.find_elements("class name", "text"))
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert not any(text.is_displayed() for text in driver.find_elements("class name", "text"))
