"""BioC XML, and BioC JSON where the file ends in .json: a document a report.

Marks are annotations with the category as the infon `type`; one that goes over several places is
marked from its first to its last. What is no mark is an infon of its document, by the key of its
category, an item a line. Passages are put together at their offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crb_dspy.convert.documents import Document, Mark, in_order, mark, writable
from crb_dspy.errors import UserError, one_line

ABOUT = "BioC: XML, or JSON by the ending .json"
SUFFIX = ".xml"
ANSWERS = True


def read(path: Path) -> Iterator[Document]:
    """Yield the documents of a collection; UserError if it is not BioC."""
    library = _library()
    from bioc import biocjson

    try:
        with path.open(encoding="utf-8") as file:
            found = (biocjson if path.suffix == ".json" else library).load(file)
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise UserError(f"{path}: not a BioC collection: {one_line(error, 120)}") from error
    for document in found.documents:
        yield _document(f"{path}: document '{document.id}'", document, path.stat().st_size)


def _document(where: str, document: Any, most: int) -> Document:
    text = ""
    for passage in document.passages:
        # What lies between passages is filled up.
        if passage.offset > most:
            raise UserError(f"{where}: a passage at {passage.offset}, behind the end of the file")
        whole = passage.text or " ".join(sentence.text for sentence in passage.sentences)
        text = text.ljust(passage.offset, "\n") + whole
    found = [*document.annotations]
    for passage in document.passages:
        found += passage.annotations
        found += [one for sentence in passage.sentences for one in sentence.annotations]
    marks = in_order(_mark(where, text, one) for one in found if one.locations)
    group = str(document.infons.get("group") or "")
    told = {k: str(v).split("\n") for k, v in document.infons.items() if k != "group"}
    return Document(str(document.id), text, marks, group, given=told)


def _mark(where: str, text: str, one: Any) -> Mark:
    start, end = (
        min(place.offset for place in one.locations),
        max(place.end for place in one.locations),
    )
    if len(one.locations) == 1 and one.text and text[start:end] != one.text:
        raise UserError(
            f"{where}: the text has {text[start:end][:40]!r} at {start}, not {one.text[:40]!r}"
        )
    return mark(where, text, (start, end), str(one.infons.get("type") or ""))


def write(path: Path, documents: Sequence[Document]) -> None:
    """Write a collection."""
    library = _library()
    from bioc import biocjson

    collection = library.BioCCollection()
    collection.source = "crb_dspy"
    for document in documents:
        writable(document, "BioC")
        collection.add_document(_bioc(library, document))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        (biocjson if path.suffix == ".json" else library).dump(collection, file)


def _bioc(library: Any, document: Document) -> Any:
    out, passage = library.BioCDocument(), library.BioCPassage()
    out.id, out.infons = document.id, {"group": document.group} if document.group else {}
    out.infons |= {key: "\n".join(own.items) for key, own in document.answers.items()}
    passage.offset, passage.text = 0, document.text
    for number, one in enumerate(document.marks or ()):
        annotation = library.BioCAnnotation()
        annotation.id, annotation.infons = f"m{number}", {"type": one.category}
        annotation.text = document.text[one.start : one.end]
        annotation.add_location(library.BioCLocation(one.start, one.end - one.start))
        passage.add_annotation(annotation)
    out.add_passage(passage)
    return out


def _library() -> Any:
    try:
        import bioc
    except ImportError as error:
        raise UserError("BioC needs bioc: pip install 'crb_dspy[tools]'") from error
    return bioc
