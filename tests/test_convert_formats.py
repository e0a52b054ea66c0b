"""Every format of an annotation tool, there and back: text, marks and ids stay what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crb_dspy.convert.documents import Document, Mark, as_case, in_order
from crb_dspy.convert.formats import NAMES, excel, find
from crb_dspy.errors import UserError

LIBRARIES = {
    "xmi": "cassis",
    "casjson": "cassis",
    "docbin": "spacy",
    "bioc": "bioc",
    "excel": "openpyxl",
}
# Formats that tell a program's marks from a person's, and what nobody has annotated.
TELLING = ("cases", "labelstudio", "prodigy", "argilla")
# Letters, astral characters, combining marks, line ends, and what markup and tables trip over.
CHARACTERS = st.sampled_from(list("ab Zé°µ😀𝔘e\u0301\n\t .,;:=+-\"'<>&{}[]#\\\u2028\u00a0"))
TEXTS = st.text(CHARACTERS, min_size=1, max_size=60).filter(str.strip)
NAMES_OF = st.text("abcXYZ0123_-", min_size=1, max_size=8)


@st.composite
def documents(draw: st.DrawFn, heading: bool = False) -> Document:
    text = draw(TEXTS)
    if heading or draw(st.booleans()):
        text = f"## Case\n{text}"
    places = st.integers(0, len(text) - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, len(text)))
    )
    keys = st.sampled_from(["GI", "Neuro", "a b&c"])
    marked = st.tuples(places, keys).map(lambda drawn: Mark(*drawn[0], drawn[1]))
    marks = draw(st.none() | st.lists(marked, max_size=5).map(in_order))
    predicted = marks is not None and draw(st.booleans())
    return Document("", text, marks, draw(st.just("") | NAMES_OF), predicted)


def collections() -> st.SearchStrategy[list[Document]]:
    named = st.dictionaries(NAMES_OF, documents(), min_size=1, max_size=3)
    return named.map(
        lambda by_id: [
            replace(one, id=f"{number}{name}") for number, (name, one) in enumerate(by_id.items())
        ]
    )


def stored(name: str, found: list[Document]) -> list[Document]:
    """Documents as a format gives them back."""
    pytest.importorskip(LIBRARIES.get(name, "json"), reason=f"{name} needs its library")
    form = find(name)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"out{form.SUFFIX}"
        form.write(path, found)
        return list(form.read(path))


def kept(name: str, one: Document) -> Document:
    """What a format can tell of a document."""
    if name == "doccano":
        return replace(one, predicted=False)
    return one if name in TELLING else replace(one, marks=one.marks or (), predicted=False)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cases"])
@given(found=collections())
# Without shrinking, which takes minutes where an example writes files.
@settings(
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_offsets_and_texts_survive_there_and_back(name: str, found: list[Document]) -> None:
    assert stored(name, found) == [kept(name, one) for one in found]


@given(found=collections())
def test_cases_keep_every_mark_at_its_characters(found: list[Document]) -> None:
    for one, back in zip(found, stored("cases", found), strict=True):
        case, marks = as_case(one)
        # An annotation without a mark keeps no category, and a prediction without one no findings.
        assert (back.id, back.text, back.marks, back.group, back.predicted) == (
            one.id,
            case.text,
            marks,
            one.group,
            one.predicted,
        )
        assert back.loose == ()


@given(one=documents(heading=True))
def test_a_text_with_headings_is_the_text_of_its_case(one: Document) -> None:
    case, marks = as_case(one)
    assert (case.text, marks) == (one.text, one.marks)


@given(one=documents())
def test_a_text_without_headings_only_moves(one: Document) -> None:
    case, marks = as_case(one)
    assert case.text.endswith(one.text)
    quotes = [one.text[m.start : m.end] for m in one.marks or ()]
    assert [case.text[m.start : m.end] for m in marks or ()] == quotes


@pytest.mark.parametrize("name", ["xmi", "casjson", "docbin", "bioc", "excel"])
@pytest.mark.parametrize("character", ["\x00", "\x0b", "\ud800", "\ufffe"])
def test_a_character_that_xml_cannot_hold_is_named(name: str, character: str) -> None:
    with pytest.raises(UserError, match=f"document 'c1': character U\\+{ord(character):04X} at 1"):
        stored(name, [Document("c1", f"a{character}", ())])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_kind_is_one_line(name: str, tmp_path: Path) -> None:
    pytest.importorskip(LIBRARIES.get(name, "json"))
    form = find(name)
    path = tmp_path / f"a{form.SUFFIX or ('.xmi' if name == 'xmi' else '.json')}"
    path.write_text('{"what": [1]}\n')
    (tmp_path / "TypeSystem.xml").write_text("<a/>")
    with pytest.raises(UserError) as caught:
        list(form.read(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_a_missing_library_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    with pytest.raises(UserError, match=r"pip install 'crb_dspy\[tools\]'"):
        find(name).write(tmp_path / "out", [Document("c1", "a", ())])


def test_excel_takes_a_report_that_no_cell_holds() -> None:
    text = "No fever. " * 5000
    long = Document("c1", text, (Mark(49_990, 49_999, "GI"),))
    assert stored("excel", [long]) == [long]


def test_a_cell_far_down_makes_no_rows_above_it(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row, values in {1: ("id", "text"), 2: ("a", "No fever."), 90_000: ("b", "Pain.")}.items():
        for column, value in enumerate(values, 1):
            book.active.cell(row, column, value)
    book.save(tmp_path / "far.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "far.xlsx", read_only=True).active
    assert [row["id"] for row in excel._rows(sheet)] == ["a", "b"]


def test_excel_keeps_what_looks_like_a_formula() -> None:
    text = "=1+1 was written."
    one = Document("c1", text, (Mark(0, 4, "GI"),))
    assert stored("excel", [one]) == [one]


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'labelstudio'"):
        find("label-studio")
