"""One's own reports: text, case lines and JATS articles, well-formed or not."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crb_dspy.data.readers import Report, reports
from crb_dspy.errors import UserError

OUT = Path("findings.jsonl")
HEAD = '<front><article-meta><article-id pub-id-type="pmc">12</article-id></article-meta></front>'


def read(*names: Path | str) -> list[Report]:
    return list(reports([str(name) for name in names], OUT))


def jats(folder: Path, xml: str, name: str = "a.xml") -> Report:
    (folder / name).write_text(xml, "utf-8")
    (report,) = read(folder / name)
    return report


def body(folder: Path, xml: str) -> dict[str, str]:
    report = jats(folder, f"<article>{HEAD}<body>{xml}</body></article>")
    assert report.error == ""
    assert report.case.id == "PMC12"
    return dict(report.case.sections)


def test_a_text_file_is_one_section_as_it_stands(tmp_path: Path) -> None:
    text = 'Braces {x}, {{report}}, "q" and ’é’.\r\nNo fever.\u2028'
    (tmp_path / "a.b.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (report,) = read(tmp_path / "a.b.txt")
    assert (report.case.id, dict(report.case.sections)) == ("a.b", {"Report": text})
    assert (report.source, report.error) == (str(tmp_path / "a.b.txt"), "")


def test_stdin_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("No fever é.".encode())))
    found = reports(["-"], OUT)
    for _ in range(2):
        (report,) = found
        assert (report.case.id, report.case.text) == ("stdin", "## Report\nNo fever é.")


def test_a_folder_is_read_in_order_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y.md", "c.pdf", ".hidden.txt", ".git/x.txt", "out.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Cough.")
    found = reports([str(tmp_path)], tmp_path / "out.jsonl")
    assert [report.case.id for report in found] == ["b", "a/y", "a/z"]
    assert found.ignored == 1
    rest = reports([str(tmp_path)], tmp_path / "a").files
    assert [file.name for file in rest] == ["b", "out"]


def test_ids_that_were_there_before_are_told_apart(tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "sections": {"R": "x"}}) for i in ("a", "a#2", "a", 7)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    (tmp_path / "a.txt").write_text("Cough.")
    found = read(tmp_path / "c.jsonl", tmp_path / "a.txt", tmp_path / "a.txt")
    assert [report.case.id for report in found] == ["a", "a#2", "a#3", "7", "a#4", "a#5"]


def test_case_lines_are_read_without_their_gold(tmp_path: Path) -> None:
    line = {"id": 1, "sections": {"A": "x", "B": "y"}, "gold": {"Nothing": 3}, "more": []}
    (tmp_path / "c.jsonl").write_text("\ufeff" + json.dumps(line) + "\n\n")
    (report,) = read(tmp_path / "c.jsonl")
    assert report.case.id == "1"
    assert report.case.gold is None
    assert dict(report.case.sections) == {"A": "x", "B": "y"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ('{"sections": {"R": "x"}}', "id: field required"),
        ('{"id": true, "sections": {"R": "x"}}', "id"),
        ('{"id": "a\\nb", "sections": {"R": "x"}}', "must be one plain line"),
        ('{"id": "a", "sections": "SECRET"}', "sections: "),
        ('{"id": "a", "sections": {"R": 3}}', "sections.R: "),
        ('{"id": "a", "sections": {"R\\u0007": "x"}}', "must be one plain line"),
        ('{"id": "a", "sections": {"R": "\\ud800"}}', "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_a_faulty_case_line_is_named_and_its_text_is_not_shown(
    tmp_path: Path, line: str | bytes, said: str
) -> None:
    good = b'{"id": "ok", "sections": {"R": "x"}}\n'
    bad = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "c.jsonl").write_bytes(good + bad)
    with pytest.raises(UserError) as caught:
        read(tmp_path / "c.jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'c.jsonl'}, line 2: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"caf\xe9", "not UTF-8 at byte 3"),
        ("a.txt", b"PK\0\0", "not a text but binary"),
        ("a.txt", b" \n", "the report is empty"),
        ("a.docx", b"PK\x03\x04\xff", "a Word file or an archive"),
        ("a.pdf", b"%PDF-1.7\n\xe2", "a PDF, not a text: make one of it first (pdftotext"),
        ("a.rtf", b"{\\rtf1 fever}", "rich text"),
        ("a.xml", b"", "not well-formed XML"),
        ("a.xml", b"<article><body>", "not well-formed XML"),
        ("a.xml", b"<html/>", "no article in it"),
        ("a.xml", b"<article><body/></article>", "the report is empty"),
        ("a.jsonl", b'{"id": "a", "sections": {}}', "the report is empty"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_report_with_its_error(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "b.txt").write_text("Cough.")
    bad, good = read(tmp_path / name, tmp_path / "b.txt")
    assert said in bad.error
    assert bad.case.id == "a"
    assert (good.case.id, good.error) == ("b", "")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "nowhere.txt")
    with pytest.raises(UserError, match="no report in it"):
        read(tmp_path)


def test_reports_are_read_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Cough.")
    (tmp_path / "b.txt").write_text("Cough.")
    found: Iterator[Report] = iter(reports([str(tmp_path)], OUT))
    next(found)
    (tmp_path / "b.txt").write_text("Fever.")
    assert "Fever" in next(found).case.text


def test_nested_sections_keep_their_headings_and_order(tmp_path: Path) -> None:
    found = body(
        tmp_path,
        "<p>Before.</p><sec><title>Case <italic>one</italic></title><sec><title>Labs</title>"
        "<p>Sodium\n  was low.</p><p>Second.</p></sec></sec><sec><title>Case two</title><p>He.</p>"
        "<sec><title>Labs</title><p>Normal.</p></sec><sec><p>Untitled.</p></sec></sec>",
    )
    assert list(found.items()) == [
        ("Report", "Before."),
        ("Case one", ""),
        ("Labs", "Sodium was low.\nSecond."),
        ("Case two", "He."),
        ("Labs (2)", "Normal."),
        ("Section", "Untitled."),
    ]


def test_tables_lists_and_figures_are_lines(tmp_path: Path) -> None:
    found = body(
        tmp_path,
        "<sec><title>T</title><p>See<list><list-item><p>one</p></list-item><list-item><p>two</p>"
        "</list-item></list>after.</p><table-wrap><label>Table 1</label><caption><p>Values</p>"
        "</caption><table><tbody><tr><td>Sodium</td><td>120</td></tr><tr><th>pH</th><td/></tr>"
        "</tbody></table></table-wrap><fig><caption><title>Rash.</title></caption><graphic/></fig>"
        "</sec>",
    )
    assert found["T"].split("\n") == [
        "See", "one", "two", "after.", "Values", "Sodium | 120", "pH", "Rash.",
    ]  # fmt: skip


def test_raised_numbers_stay_numbers_and_raised_citations_go(tmp_path: Path) -> None:
    found = body(
        tmp_path,
        "<p>5 × 10<sup>9</sup>/L, Fe<sup>2+</sup>, CO<sub>2</sub>, the 2<sup>nd</sup>, as known"
        '<sup><xref ref-type="bibr">1</xref>,<xref ref-type="bibr">2</xref></sup>. See '
        '[<xref ref-type="bibr">3</xref>].<inline-formula><tex-math>\\frac</tex-math>'
        "</inline-formula></p>",
    )
    assert found["Report"] == "5 × 10⁹/L, Fe²⁺, CO2, the 2nd, as known. See [3]."


REFERENCE = '<xref ref-type="bibr" rid="r">{}</xref>'
RAISED_REFERENCE = REFERENCE.format("<sup>3</sup>")


@pytest.mark.parametrize(
    "reference",
    [
        f"<sup>{REFERENCE.format(3)}</sup>",
        RAISED_REFERENCE,
        f"<sup><italic>{REFERENCE.format(3)}</italic></sup>",
        f"<italic><sup>{REFERENCE.format(3)}</sup></italic>",
        REFERENCE.format("<italic><sup>3</sup></italic>"),
        REFERENCE.format("<sup><bold>3</bold></sup>"),
        RAISED_REFERENCE.replace("bibr", "table-fn"),
        f"<sup>{REFERENCE.format(3)}</sup>, <sup>{REFERENCE.format(4)}</sup>",
        f"{RAISED_REFERENCE}, {RAISED_REFERENCE}",
        f"{RAISED_REFERENCE}<sup>,</sup>{RAISED_REFERENCE}<sup>–</sup>{RAISED_REFERENCE}",
    ],
)
def test_a_raised_reference_never_becomes_part_of_a_number(tmp_path: Path, reference: str) -> None:
    found = body(tmp_path, f"<p>Sodium was 120{reference}. Cl<sup>−</sup> was 10<sup>2</sup>.</p>")
    assert found["Report"] == "Sodium was 120. Cl⁻ was 10²."


def test_what_stands_between_references_and_is_no_comma_stays(tmp_path: Path) -> None:
    kept = f"<p>Na{RAISED_REFERENCE}, K{RAISED_REFERENCE} and Cl<sup>−</sup>{RAISED_REFERENCE}.</p>"
    assert body(tmp_path, kept)["Report"] == "Na, K and Cl⁻."
    named = [REFERENCE.format(f"{name}<sup>3</sup>") for name in ("Doe", "Roe")]
    assert body(tmp_path, f"<p>See {', '.join(named)}.</p>")["Report"] == "See Doe, Roe."


def test_a_row_of_a_table_is_a_line_whatever_stands_in_its_cells(tmp_path: Path) -> None:
    listed = "<list><list-item><p>low</p></list-item><list-item><p>lower</p></list-item></list>"
    found = body(
        tmp_path,
        f"<table><tr><td><p>Sodium</p></td><td><p>120</p><p>mmol/L</p></td><td>{listed}</td></tr>"
        "<tr><th>pH<break/>(arterial)</th><td>7.2</td></tr></table>",
    )
    assert found["Report"].split("\n") == [
        "Sodium | 120 mmol/L | low lower",
        "pH (arterial) | 7.2",
    ]


def test_loose_tables_come_last_and_an_abstract_only_without_a_body(tmp_path: Path) -> None:
    front = (
        "<front><article-meta><abstract><sec><title>Background</title><p>Known.</p></sec>"
        "</abstract><abstract><p>Short.</p></abstract></article-meta></front>"
    )
    floats = "<floats-group><table-wrap><caption><p>Labs</p></caption></table-wrap></floats-group>"
    whole = jats(tmp_path, f"<article>{front}<body><p>Text.</p></body>{floats}</article>")
    assert dict(whole.case.sections) == {"Report": "Text.", "Tables and figures": "Labs"}
    assert whole.case.id == "a"
    bare = jats(tmp_path, f"<article>{front}</article>")
    assert dict(bare.case.sections) == {"Background": "Known.", "Abstract": "Short."}


def test_sets_of_articles_and_namespaces(tmp_path: Path) -> None:
    article = (
        f'<article xmlns="https://jats.nlm.nih.gov/ns">{HEAD}<body><p>One.</p></body></article>'
    )
    (tmp_path / "s.nxml").write_text(f"<set>{article}<article/>{article}</set>")
    found = read(tmp_path / "s.nxml")
    assert [report.case.id for report in found] == ["PMC12", "s", "PMC12#2"]
    assert [report.error for report in found] == ["", "the report is empty", ""]


def test_comments_instructions_and_characters(tmp_path: Path) -> None:
    found = body(tmp_path, "<p>a<!-- no --> &lt;b&gt; &amp; {c}<?pi x?> &#945; <![CDATA[<d>]]></p>")
    assert found["Report"] == "a <b> & {c} α <d>"


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE article SYSTEM "{secret}">',
        '<!DOCTYPE article SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE article [<!ENTITY x SYSTEM "{secret}">]>',
        '<!DOCTYPE article [<!ENTITY x "SECRET">]>',
        '<!DOCTYPE article [<!ENTITY % p SYSTEM "{secret}"> %p;]>',
        '<!DOCTYPE article PUBLIC "-//NLM//DTD JATS" "JATS.dtd" [<!ENTITY x "SECRET">]>',
    ],
)
def test_what_a_doctype_declares_or_names_does_nothing(tmp_path: Path, doctype: str) -> None:
    (tmp_path / "secret").write_text('<!ENTITY x "SECRET">')
    declared = doctype.replace("{secret}", (tmp_path / "secret").as_uri())
    sections = "<sec><title>T&x;</title><p>a &x;.</p></sec>"
    report = jats(tmp_path, f"{declared}<article><body>{sections}</body></article>")
    assert report.error == ""
    assert dict(report.case.sections) == {"T&x;": "a &x;."}


def test_characters_of_a_dtd_that_is_not_loaded_are_known_by_name(tmp_path: Path) -> None:
    named = (
        '<!DOCTYPE article SYSTEM "JATS.dtd"><article><body><p>a&nbsp;&alpha;</p></body></article>'
    )
    assert jats(tmp_path, named).case.sections["Report"] == "a α"
    (tmp_path / "b.xml").write_text("<article><body><p>a&nbsp;b</p></body></article>")
    (report,) = read(tmp_path / "b.xml")
    assert "Entity 'nbsp' not defined" in report.error


def test_a_billion_laughs_are_not_laughed(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    doctype = f'<!DOCTYPE article [<!ENTITY l0 "lol">{levels}]>'
    inside = jats(tmp_path, f"{doctype}<article><body><p>Ha &l9;</p></body></article>")
    assert "amplification" in inside.error
    attribute = jats(tmp_path, f'{doctype}<article a="&l9;"><body><p>Ha</p></body></article>')
    assert "amplification" in attribute.error
