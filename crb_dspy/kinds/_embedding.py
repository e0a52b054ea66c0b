"""Similarity by a model of sentence-transformers, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from crb_dspy.errors import UserError


def cosines(model: str, one: Sequence[str], two: Sequence[str]) -> list[list[float]]:
    """Return the cosine of every text of one side with every one of the other."""
    embedder = _embedder(model)
    a, b = (embedder.encode(list(side), normalize_embeddings=True) for side in (one, two))
    return [[float(value) for value in row] for row in a @ b.T]


@lru_cache(maxsize=2)
def _embedder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        said = "embeddings need sentence-transformers: pip install 'crb_dspy[embeddings]'"
        raise UserError(f"embeddings = '{model}': {said}, or leave embeddings out") from error
    return SentenceTransformer(model)
