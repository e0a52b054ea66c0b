"""Why a prompt won: the candidates of a page, as values and in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy import report
from crb_dspy.compile.plan import plan
from crb_dspy.compile.result import Result
from crb_dspy.compile.stays import stays
from crb_dspy.evaluation.figures import difference
from crb_dspy.evaluation.rows import Row
from crb_dspy.files import QUICKSTART
from crb_dspy.report.candidates import Searched, searches
from tests.browser import chromium, console, open_file, requests
from tests.fake_server import serving
from tests.made_run import home
from tests.report_data import SCHEMA
from tests.test_report import CASES, SEED, TUNED


def row(number: int, scores: list[float | None], **more: Any) -> dict[str, Any]:
    """A line of candidates.jsonl whose score is the mean over four cases, if it met them."""
    known = [score for score in scores if score is not None]
    whole = len(scores) == 4 and bool(known)
    prompt = {"predictor": "predict", "instruction": f"Quote {number}.", "demonstrations": []}
    return {
        "part": "GI", "number": number, "candidate": f"c{number}" if number else "seed",
        "parent": "", "validation": sum(known) / len(known) if whole else None, "calls": 4,
        "cases": len(scores), "tokens": 40, "sent": 100.0 * number, "classifier": [],
        "by_case": {f"case {n}": score for n, score in enumerate(scores)}, "prompt": [prompt],
    } | more  # fmt: skip


ROWS = [
    row(0, [0.5, 0.5, 0.5, None]),
    row(1, [1.0, 0.0, 1.0, None]),
    row(2, [0.0, 0.0, 0.5, 0.5]),
    row(3, [0.4, 0.3]),
    row(4, [1.0, 1.0, 0.5, None], candidate="<b>bold</b>"),
]
TOLD = Searched([("GI", "taken: +0.1 (c1)")], ROWS, {"GI": "c1"})


def test_a_candidate_is_told_with_its_score_its_cases_and_why() -> None:
    (part,) = searches(TOLD)
    assert [c.name for c in part.candidates] == ["seed", "c1", "<b>bold</b>", "c2", "c3"]
    seed, taken, better, worse, left = part.candidates
    assert (taken.better, taken.worse) == (("case 0", "case 2"), ("case 1",))
    assert taken.gain == pytest.approx(1 / 6)
    assert [c.taken for c in part.candidates] == [False, True, False, False, False]
    assert taken.why == "taken: +0.1 (c1)" and seed.why == "replaced"
    assert better.why.startswith("no worse here than what was taken")
    assert worse.why == "no gain on the validation cases"
    assert (left.score, left.why) == (None, "given up after 2 of 4 cases")
    assert taken.text is not None and taken.text.changed and seed.text is None
    assert [kind for *_, kind in part.points] == ["other", "other", "seed", "taken"]


def test_a_part_that_keeps_its_seed_says_so_of_whoever_was_ahead() -> None:
    (part,) = searches(replace(TOLD, verdicts=[("GI", "no gain shown")], taken={}))
    assert part.candidates[0].taken and part.candidates[0].why == "no gain shown"
    ahead = [c for c in part.candidates if c.gain and c.gain > 0]
    assert {c.why for c in ahead} == {"ahead of the seed here, yet not taken: no gain shown"}


def test_parts_that_met_nothing_but_their_seeds_are_not_listed() -> None:
    assert searches(replace(TOLD, candidates=ROWS[:1])) == ()
    html = report.report("", "", SEED, TUNED, CASES, SCHEMA, [], Searched([], ROWS[:1]))
    assert 'id="candidates"' not in html


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=2))
def test_cases_are_better_or_worse_by_what_they_gained(table: list[list[float | None]]) -> None:
    rows = [row(n, scores) for n, scores in enumerate(table)]
    (part,) = searches(Searched([], rows))
    assert len(part.candidates) == len(rows)
    for candidate in part.candidates[1:]:
        assert not {*candidate.better} & {*candidate.worse}
        if candidate.gain and candidate.gain > 0:
            assert candidate.better
        if not candidate.better:
            assert candidate.gain is not None and candidate.gain <= 0


def test_the_five_reports_that_teach_most_come_first() -> None:
    html = report.report("", "", SEED, TUNED, CASES, SCHEMA, [])
    listed = re.findall(r'<li><a href="#case-(\d+)">', html)
    view = report.build(report.Heading("", "", ("seed", "tuned")), _pairs(), CASES, SCHEMA)
    moved = {str(c.number): sum(cell.weight for cell in c.cells) for c in view.cases}
    assert len(listed) == 5 < len(moved)
    assert [moved[n] for n in listed] == sorted(moved.values(), reverse=True)[:5]


def _pairs() -> Any:
    from crb_dspy.report.cells import cells_of, paired

    return paired(cells_of(SEED), cells_of(TUNED))


def made(before: list[Row], after: list[Row], **more: Any) -> Result:
    gain = difference(before, after)
    rest: dict[str, Any] = {"candidates": [], "systems": {}, "stopped": ""} | more
    return Result(
        before, after, gain, [], None, rest["candidates"], rest["stopped"], [], rest["systems"],
        None, {}, {}, [], 1.0, Path("mlruns/out/x"), "id",
    )  # fmt: skip


def test_a_run_without_a_gain_says_what_could_have_been_seen_and_what_to_do() -> None:
    from crb_dspy.compile.config import read_experiment

    planned = plan(read_experiment(QUICKSTART, {"optimizer": "none", "model": "openai/x"}))
    systems = {"sentence classifier": TUNED}
    told = stays(planned, made(SEED, SEED, systems=systems))
    assert re.match(
        r"6 test cases: a true difference of 0\.\d+ would have been likely to show, if", told[0]
    )
    assert re.fullmatch(r"To show a true gain of 0.05, about \d[\d,]* cases like .*", told[1])
    assert told[2].endswith("experiment.toml --optimizer auto`")
    assert len(told) == 4
    alone = [one for one in SEED if one.group == SEED[0].group]
    assert "a single group shows nothing" in stays(planned, made(alone, alone))[0]


def test_a_run_that_gained_says_nothing_of_it(tmp_path: Path) -> None:
    from crb_dspy.compile.config import read_experiment

    planned = plan(read_experiment(QUICKSTART, {"model": "openai/x"}))
    result = made(SEED, TUNED)
    won = replace(
        result, difference=replace(result.difference, difference=0.2, low=0.1, high=0.3, p=0.01)
    )
    assert stays(planned, won) == []


def test_a_compile_tells_of_its_candidates(tmp_path: Path) -> None:
    with serving() as server, home(tmp_path) as place:
        place.compile(server, "--optimizer", "auto")
        rows = place.rows("candidates.jsonl")
        assert all(len(one["by_case"]) == one["cases"] for one in rows)
        asking = [one for one in rows if not one["classifier"]]
        assert all(one["sent"] > 0 for one in asking)
        page = (place.out / "report.html").read_text("utf-8")
    assert 'id="candidates"' in page
    assert {one["part"] for one in rows} <= set(re.findall(r'Candidates for (\w+)"', page))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium(1400, 900) as started:
        yield started


@pytest.mark.parametrize("width", [1400, 390])
def test_candidates_are_read_in_a_browser(driver: Any, tmp_path: Path, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    path = tmp_path / "report.html"
    told = replace(TOLD, stays=["Try `a & b`"])
    path.write_text(report.report("", "", SEED, TUNED, CASES, SCHEMA, [], told), "utf-8")
    open_file(driver, path)
    section = driver.find_element("id", "candidates")
    lines = section.find_elements("css selector", "tbody tr")
    assert [line.is_displayed() for line in lines] == [True] * len(ROWS)
    assert "<b>bold</b>" in section.text
    chosen = section.find_element("css selector", ".chosen")
    assert "c1" in chosen.text and "taken" in chosen.text
    fold = chosen.find_element("css selector", "summary")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", fold)
    fold.click()
    assert "better: case 0, case 2" in chosen.text and "worse: case 1" in chosen.text
    diff = chosen.find_element("css selector", ".diff")
    assert diff.is_displayed() and diff.find_element("css selector", "ins").text == "1"
    assert section.find_element("css selector", "svg circle.taken").is_displayed()
    assert driver.find_element("css selector", ".stays code").text == "a & b"
    wide = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    link = driver.find_element("css selector", "#first a")
    target = driver.find_element("id", link.get_attribute("href").rsplit("#", 1)[1])
    driver.execute_script("arguments[0].click()", link)
    assert target.find_element("tag name", "details").get_attribute("open")
    assert console(driver) == []
    assert requests(driver) == [path.as_uri()]
