"""UIMA CAS as XMI, which INCEpTION, WebAnno and cTAKES read: a file a report, in a folder.

`TypeSystem.xml` lies beside them. Marks are named entities with the category as `value`; what is
read are named entities and annotations of custom layers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crb_dspy.convert.documents import Document
from crb_dspy.convert.formats import _cas
from crb_dspy.errors import UserError

ABOUT = "UIMA CAS XMI (INCEpTION): a folder, a file a report"
SUFFIX = ""
ANSWERS = False


def read(path: Path) -> Iterator[Document]:
    """Yield a file, a folder of files, or the archives that INCEpTION exports."""
    return _cas.read(path, ".xmi", _load)


def _load(data: bytes, types: bytes | None) -> Any:
    cassis = _cas.library()
    if types is None:
        raise UserError("TypeSystem.xml is not beside the XMI: export it with the file")
    system = cassis.load_typesystem(io.BytesIO(types))
    return cassis.load_cas_from_xmi(io.BytesIO(data), typesystem=system, lenient=True)


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a folder with a file a document, and the type system."""
    path.mkdir(parents=True, exist_ok=True)
    _cas.type_system().to_xml(path / "TypeSystem.xml")
    for name, document in zip(_cas.names(documents, ".xmi").values(), documents, strict=True):
        _cas.cas_of(document).to_xmi(path / name)
