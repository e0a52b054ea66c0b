"""The laws of the objective, and what it says of typical answers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.scoring.objective import by_category, score_cell, summarise
from crb_dspy.scoring.reason import LIMIT

# Every content word stands once, so that a quote and each of its pieces mean one place.
NAMES = [f"q{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
CUES = ("no", "not", "without", "denied")

Span = tuple[int, int]


@st.composite
def reports(draw: st.DrawFn) -> list[str]:
    """Words of a report: names that stand once, cues before some of them, function words."""
    words: list[str] = []
    left = list(CUES)
    for name in NAMES[: draw(st.integers(6, 40))]:
        filler = draw(st.sampled_from(["", "", "the", "of", *left]))
        left = [cue for cue in left if cue != filler]
        words += [filler, name] if filler else [name]
    return words


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A report, gold and predicted quotes, whole words of the report each."""
    words = draw(reports())
    spans = st.integers(0, len(words) - 1).flatmap(
        lambda a: st.tuples(st.just(a), st.integers(a + 1, min(len(words), a + 6)))
    )

    def texts(several: list[Span]) -> list[str]:
        quotes = (" ".join(words[a:b]) for a, b in several)
        return [quote for quote in quotes if set(quote.split()) & set(NAMES)]

    gold, other = (texts(draw(st.lists(spans, max_size=5))) for _ in range(2))
    kept = [quote for quote in gold if draw(st.booleans())]
    return " ".join(words), gold, kept + other


def value(cell: tuple[str, list[str], list[str]]) -> float:
    return score_cell(*cell).score


def halves(quote: str, at: int) -> list[str]:
    words = quote.split()
    cut = at % len(words)
    return [" ".join(half) for half in (words[:cut], words[cut:]) if half]


def touches(text: str, quote: str, gold: list[str]) -> bool:
    """Say whether a quote shares or adjoins a word with gold."""
    at = text.index(quote)
    own = range(at - 1, at + len(quote) + 2)
    return any(
        set(own) & set(range(text.index(other), text.index(other) + len(other))) for other in gold
    )


@settings(deadline=None)
@given(cells())
def test_the_score_is_between_none_and_all(cell: tuple[str, list[str], list[str]]) -> None:
    assert 0 <= value(cell) <= 1


@settings(deadline=None)
@given(cells())
def test_gold_scores_full_marks(cell: tuple[str, list[str], list[str]]) -> None:
    text, gold, _ = cell
    assert score_cell(text, gold, gold).score == 1


@settings(deadline=None)
@given(cells(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(
    cell: tuple[str, list[str], list[str]], chance: object
) -> None:
    text, gold, predicted = cell
    shuffled = predicted[::-1] + predicted[:2]
    assert value((text, gold[::-1] + gold[:1], shuffled)) == value(cell)


@settings(deadline=None)
@given(cells(), st.integers(1, 5))
def test_splitting_quotes_changes_nothing(cell: tuple[str, list[str], list[str]], at: int) -> None:
    text, gold, predicted = cell
    cut = [half for quote in predicted for half in halves(quote, at)]
    assert value((text, gold, cut)) == pytest.approx(value(cell))
    assert score_cell(text, gold, [h for quote in gold for h in halves(quote, at)]).score == 1


@settings(deadline=None)
@given(cells(), st.integers(0, 100))
def test_text_outside_gold_never_helps(cell: tuple[str, list[str], list[str]], at: int) -> None:
    text, gold, predicted = cell
    words = text.split()
    extra = words[at % len(words)]
    if extra in NAMES and not touches(text, extra, gold):
        assert value((text, gold, [*predicted, extra])) <= value(cell) + 1e-12
    assert value((text, gold, [*predicted, "nowhere in it"])) <= value(cell)


@settings(deadline=None)
@given(cells())
def test_leaving_out_a_gold_quote_never_helps(cell: tuple[str, list[str], list[str]]) -> None:
    text, gold, predicted = cell
    for quote in set(gold) & set(predicted):
        fewer = [other for other in predicted if other != quote]
        assert value((text, gold, fewer)) <= value(cell) + 1e-12


@settings(deadline=None)
@given(st.lists(st.sampled_from(CUES), min_size=1, max_size=6))
def test_dropping_the_negation_of_a_finding_always_costs(cues: list[str]) -> None:
    findings = [f"{cue} {name} of the {name}x" for cue, name in zip(cues, NAMES, strict=False)]
    text = ". ".join(["He came with pain", *findings, "All went well"])
    for i, finding in enumerate(findings):
        bare = [*findings[:i], finding.split(" ", 1)[1], *findings[i + 1 :]]
        cell = score_cell(text, findings, bare)
        assert cell.score < 1
        assert cell.polarity_errors == 1
        assert cell.negatives_found == cell.negatives - 1


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300), st.lists(st.text(max_size=40)), st.lists(st.text(max_size=40)))
def test_any_text_is_survived(text: str, gold: list[str], predicted: list[str]) -> None:
    cell = score_cell(text, gold, predicted)
    assert 0 <= cell.score <= 1
    assert len(cell.reason) <= LIMIT
    assert score_cell(text, gold, gold).score == 1


