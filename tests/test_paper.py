"""The published metrics against a slow transcription of their definitions."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.scoring import paper

sacrebleu = pytest.importorskip("sacrebleu")
fuzz = pytest.importorskip("thefuzz.fuzz")
rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")

Cell = list[str]
ROUGE = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def mean_best(gold: Cell, predicted: Cell, similarity: Callable[[str, str], float]) -> float:
    if not gold and not predicted:
        return 100.0
    if not gold or not predicted:
        return 0.0
    return sum(max(similarity(a, b) for b in predicted) for a in gold) / len(gold)


def ratio(a: str, b: str) -> float:
    return float(fuzz.token_set_ratio(a.lower(), b.lower()))


def edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def similarity(a: str, b: str) -> float:
    return 100 * (1 - edits(a, b) / max(len(a), len(b), 1))


def slow_tsr_norm(gold: Cell, predicted: Cell) -> float:
    raw = mean_best(gold, predicted, ratio)
    if not gold or not predicted:
        return raw
    longest = max(len([w for quote in cell for w in quote.split()]) for cell in (gold, predicted))
    return min(100.0, raw / max(longest, 1) * 100)


def slow_bleu(gold: Cell, predicted: Cell, order: int) -> float:
    reference, hypothesis = " ".join(gold or ["unk"]), " ".join(predicted or ["unk"])
    if not reference.split() or not hypothesis.split():
        return 0.0 if reference.split() or hypothesis.split() else 100.0
    bleu = sacrebleu.corpus_bleu([hypothesis], [[reference]], smooth_method="none")
    return float(bleu.precisions[order - 1])


def slow_rouge(gold: Cell, predicted: Cell) -> float:
    reference, hypothesis = " ".join(gold or ["unk"]), " ".join(predicted or ["unk"])
    return float(100 * ROUGE.score(reference, hypothesis)["rougeL"].fmeasure)


ORACLE: dict[str, Callable[[Cell, Cell], float]] = {
    "tsr_raw": lambda gold, predicted: mean_best(gold, predicted, ratio),
    "tsr_norm": slow_tsr_norm,
    "levenshtein": lambda gold, predicted: mean_best(gold, predicted, similarity),
    "exact_match": lambda gold, predicted: 100.0 if gold == predicted else 0.0,
    "bleu1": lambda gold, predicted: slow_bleu(gold, predicted, 1),
    "bleu4": lambda gold, predicted: slow_bleu(gold, predicted, 4),
    "rouge_l": slow_rouge,
}

VOCABULARY = (
    "no seizures hypotonia 140/90 mmHg 37°C µg/L α-galactosidase β2 naïve É <0.5 &amp; don't "
    "Elevated elevated ammonia, lactate 3.2 mmol/l (normal) 1,000 a_b – … 病 unk 12-year-old"
)
WORDS = VOCABULARY.split()


def random_cell(rng: random.Random) -> Cell:
    quotes = [" ".join(rng.choices(WORDS, k=rng.randint(0, 9))) for _ in range(rng.randint(0, 5))]
    return quotes + rng.sample(quotes, k=min(len(quotes), rng.randint(0, 1)))


def random_pair(seed: int) -> tuple[Cell, Cell]:
    rng = random.Random(seed)
    gold = random_cell(rng)
    kept = [quote for quote in gold if rng.random() < 0.6]
    return gold, kept + random_cell(rng) if rng.random() < 0.6 else kept


def agrees(gold: Cell, predicted: Cell) -> None:
    scores = paper.score_cell(gold, predicted, ORACLE)
    expected = {name: slow(gold, predicted) for name, slow in ORACLE.items()}
    assert scores == pytest.approx(expected, abs=1e-9), (gold, predicted)


@pytest.mark.parametrize("block", range(4))
def test_random_cells_agree_with_the_definitions(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        agrees(*random_pair(seed))


# 13a joins a word split by "-\n"; sacrebleu first strips the cell's end, the reference does not.
texts = st.lists(st.text(max_size=30).filter(lambda text: "\n" not in text), max_size=4)


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_any_unicode_agrees_with_the_definitions(gold: Cell, predicted: Cell) -> None:
    agrees(gold, predicted)


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [([], [""]), ([""], []), ([""], [""]), ([" "], ["a"]), (["a"], [" "]), (["..."], ["..."])],
)
def test_blank_quotes_agree_with_the_definitions(gold: Cell, predicted: Cell) -> None:
    agrees(gold, predicted)


def test_two_empty_cells_are_perfect_but_for_the_four_gram_precision_of_unk() -> None:
    scores = paper.score_cell([], [], ORACLE)
    assert scores.pop("bleu4") == 0
    assert set(scores.values()) == {100.0}


def test_one_empty_cell_scores_nothing() -> None:
    for gold, predicted in ((["fever"], []), ([], ["fever"])):
        assert set(paper.score_cell(gold, predicted, ORACLE).values()) == {0.0}


def test_an_empty_cell_reads_unk() -> None:
    assert paper.bleu1([], ["unk"]) == paper.rouge_l(["unk"], []) == 100


def test_scores_ask_how_much_of_gold_was_found() -> None:
    one, two = ["fever"], ["fever", "polyuria"]
    assert paper.tsr_raw(one, two) == paper.levenshtein(one, two) == 100
    assert paper.tsr_raw(two, one) < 100


def test_only_edit_similarity_and_the_bleus_see_case() -> None:
    assert paper.tsr_raw(["FEVER"], ["fever"]) == paper.rouge_l(["FEVER"], ["fever"]) == 100
    assert paper.levenshtein(["FEVER"], ["fever"]) == paper.bleu1(["FEVER"], ["fever"]) == 0


def test_normalised_ratio_can_neither_reach_nor_withhold_full_marks_fairly() -> None:
    long = [" ".join(f"word{i}" for i in range(200))]
    assert paper.tsr_norm(long, long) == 50
    assert paper.tsr_norm(["icterus"], ["petechiae"]) == 100


def test_presence_metrics_are_undefined_where_they_do_not_apply() -> None:
    assert paper.omission(["fever"], []) == 100 and paper.omission(["fever"], ["x"]) == 0
    assert paper.hallucination([], ["x"]) == 100 and paper.hallucination([], []) == 0
    assert math.isnan(paper.omission([], ["x"])) and math.isnan(paper.hallucination(["x"], []))


def test_score_cell_keeps_to_the_names_asked_for() -> None:
    assert list(paper.score_cell(["a"], ["a"])) == list(paper.PAPER)
    assert paper.score_cell(["a"], ["a"], []) == {}
    with pytest.raises(KeyError):
        paper.score_cell(["a"], ["a"], ["f1"])


def test_aggregate_weighs_categories_alike_and_skips_undefined_cells() -> None:
    nan = math.nan
    assert paper.aggregate({"GI": [100, 0, 50], "RESP": [10]}) == 30
    assert paper.aggregate({"GI": [nan, 80], "RESP": [nan, nan]}) == 40
    empty: list[dict[str, list[float]]] = [{}, {"GI": []}]
    for cells in empty:
        with pytest.raises(ValueError, match="at least one cell"):
            paper.aggregate(cells)
