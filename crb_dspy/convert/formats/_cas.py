"""UIMA CAS by dkpro-cassis: one file a report, marks as annotations with a label."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crb_dspy.convert.documents import Document, in_order, mark, writable
from crb_dspy.errors import UserError, one_line

# INCEpTION and WebAnno have this layer in every project.
ENTITY = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
META = "de.tudarmstadt.ukp.dkpro.core.api.metadata.type.DocumentMetaData"
_LABELS = ("value", "label")
_OWN = ("webanno.custom.", "custom.")

# From the bytes of a file and those of the type system beside it, if any, to a CAS.
Load = Callable[[bytes, bytes | None], Any]


def library() -> Any:
    """Return dkpro-cassis; UserError where it is not installed."""
    try:
        import cassis
    except ImportError as error:
        remedy = "pip install 'crb_dspy[tools]'"
        raise UserError(f"UIMA CAS needs dkpro-cassis: {remedy}") from error
    return cassis


def read(path: Path, suffix: str, load: Load) -> Iterator[Document]:
    """Yield a file, the files below a folder, or those in the archives that INCEpTION exports."""
    for name, data, types in _files(path, suffix):
        try:
            cas = load(data, types)
        except UserError:
            raise
        # The library lets through what lxml, json and its own lookups raise.
        except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
            raise UserError(f"{name}: not a CAS: {one_line(error, 120)}") from error
        yield _document(name, cas)


def _files(path: Path, suffix: str) -> Iterator[tuple[str, bytes, bytes | None]]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (suffix, ".zip") and p.is_file())
        if not found:
            raise UserError(f"{path}: no {suffix} file in this folder")
        for one in found:
            yield from _files(one, suffix)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(suffix)]
            kept = {Path(name).name: name for name in archive.namelist()}
            types = archive.read(kept["TypeSystem.xml"]) if "TypeSystem.xml" in kept else None
            for name in names:
                yield f"{path}, {name}", archive.read(name), types
    else:
        beside = path.with_name("TypeSystem.xml")
        yield str(path), path.read_bytes(), beside.read_bytes() if beside.is_file() else None


def _document(name: str, cas: Any) -> Document:
    text = cas.sofa_string or ""
    marks = in_order(
        mark(name, text, (one.begin, one.end), label)
        for one in cas.select_all()
        if (label := _label(one)) and one.begin is not None and one.begin < one.end
    )
    about = [*cas.select(META)] if cas.typesystem.contains_type(META) else []
    title = getattr(about[0], "documentTitle", None) if about else None
    group = getattr(about[0], "collectionId", None) if about else None
    return Document(str(title or Path(name.rpartition(", ")[2]).stem), text, marks, group or "")


def _label(one: Any) -> str:
    """Return the label of a named entity or of a layer of one's own, "" of anything else."""
    kind = one.type.name
    if not (kind == ENTITY or kind.startswith(_OWN)) or not hasattr(one, "begin"):
        return ""
    # By the type: every feature structure has a method `value`.
    own = {feature.name for feature in one.type.all_features}
    named = (getattr(one, feature) for feature in _LABELS if feature in own)
    return next((str(value) for value in named if value), kind.rpartition(".")[2])


def cas_of(document: Document) -> Any:
    """Return a document as a CAS: named entities, and metadata with id and group."""
    writable(document, "a CAS")
    types = type_system()
    cas = library().Cas(types)
    cas.sofa_string, cas.sofa_mime = document.text, "text/plain"
    about = {
        "documentTitle": document.id,
        "documentId": document.id,
        "collectionId": document.group,
    }
    end = len(document.text)
    cas.add(types.get_type(META)(begin=0, end=end, language="x-unspecified", **about))
    entity = types.get_type(ENTITY)
    for one in document.marks or ():
        cas.add(entity(begin=one.start, end=one.end, value=one.category))
    return cas


def type_system() -> Any:
    """Return the two types that are written, as DKPro Core defines them."""
    types = library().TypeSystem()
    kinds = {
        ENTITY: ("uima.tcas.Annotation", ("value", "identifier")),
        META: ("uima.tcas.DocumentAnnotation", ("documentTitle", "documentId", "collectionId")),
    }
    for name, (parent, features) in kinds.items():
        made = types.create_type(name, parent)
        for feature in features:
            types.create_feature(made, feature, "uima.cas.String")
    return types


def names(documents: Sequence[Document], suffix: str) -> Mapping[str, str]:
    """Return a file name for each id; UserError where two ids make the same."""
    found: dict[str, str] = {}
    for document in documents:
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in document.id)
        file = f"{plain.lstrip('.')[:100] or '_'}{suffix}"
        if file in found.values():
            raise UserError(f"document '{document.id}': another one has the file name {file} too")
        found[document.id] = file
    return found