REPORT = (
    "A boy of 3 years had fever of 39 °C and cough. There was no rash. He denied pain. "
    "The liver was palpable 4 cm below the ribs. Hearing was normal."
)


@pytest.mark.parametrize(
    ("gold", "predicted", "score"),
    [
        ([], [], 1.0),
        (["cough"], [], 0.0),
        ([], ["cough"], 0.0),
        ([""], [" "], 1.0),
        (["fever of 39 °C"], ["fever of 39 °C and cough"], 2 * 0.75 / 1.75),
        (["fever of 39 °C", "cough"], ["cough"], 2 * 0.25 / 1.25),
        (["cough"], ["cough", "purple spots"], 2 * (1 / 3) / (4 / 3)),
        (["no rash"], ["There was no rash"], 1.0),
    ],
)
def test_typical_cells(gold: list[str], predicted: list[str], score: float) -> None:
    assert score_cell(REPORT, gold, predicted).score == pytest.approx(score)


@pytest.mark.parametrize(
    ("gold", "predicted", "said"),
    [
        (["no rash"], ["rash"], 'quoted without its negation: "no rash"'),
        (["cough"], ["cough", "purple spots"], 'not in the report: "purple spots"'),
        (["cough", "no rash"], ["cough"], 'missed: "no rash"'),
        (["cough"], ["cough", "denied pain"], 'extra: "denied pain"'),
        ([], ["cough"], "nothing to quote here"),
        (["cough"], [], "nothing was quoted"),
        (["cough"], ["cough"], "complete, nothing extra"),
        ([], [], "rightly empty"),
    ],
)
def test_a_score_says_why(gold: list[str], predicted: list[str], said: str) -> None:
    assert said in score_cell(REPORT, gold, predicted).reason


def test_a_finding_said_without_its_negation_in_other_words_is_a_polarity_error() -> None:
    report = "There was no history of seizures. He was well."
    cell = score_cell(report, ["no history of seizures"], ["There was history of seizures"])
    assert (cell.negatives, cell.negatives_found, cell.polarity_errors) == (1, 0, 1)


def test_metrics_of_a_set_of_cells() -> None:
    rows = [
        ("a", "GI", score_cell(REPORT, [], [])),
        ("a", "DERM", score_cell(REPORT, ["no rash"], ["rash"])),
        ("b", "GI", score_cell(REPORT, [], ["cough"])),
        ("b", "DERM", score_cell(REPORT, ["no rash"], ["no rash"])),
        ("b", "Neuro", score_cell(REPORT, ["denied pain"], ["made up"])),
    ]
    found = summarise(rows)
    half = 2 * 0.5 / 1.5
    assert found["cell_mean"] == pytest.approx(((1 + half) / 2 + (0 + 1 + 0) / 3) / 2)
    filled = (half + 1 + 0) / 3
    assert found["score"] == pytest.approx(2 * 0.5 * filled / (0.5 + filled))
    assert found["empty_agreement"] == 0.5
    assert found["nonempty_f1"] == pytest.approx((half + 1 + 0) / 3)
    assert found["negation_recall"] == pytest.approx(1 / 3)
    assert found["ungrounded"] == pytest.approx(1 / 4)
    assert found["polarity_errors"] == 1
    assert by_category(rows)["GI"]["score"] == 0.5
    assert math.isnan(by_category(rows)["GI"]["negation_recall"])
