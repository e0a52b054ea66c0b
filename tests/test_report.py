"""The page of a run: its counts, its marks, its size, and that its text is only text."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy import report
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.errors import UserError
from crb_dspy.evaluation.rows import records, row_of, score_of, table
from crb_dspy.program import Reading
from crb_dspy.report.cells import cells_of, paired
from crb_dspy.report.diff import compare
from crb_dspy.report.markup import body
from crb_dspy.report.placing import FOUND, MISSED, UNGROUNDED, WRONG, Placed, place
from crb_dspy.report.segments import GOLD, A, B, Stroke, segments
from tests.report_data import LOST, SCHEMA, long_cases, noisy

CASES = load("sample", SCHEMA, limit=6).cases
SEED, TUNED = noisy(CASES, 1), noisy(CASES, 2, keep=0.8)
PROMPTS = [("GI", "Quote every finding.\n", "Quote every <b>finding</b>.\n"), ("GU", "x", "x")]


class Text(HTMLParser):
    """The text inside elements of a class, and the marks that were opened there."""

    def __init__(self, html: str, name: str = "text") -> None:
        super().__init__()
        self.name, self.depth = name, 0
        self.found, self.marks = list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        if not self.depth and self.name in classes:
            self.found.append("")
            self.depth = 1
        elif self.depth:
            self.depth += 1
            self.marks += [" ".join(classes)] * (tag == "mark")

    def handle_endtag(self, tag: str) -> None:
        self.depth = max(0, self.depth - 1)

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.found[-1] += data


def page() -> str:
    return report.report("a run", "+0.1: improved", SEED, TUNED, CASES, SCHEMA, PROMPTS)


def test_what_became_of_each_part_is_told() -> None:
    verdicts = [("GI", "improved: +0.1 on 8 fresh cases"), ("GU", "<b>no</b> gain shown")]
    html = report.report("a", "b", SEED, TUNED, CASES, SCHEMA, PROMPTS, report.Searched(verdicts))
    assert Text(html, "verdicts").found == [
        "GIimproved: +0.1 on 8 fresh casesGU<b>no</b> gain shown"
    ]


def case_of(text: str) -> Case:
    return Case("one", {"Case": text})


def cell(case: Case, gold: list[str], a: list[str], b: list[str]) -> Placed:
    case = replace(case, gold={"GI": tuple(gold)})
    rows = [row_of(case, "GI", Reading({"GI": tuple(quotes)})) for quotes in (a, b)]
    return place(case.text, paired(cells_of(rows[:1]), cells_of(rows[1:]))[0])


STROKES = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(0, 60), st.integers(0, 3), st.sampled_from([GOLD, A, B])
    ).map(lambda values: Stroke(*values)),
    max_size=12,
)


@given(st.integers(0, 50), STROKES, st.lists(st.integers(-5, 60), max_size=5))
def test_segments_are_the_text_and_carry_what_covers_them(
    length: int, strokes: list[Stroke], cuts: list[int]
) -> None:
    pieces = segments(length, strokes, cuts)
    assert [at for p in pieces for at in range(p.start, p.end)] == list(range(length))
    inside = [s for s in strokes if s.start < s.end <= length]
    for piece in pieces:
        levels = [layer.level for layer in piece.layers]
        assert levels == sorted(set(levels), reverse=True)
        for at in range(piece.start, piece.end):
            wanted: dict[int, int] = {}
            for stroke in inside:
                if stroke.start <= at < stroke.end:
                    wanted[stroke.category] = wanted.get(stroke.category, 0) | stroke.bits
            assert {layer.category: layer.bits for layer in piece.layers} == wanted


@given(st.text("ab <&>\"'\r\n.no", max_size=60), st.data())
def test_marked_text_reads_as_the_report(text: str, data: st.DataObject) -> None:
    quotes = st.lists(st.sampled_from([text[i : i + 9] for i in range(0, 60, 4)]), max_size=4)
    case = Case("one", {"History": text, "Course": text[:7]})
    drawn = [data.draw(quotes) for _ in range(3)]
    placed = {0: cell(case, *drawn), 2: cell(case, *drawn[::-1])}
    html = body(case, placed, ["a", "b", "c"])
    assert Text(f'<div class="text">{html}</div>').found == [case.text]


def test_every_report_of_the_page_reads_as_it_is() -> None:
    assert Text(page()).found == [case.text for case in CASES]


def test_overlapping_quotes_are_marked_one_in_the_other() -> None:
    case = case_of("mild fever and rash")
    placed = {
        0: cell(case, ["mild fever"], [], ["fever and rash"]),
        1: cell(case, ["fever"], ["fever"], []),
    }
    html = str(body(case, placed, ["GI", "GU"]))
    both = '<mark class="c1 d1 af ta bm tb" data-t="GU"><mark class="c0 d0 am bf tb" data-t="GI">'
    assert f"{both}fever</mark></mark>" in html
    assert '<mark class="c0 d0 am ta bm tb" data-t="GI">mild </mark>' in html
    assert '<mark class="c0 d0 bw tb" data-t="GI"> and rash</mark>' in html


def test_quotes_are_found_missed_wrong_or_nowhere() -> None:
    case = case_of("Fever and rash. No cough at night.")
    placed = cell(case, ["Fever", "rash"], ["fever", LOST], ["cough at night"])
    assert [quote.kinds for quote in placed.gold] == [(FOUND, MISSED), (MISSED, MISSED)]
    assert [[q.kind for q in run] for run in placed.predicted] == [[FOUND, UNGROUNDED], [WRONG]]


def test_a_quote_that_stands_twice_is_missed_once() -> None:
    placed = cell(case_of("Fever at noon. Fever at night."), ["Fever"], [], ["Fever"])
    assert [len(quote.spans) for quote in placed.gold] == [1]
    assert placed.predicted[1][0].spans == placed.gold[0].spans


def test_gold_that_is_not_in_the_report_is_found_by_the_same_quote_only() -> None:
    placed = cell(case_of("Fever."), [LOST], [LOST], ["Fever"])
    assert placed.gold[0].kinds == (FOUND, MISSED)
    assert [run[0].kind for run in placed.predicted] == [FOUND, WRONG]


def test_negations_are_marked_and_their_loss_is_a_kind_of_its_own() -> None:
    case = case_of("There was no fever at night.")
    placed = cell(case, ["no fever at night"], ["no fever at night"], ["fever at night"])
    assert [len(spans) for spans in placed.lost] == [0, 1]
    assert placed.gold[0].negative and not placed.predicted[1][0].negative
    html = str(body(case, {0: placed}, ["GI"]))
    assert '<mark class="c0 d0 n af ta bl tb" data-t="GI"><b class="neg">no</b></mark>' in html


def test_counts_of_categories_agree_with_the_rows() -> None:
    pairs = paired(cells_of(SEED), cells_of(TUNED))
    view = report.build(report.Heading("", "", ("a", "b")), pairs, CASES, SCHEMA)
    assert [row.key for row in view.categories] == list(SCHEMA.keys)
    for number, rows in enumerate((SEED, TUNED)):
        for category in view.categories:
            own = [row for row in rows if row.category == category.key]
            tally = category.runs[number]
            assert tally.found + tally.missed == category.gold == sum(r.cell.gold for r in own)
            assert tally.ungrounded == sum(row.cell.ungrounded for row in own)
            assert tally.lost == sum(getattr(row.cell, "polarity_errors", 0) for row in own)
            assert tally.failed == sum(bool(row.error) for row in own)
            assert tally.score == pytest.approx(score_of(own))
            assert tally.wrong <= sum(row.cell.predicted - row.cell.ungrounded for row in own)


def test_gold_as_prediction_is_all_found_and_shows_no_difference() -> None:
    perfect = [row_of(case, key, Reading(case.gold or {})) for case in CASES for key in SCHEMA.keys]
    pairs = paired(cells_of(perfect), cells_of(perfect))
    view = report.build(report.Heading("", "", ("a", "b")), pairs, CASES, SCHEMA)
    assert [(row.runs[1].missed, row.runs[1].wrong) for row in view.categories] == [(0, 0)] * 14
    assert not view.changed
    assert "Every cell has the same score in both." in report.page(view)


def test_lines_of_a_file_give_the_page_that_rows_give() -> None:
    before, after = records(table(SEED)), records(table(TUNED))
    renamed = [{f"{n}_baseline": row[n] for n in ("predicted", "score")} for row in before]
    lines = [json.loads(json.dumps({**a, **b})) for a, b in zip(after, renamed, strict=True)]
    assert cells_of(lines) == cells_of(TUNED)
    for before_, row in zip(report.baseline_of(lines), SEED, strict=True):
        assert (before_.predicted, before_.score, before_.error) == (row.predicted, row.score, "")
    html = report.report("", "", report.baseline_of(lines), lines, CASES, SCHEMA, [])
    assert Text(html).marks == Text(page()).marks


def test_page_says_the_result_and_asks_nothing_of_the_network() -> None:
    html = page()
    assert '<p class="headline" id="headline">+0.1: improved</p>' in html
    assert "default-src 'none'" in html
    # Whatever could load something: only fragments and an empty icon.
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"|url\(|@import', html)
    assert addresses and all(address[:1] in "#d" for address in addresses)
    assert "data:," in addresses


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & "quoted"'


def hostile_page() -> str:
    case = Case(HOSTILE, {HOSTILE: f"Fever. {HOSTILE} Rash."}, {"GI": (HOSTILE, "Fever")}, "g")
    rows = [
        row_of(case, "GI", Reading({"GI": (HOSTILE,)})),
        row_of(case, "GI", Reading({}, error=HOSTILE)),
    ]
    return report.report(
        HOSTILE, HOSTILE, rows[:1], rows[1:], [case], SCHEMA, [(HOSTILE, HOSTILE, "tuned")]
    )


def test_text_of_reports_runs_and_prompts_is_never_markup() -> None:
    html = hostile_page()
    assert html.count("<script>") == html.count("</script>") == 1
    assert "<img" not in html
    assert len(Text(html, "headline").found) == 1
    assert Text(html, "headline").found == [HOSTILE]


def test_what_no_file_can_hold_is_replaced() -> None:
    case = Case("a\ud800", {"": "Fever\ud800 and \0 rash"}, {"GI": ("Fever",)})
    rows = [row_of(case, "GI", Reading({}))]
    html = report.report("", "", rows, rows, [case], SCHEMA, [])
    html.encode("utf-8")
    assert "\0" not in html and "Fever</mark>\ufffd and \ufffd rash" in html


def test_two_runs_stand_side_by_side_most_different_first() -> None:
    cases = [Case(name, {"": "Fever. Rash."}, {"GI": ("Fever", "Rash")}) for name in "xyz"]
    quoted = [("Fever",), (), ("Fever", "Rash")]
    a = [row_of(case, "GI", Reading({"GI": ("Fever",)})) for case in cases]
    b = [row_of(c, "GI", Reading({"GI": q})) for c, q in zip(cases, quoted, strict=True)]
    html = report.side_by_side("", "", a, b[::-1], cases, SCHEMA, ("first & one", "second"))
    assert re.findall(r"<summary><h3>(\w)</h3>", html) == ["y", "z", "x"]
    assert "first &amp; one" in html
    cards = re.findall(r'<h3><span class="chip">GI</span> (\w)', html)
    assert cards == ["y", "z"]


def test_cells_of_one_run_only_are_left_out_and_counted() -> None:
    html = report.side_by_side("", "", SEED, TUNED[3:], CASES, SCHEMA, ("a", "b"))
    assert "3 cells that only one of the runs has are left out." in html


@pytest.mark.parametrize(
    ("a", "b", "cases", "message"),
    [
        (SEED, TUNED, CASES[1:], f"case '{CASES[0].id}' of the run is not in the data"),
        (SEED[:1], TUNED[1:], CASES, "no cell in common"),
    ],
)
def test_what_does_not_belong_together_is_refused(a: Any, b: Any, cases: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        report.report("", "", a, b, cases, SCHEMA, [])


def test_a_category_that_the_schema_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="category 'Vitals_Hema' of the run is not in schema"):
        report.report("", "", SEED, TUNED, CASES, SCHEMA.select(["GI"]), [])


def test_some_categories_alone_make_a_page() -> None:
    some = SCHEMA.select(["GI", "Neuro"])
    rows = [row for row in SEED if row.category in some.keys]
    html = report.report("", "", rows, rows, CASES, some, [])
    assert {mark.split()[0] for mark in Text(html).marks} == {"c0", "c1"}


LINES = st.lists(st.sampled_from(["a b\n", "c d\n", "c e\n", "no\n", "\n"]), max_size=8).map(
    "".join
)


@given(LINES, LINES)
def test_a_diff_holds_both_prompts(seed: str, tuned: str) -> None:
    diff = compare("part", seed, tuned)
    pieces = [piece for hunk in diff.hunks for piece in hunk.pieces]
    assert "".join(text for kind, text in pieces if kind != "ins") == seed
    assert "".join(text for kind, text in pieces if kind != "del") == tuned
    assert diff.changed == (seed != tuned)


def test_changed_words_are_marked_and_unchanged_prompts_folded() -> None:
    html = page()
    assert "<ins>&lt;b&gt;</ins>finding<ins>&lt;/b&gt;</ins>" in html
    assert "1 unchanged" in html


def test_failed_and_unplaced_cells_are_listed_below_their_reports() -> None:
    html = page()
    kinds = Counter(re.findall(r'<span class="note cat c\d+ (\w\w) t\w"', html))
    for side, rows in (("a", SEED), ("b", TUNED)):
        assert kinds[f"{side}e"] == sum(bool(row.error) for row in rows) > 0
        assert kinds[f"{side}u"] == sum(row.cell.ungrounded for row in rows) > 0


@pytest.mark.slow
def test_a_whole_benchmark_fits_in_a_page() -> None:
    texts = [text for case in load("sample", SCHEMA).cases for text in case.sections.values()]
    sentences = [s.strip(". ") for text in texts for s in text.split(". ") if len(s) > 20]
    cases = long_cases(138, 2000, sentences)
    html = report.report("", "", noisy(cases, 1), noisy(cases, 2), cases, SCHEMA, [])
    assert len(Text(html).found) == 138
    assert len(html.encode()) < 15_000_000


def shown(text: str, gold: str, *quoted: str) -> list[tuple[str, str]]:
    """What the page marks in a report, and as what: the class for the second run."""
    case = Case("a", {"": text}, {"GI": (gold,)})
    rows = [row_of(case, "GI", Reading({"GI": quoted}))]
    html = report.report("", "", rows, rows, [case], SCHEMA, [])
    marks = re.findall(r'<mark class="([^"]*)"(?: data-t="GI")?>([^<]*)</mark>', html)
    kinds = [(inner, re.findall(r"\bb([fmw])\b", names)) for names, inner in marks]
    return [(inner, kind[0]) for inner, kind in kinds if kind and inner in text]


def test_what_is_left_of_a_found_quote_is_not_missed_if_it_says_nothing() -> None:
    text = "He had the severe vomiting, and slept."
    assert shown(text, "the severe vomiting,", "severe vomiting") == [
        ("the ", "f"),
        ("severe vomiting", "f"),
        (",", "f"),
    ]


def test_what_is_left_of_a_found_quote_is_missed_if_it_says_something() -> None:
    marks = shown("He had severe vomiting at night.", "severe vomiting at night", "severe vomiting")
    assert marks == [("severe vomiting", "f"), (" at night", "m")]


def test_a_quote_of_glue_alone_that_nobody_quoted_is_missed() -> None:
    assert shown("It was there.", "there") == [("there", "m")]
