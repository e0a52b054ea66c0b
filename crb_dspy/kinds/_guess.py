"""Systems that ask no model: the most frequent answer, and a classifier of whole reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crb_dspy.data.kind import COMMON, LEARNT, Guess

Label = tuple[str, ...]


def guesses(known: Sequence[tuple[str, Label]]) -> dict[str, Guess]:
    """Return both, learnt from texts and their answers; none from nothing."""
    if not known:
        return {}
    counts = Counter(label for _, label in known)
    common = min(counts, key=lambda label: (-counts[label], label))
    found: dict[str, Guess] = {COMMON: lambda case: common, LEARNT: lambda case: common}
    if len(counts) > 1:
        found[LEARNT] = _classifier(known)
    return found


def _classifier(known: Sequence[tuple[str, Label]]) -> Guess:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    labels = sorted({label for _, label in known})
    # In one order, since cases come in any; nothing is drawn at random.
    ordered = sorted(known)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    model = make_pipeline(words, LogisticRegression(C=20.0, class_weight="balanced"))
    model.fit([text for text, _ in ordered], [labels.index(label) for _, label in ordered])
    return lambda case: labels[int(model.predict([case.text])[0])]
