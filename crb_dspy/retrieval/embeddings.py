"""Texts as vectors, by a model of sentence-transformers on this machine, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

from crb_dspy.errors import UserError, one_line

Vector = tuple[float, ...]
# A text counts in several trainings, over as many folds.
_KEPT = 1 << 14
_known: dict[tuple[str, str], Vector] = {}
# Reports are read by several threads, and one may clear what another is about to take.
_ONE = Lock()


def vectors(model: str, texts: Sequence[str]) -> list[Vector]:
    """Return a vector of length 1 for each text, to four decimals.

    `model` is the name or the folder of one of sentence-transformers, with weights as
    safetensors. UserError if that is not installed, or has no such model.
    """
    with _ONE:
        new = [text for text in dict.fromkeys(texts) if (model, text) not in _known]
        if new:
            encoder = _encoder(model)
            if len(_known) + len(new) > _KEPT:
                _known.clear()
                new = list(dict.fromkeys(texts))
            # The last digits hang on what else is in a batch.
            for text, row in zip(new, encoder.encode(new, normalize_embeddings=True), strict=True):
                _known[model, text] = tuple(round(float(value), 4) for value in row)
        return [_known[model, text] for text in texts]


@lru_cache(maxsize=2)
def _encoder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        said = "embeddings need sentence-transformers: pip install 'crb_dspy[embeddings]'"
        raise UserError(f"embeddings = '{model}': {said}, or leave embeddings out") from error
    try:
        # Other files of weights are pickles, which are code.
        return SentenceTransformer(model, model_kwargs={"use_safetensors": True})
    except Exception as error:
        said = "sentence-transformers cannot load it"
        raise UserError(f"embeddings = '{model}': {said}: {one_line(error, 120)}") from error
