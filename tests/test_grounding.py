from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from crb_dspy.quotes.grounding import NEGATION_CUES, Status, ground

REPORT = """## Case presentation
A 4-year-old girl, the patient's cousin, was admitted with vomiting at 37.5°C; no dark urine was
seen. Ammonia was 312 µmol/L (normal range 11–50 µmol/L), height -1.7 SD, and hearing normal.
She was given 2.5 mg of carglumic acid. “Floppy” limbs, hepatosplenomegaly and naïve gait.

## Follow-up
Vomiting ceased. Dysphagia and hepatosplenomegaly persisted, without seizures, during illness."""

WORDS = [(match.start(), match.end()) for match in re.finditer(r"\w+", REPORT)]
slices = st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)).map(
    lambda pair: (min(pair)[0], max(pair)[1])
)


def found(quote: str, text: str = REPORT) -> tuple[str, list[str]]:
    place = ground(text, quote)
    return place.status.value, [text[start:end] for start, end in place.spans]


@pytest.mark.parametrize(
    ("quote", "words"),
    [
        ("4 - year - old GIRL", "4-year-old girl"),
        ("the patient ' s cousin", "the patient's cousin"),
        ("37.5 ° C", "37.5°C"),
        ("37.5Â°C", "37.5°C"),
        ("37.5 Â ° C", "37.5°C"),
        ("11â€“50 μmol / L", "11–50 µmol/L"),
        ("312 umol", None),
        ("  normal   range\n11-50", "normal range 11–50"),
        ('"Floppy" limbs', "“Floppy” limbs"),
        ("naive gait", "naïve gait"),
        ("nai\u0308ve gait", "naïve gait"),
        ("naÃ¯ve gait", "naïve gait"),
        ("- no dark urine.", "no dark urine"),
        ("**No dark urine**", "no dark urine"),
        ("dark urine was seen", "dark urine was\nseen"),
        ("312µmol/L ( normal", "312 µmol/L (normal"),
        ("312 &micro;mol/L", "312 µmol/L"),
        ("hepato\u00adspleno\u200bmegaly and", "hepatosplenomegaly and"),
    ],
)
def test_normalised(quote: str, words: str | None) -> None:
    assert found(quote) == (("normalised", [words]) if words else ("ungrounded", []))


@pytest.mark.parametrize(
    ("quote", "words"),
    [
        ("was admited with vomiting", "was admitted with vomiting"),
        (
            "was admitted for vomiting at 37.5°C; no dark urine",
            "was admitted with vomiting at 37.5°C; no dark urine",
        ),
        ("was admitted at 37.5°C", None),
        ("hepatosplenomegaly gait", None),  # too much is left out
        ("girl, the patients cousin, was admitted", "girl, the patient's cousin, was admitted"),
        ("hepatosplenomegally and naive gait", "hepatosplenomegaly and naïve gait"),
        ("was given 2.5 mg carglumic acid", "was given 2.5 mg of carglumic acid"),
        ("haering normal", "hearing normal"),
        ("limbs hepatosplenomegaly and naïve gait", "limbs, hepatosplenomegaly and naïve gait"),
        ("carglumic acids", "carglumic acid"),
    ],
)
def test_fuzzy(quote: str, words: str | None) -> None:
    assert found(quote) == (("fuzzy", [words]) if words else ("ungrounded", []))


@pytest.mark.parametrize(
    "quote",
    [
        "",
        " \n\t",
        "ill",  # in "illness", "illnes" would be a slip
        "5 mg of carglumic acid",
        "2 mg of carglumic acid",
        "height 1.7 SD",
        "height, 1.7 SD",
        "height -1.8 SD",
        "no dark urine was not seen",
        "dark urine was not seen",
        "with seizures, during illness",
        "persisted, seizures, during illness",
        "Dysphasia and hepatosplenomegaly persisted",
        "Ammonia was 312 mmol/L (normal range 11–50 µmol/L)",
        "seizures persisted, without dysphagia",
        "The boy was admitted with lethargy",
    ],
)
def test_another_meaning_is_ungrounded(quote: str) -> None:
    assert ground(REPORT, quote).status is Status.UNGROUNDED
    assert ground(REPORT, quote).spans == ()


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("Severe hypotension was noted on arrival.", "Severe hypertension was noted on arrival"),
        ("Macrocytic anaemia was found on arrival.", "Microcytic anaemia was found on arrival"),
        ("There was a typical rash on both cheeks.", "There was atypical rash on both cheeks"),
        ("There was atypical rash on both cheeks.", "There was typical rash on both cheeks"),
        ("Weakness of the left arm and right leg.", "Weakness of the right arm and left leg"),
        ("She doesn't have a rash on her cheeks.", "She does have a rash on her cheeks"),
        ("The test was ≠ 5 and repeated.", "The test was = 5 and repeated"),
        ("Cultures were negative on three days.", "Cultures were on three days"),
    ],
)
def test_a_slip_is_not_a_change_of_meaning(text: str, quote: str) -> None:
    assert found(quote, text) == ("ungrounded", [])


