"""spaCy DocBin: marks as the span group "sc", and as entities where they do not overlap.

Tokens end where marks do, so that no mark is moved. What is read are all span groups and the
entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from crb_dspy.convert.documents import Document, Mark, in_order, writable
from crb_dspy.errors import UserError

ABOUT = "spaCy DocBin: span group 'sc', entities"
SUFFIX = ".spacy"
ANSWERS = False
_GROUP = "sc"
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


def read(path: Path) -> Iterator[Document]:
    """Yield the docs of a file; UserError if it is not a DocBin."""
    spacy = _library()
    from spacy.tokens import DocBin

    try:
        found = DocBin().from_bytes(path.read_bytes())
    # zlib and msgpack have errors of their own, none of them a ValueError alone.
    except (ValueError, KeyError, TypeError, OSError, _zlib_error()) as error:
        raise UserError(f"{path}: not a DocBin of spaCy") from error
    for number, doc in enumerate(found.get_docs(spacy.blank("xx").vocab), 1):
        spans = [*doc.ents, *(span for group in doc.spans.values() for span in group)]
        marks = in_order(Mark(s.start_char, s.end_char, s.label_) for s in spans if s.label_)
        name = doc.user_data.get("case", number)
        yield Document(str(name), doc.text, marks, str(doc.user_data.get("group") or ""))


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a DocBin that `spacy train` reads."""
    spacy = _library()
    from spacy.tokens import DocBin

    vocab, out = spacy.blank("xx").vocab, DocBin(store_user_data=True)
    for document in documents:
        writable(document, "DocBin")
        out.add(_doc(vocab, document))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.to_bytes())


def _doc(vocab: Any, document: Document) -> Any:
    from spacy.tokens import Doc, SpanGroup

    words, spaces = _tokens(document)
    doc = Doc(vocab, words=words, spaces=spaces)
    marks = document.marks or ()
    # Any: tokens are cut so that there is a span for every mark.
    spans: list[Any] = [doc.char_span(m.start, m.end, label=m.category) for m in marks]
    doc.spans[_GROUP] = SpanGroup(doc, name=_GROUP, spans=spans)
    if len({at for span in spans for at in range(span.start, span.end)}) == sum(map(len, spans)):
        doc.ents = spans
    doc.user_data.update({"case": document.id, "group": document.group})
    return doc


def _tokens(document: Document) -> tuple[list[str], list[bool]]:
    """Return words and spaces that make up the text again, cut wherever a mark begins or ends."""
    text = document.text
    ends = {at for m in document.marks or () for at in (m.start, m.end)}
    cuts = sorted(ends | {m.end() for m in _TOKEN.finditer(text)} | {0, len(text)})
    words: list[str] = []
    spaces: list[bool] = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        # spaCy keeps one space with the word before it, unless a mark begins or ends there.
        if piece == " " and words and not spaces[-1] and start not in ends and end not in ends:
            spaces[-1] = True
        else:
            words.append(piece)
            spaces.append(False)
    return words, spaces


def _library() -> Any:
    try:
        import spacy
    except ImportError as error:
        raise UserError("DocBin needs spacy: pip install 'crb_dspy[tools]'") from error
    return spacy


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error
