"""UIMA CAS as JSON 0.4, with its type system inside: a file a report, in a folder."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crb_dspy.convert.documents import Document
from crb_dspy.convert.formats import _cas

ABOUT = "UIMA CAS JSON (INCEpTION): a folder, a file a report"
SUFFIX = ""
ANSWERS = False


def read(path: Path) -> Iterator[Document]:
    """Yield a file, a folder of files, or the archives that INCEpTION exports."""
    return _cas.read(path, ".json", _load)


def _load(data: bytes, types: bytes | None) -> Any:
    return _cas.library().load_cas_from_json(io.BytesIO(data))


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a folder with a file a document."""
    path.mkdir(parents=True, exist_ok=True)
    for name, document in zip(_cas.names(documents, ".json").values(), documents, strict=True):
        _cas.cas_of(document).to_json(path / name)