def test_british_and_american_spelling_are_one() -> None:
    text = "Severe anaemia and oedema of the legs were noted."
    assert found("severe anemia and edema of the legs", text)[0] == "fuzzy"


def test_all_places_are_kept_whatever_their_case() -> None:
    assert found("vomiting") == ("exact", ["vomiting", "Vomiting"])
    assert found("VOMITING") == ("normalised", ["vomiting", "Vomiting"])
    assert found("hepatosplenomegaly") == ("exact", ["hepatosplenomegaly"] * 2)
    assert found("hepatosplenomegallly") == ("ungrounded", [])
    assert found("hepatosplenomegally") == ("fuzzy", ["hepatosplenomegaly"] * 2)


def test_words_and_numbers_are_not_cut() -> None:
    text = "Illness: 12.5 mg, 1,250 cells, T2 lesions5 and analysis."
    for quote in ("Ill", "12", "5 mg", "250 cells", "1", "lesio", "nalysis"):
        assert found(quote, text) == ("ungrounded", [])
    assert found("lesions", text) == ("exact", ["lesions"])
    assert found("12.5", text) == ("exact", ["12.5"])


def test_scripts_without_spaces_have_no_word_ends() -> None:
    assert found("发热", "患者出现发热和呕吐。") == ("exact", ["发热"])


@given(slices)
def test_a_slice_of_the_report_is_exact(span: tuple[int, int]) -> None:
    quote = REPORT[slice(*span)]
    place = ground(REPORT, quote)
    if not re.search(r"\d[.,]$", REPORT[: span[0]]) and not re.match(r"[.,]\d", REPORT[span[1] :]):
        assert place.status is Status.EXACT
        assert span in place.spans or any(REPORT[s:e] == quote for s, e in place.spans)


MANGLES: dict[str, Callable[[str], str]] = {
    "spaces": lambda s: re.sub(r"\s+", " \u00a0\n", s),
    "upper": str.upper,
    "lower": str.lower,
    "dashes": lambda s: re.sub("[-–]", " — ", s),
    "tokenised": lambda s: re.sub(r"([^\w\s\u0300-\u036f])", r" \1 ", s),
    "wide": lambda s: re.sub("[!-~]", lambda m: chr(ord(m[0]) + 0xFEE0), s),
    "decomposed": lambda s: unicodedata.normalize("NFD", s),
    "marked": lambda s: f"“{s}”.",
}


@given(slices, st.lists(st.sampled_from(sorted(MANGLES)), min_size=1, max_size=3, unique=True))
def test_mangling_does_not_move_a_quote(span: tuple[int, int], how: list[str]) -> None:
    quote = REPORT[slice(*span)]
    before = ground(REPORT, quote)
    assume(before.spans)
    mangled = quote
    for name in how:
        mangled = MANGLES[name](mangled)
    after = ground(REPORT, mangled)
    assert after.status in (Status.EXACT, Status.NORMALISED)
    assert after.spans == before.spans


@given(slices)
def test_mojibake_does_not_move_a_quote(span: tuple[int, int]) -> None:
    before = ground(REPORT, REPORT[slice(*span)])
    # Five bytes have no character in Windows-1252; they come through as themselves.
    broken = "".join(
        bytes([byte]).decode("cp1252", "ignore") or chr(byte)
        for byte in before.quote.encode("utf-8")
    )
    assert ground(REPORT, broken).spans == before.spans


@given(slices, st.sampled_from(sorted(NEGATION_CUES)))
def test_a_negation_is_never_invented(span: tuple[int, int], cue: str) -> None:
    quote = f"{cue} {REPORT[slice(*span)]}"
    assume(" ".join(quote.split()).lower() not in " ".join(REPORT.split()).lower())
    assert ground(REPORT, quote).status is Status.UNGROUNDED


ODD = "aAbé 1.,-’\"'()&;#\n\0\u0301\u00ad\ud800ﬁßİ½²≠Ââ€™°中"
HOSTILE = st.text(st.sampled_from(ODD), max_size=60)


@given(HOSTILE | st.text(), HOSTILE | st.text())
@example("", "1234567")
@example("1", "123456789")
@example("ﬁ", "f")
def test_spans_lie_in_any_text(text: str, quote: str) -> None:
    place = ground(text, quote)
    assert place.quote == quote
    assert bool(place.spans) == (place.status is not Status.UNGROUNDED)
    assert all(0 <= start < end <= len(text) for start, end in place.spans)
    assert list(place.spans) == sorted(place.spans)
    assert all(a[1] <= b[0] for a, b in zip(place.spans, place.spans[1:], strict=False))
    if place.status is Status.EXACT:
        assert quote in [text[start:end] for start, end in place.spans]


@pytest.mark.parametrize(
    "quote",
    ["a" * 10_000, "no " * 3_333, "(" * 10_000, "1," * 5_000, "\0" * 10_000, REPORT * 17],
)
def test_hostile_quotes_come_back(quote: str) -> None:
    assert ground(REPORT * 20, quote).status in Status
