"""The metrics the benchmark publishes, for comparison with its results only.

They can be gamed (unrelated short cells may reach 100), so nothing is optimized towards them.
Definitions: the reference code's `eval_metrics.py` and `evaluation_and_EDA.ipynb`. Every score
is 0 to 100; the reference code's Levenshtein and exact match are 0 to 1, here times 100.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from types import MappingProxyType

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein
from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.process import cdist
from rapidfuzz.utils import default_process

Cell = Sequence[str]
Metric = Callable[[Cell, Cell], float]

# fuzzywuzzy drops exactly these before anything else, so that "37°C" reads "37c".
_DROPPED = dict.fromkeys(range(128, 256))


@dataclass(frozen=True)
class PaperMetric:
    """One published metric: what it is called, which way is better, and how a cell is scored."""

    name: str
    higher_is_better: bool
    function: Metric
    description: str


def _by_presence(metric: Metric) -> Metric:
    """Score a cell pair with an empty side by presence alone, and any other pair by `metric`."""

    @wraps(metric)
    def scored(gold: Cell, predicted: Cell) -> float:
        if gold and predicted:
            return metric(gold, predicted)
        return 0.0 if gold or predicted else 100.0

    return scored


@_by_presence
def tsr_raw(gold: Cell, predicted: Cell) -> float:
    """Mean over gold quotes of the best token set ratio against any predicted quote."""
    return _best_ratio(tuple(gold), tuple(predicted))


@_by_presence
def tsr_norm(gold: Cell, predicted: Cell) -> float:
    """Raw ratio as percent of the longer cell's whitespace token count, at most 100.

    This is the "TSR" of the published tables; a cell of more than 100 tokens cannot reach 100.
    """
    longest = max(len(" ".join(gold).split()), len(" ".join(predicted).split()), 1)
    return min(100.0, 100 * _best_ratio(tuple(gold), tuple(predicted)) / longest)


@_by_presence
def levenshtein(gold: Cell, predicted: Cell) -> float:
    """Mean over gold quotes of the best case-sensitive 1 - distance / longer length, times 100."""
    best = cdist(gold, predicted, scorer=Levenshtein.normalized_similarity, dtype=np.float64)
    return 100 * float(best.max(axis=1).mean())


def exact_match(gold: Cell, predicted: Cell) -> float:
    """100 if both cells hold the same quotes in the same order, else 0."""
    return 100.0 * (list(gold) == list(predicted))


def bleu1(gold: Cell, predicted: Cell) -> float:
    """Percent of predicted 13a tokens found in gold, clipped to the counts there."""
    return _ngram_precision(gold, predicted, 1)


def bleu4(gold: Cell, predicted: Cell) -> float:
    """Percent of predicted 4-grams found in gold, with no brevity penalty or smoothing.

    A predicted cell under four tokens scores 0, so two empty cells do as well.
    """
    return _ngram_precision(gold, predicted, 4)


def rouge_l(gold: Cell, predicted: Cell) -> float:
    """F-measure of the longest common subsequence of unstemmed [a-z0-9]+ words, times 100."""
    wanted, found = (re.findall("[a-z0-9]+", _joined(cell).lower()) for cell in (gold, predicted))
    return 200 * LCSseq.similarity(wanted, found) / max(1, len(wanted) + len(found))


def omission(gold: Cell, predicted: Cell) -> float:
    """100 if nothing was predicted for a cell with gold, else 0; NaN for a cell without gold."""
    return 100.0 * (not predicted) if gold else math.nan


def hallucination(gold: Cell, predicted: Cell) -> float:
    """100 if anything was predicted for a cell without gold, else 0; NaN for a cell with gold."""
    return math.nan if gold else 100.0 * bool(predicted)


def score_cell(gold: Cell, predicted: Cell, names: Iterable[str] | None = None) -> dict[str, float]:
    """Score one cell by the named metrics, or by all of `PAPER`; KeyError for an unknown name."""
    wanted = PAPER if names is None else names
    return {name: PAPER[name].function(gold, predicted) for name in wanted}


def aggregate(cells: Mapping[str, Sequence[float]]) -> float:
    """Mean over the cases of a category, then unweighted mean over categories.

    NaN cells do not count; a category of nothing else counts 0, as in the reference code.
    ValueError if there is no category, or one without cells.
    """
    if not cells or not all(len(scores) for scores in cells.values()):
        raise ValueError("every category needs at least one cell")
    return float(np.mean([_category_mean(scores) for scores in cells.values()]))


def _category_mean(scores: Sequence[float]) -> float:
    counted = [score for score in scores if not math.isnan(score)]
    return sum(counted) / max(1, len(counted))


# Both token set metrics need it for the same cell, and it is the dearest part of scoring.
@lru_cache(maxsize=1024)
def _best_ratio(gold: tuple[str, ...], predicted: tuple[str, ...]) -> float:
    wanted, found = ([_processed(quote) for quote in cell] for cell in (gold, predicted))
    ratios = cdist(wanted, found, scorer=token_set_ratio, dtype=np.float64)
    # fuzzywuzzy gives whole numbers, rounded half to even.
    return float(np.rint(ratios.max(axis=1)).mean())


def _processed(quote: str) -> str:
    return default_process(quote.lower().translate(_DROPPED))


def _joined(cell: Cell) -> str:
    return " ".join(cell) if cell else "unk"


def _ngram_precision(gold: Cell, predicted: Cell, order: int) -> float:
    reference, hypothesis = _joined(gold), _joined(predicted)
    if not reference.strip() and not hypothesis.strip():
        return 100.0
    found = _ngrams(hypothesis, order)
    matched = found & _ngrams(reference, order)
    return 100 * matched.total() / max(1, found.total())


def _ngrams(text: str, order: int) -> Counter[tuple[str, ...]]:
    tokens = _tokenizer()(text).split()
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


@lru_cache(maxsize=1)
def _tokenizer() -> Callable[[str], str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    build: Callable[[], Callable[[str], str]] = Tokenizer13a
    return build()


PAPER: Mapping[str, PaperMetric] = MappingProxyType(
    {
        function.__name__: PaperMetric(function.__name__, higher, function, description)
        for function, higher, description in (
            (tsr_raw, True, "best token set ratio per gold quote"),
            (tsr_norm, True, "the same over the longer cell's token count: the published TSR"),
            (levenshtein, True, "best edit similarity per gold quote"),
            (exact_match, True, "identical cells, order included"),
            (bleu1, True, "unigram precision of the joined cells"),
            (bleu4, True, "4-gram precision of the joined cells"),
            (rouge_l, True, "longest common subsequence F-measure of the joined cells"),
            (omission, False, "cells with gold for which nothing was predicted"),
            (hallucination, False, "cells without gold for which something was predicted"),
        )
    }
)
