"""Tuned programs as JSON files that load anywhere, to the byte, or are refused with the reason."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import dspy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crb_dspy import __version__
from crb_dspy.catalog import build_program, code_of, codes_of
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, explained, one_line
from crb_dspy.files import as_json, fingerprint, write_whole
from crb_dspy.origin import Origin
from crb_dspy.program import ExtractionProgram
from crb_dspy.program.prompt import demonstrations
from crb_dspy.quotes import negation
from crb_dspy.retrieval.support import embeddings_of, plain_supports, supports_of, used
from crb_dspy.trust import foreign

FORMAT = 1
NAME = "program.json"
_RUN_ID = re.compile("[0-9a-f]{32}")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class Saved:
    """A tuned program with its schema, selected to the categories it asks for, and its origin."""

    program: ExtractionProgram
    schema: Schema
    origin: Origin

    @property
    def seed(self) -> ExtractionProgram:
        """The untuned program, built anew from name and options."""
        return build_program(self.origin.program, self.schema, self.origin.program_options)

    @property
    def whole_schema(self) -> Schema:
        """The schema with the categories that the program does not ask for, as data are read."""
        known = (*self.schema.categories, *self.schema.unselected)
        return self.schema.model_copy(update={"categories": known, "unselected": ()})

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with anything that may change an answer of the program."""
        origin, schema = self.origin, self.schema.model_dump()
        built = (origin.program, origin.code, origin.program_options, schema)
        beside = plain_supports(used(self.program.parts)).values()
        return fingerprint(*built, _state(self.program), *codes_of(self.schema).items(), *beside)


class _Field(BaseModel):
    model_config = _STRICT
    prefix: str
    description: str


class _Signature(BaseModel):
    model_config = _STRICT
    instructions: str
    fields: list[_Field]


class _Predictor(BaseModel):
    # DSPy would set any other key as an attribute, and build the model that `lm` names.
    model_config = _STRICT
    traces: list[Any] = Field([], max_length=0)
    train: list[Any] = Field([], max_length=0)
    demos: list[dict[str, Any]]
    signature: _Signature
    lm: None = None


class _Document(BaseModel):
    model_config = _STRICT
    format: int
    crb_dspy: str
    dspy: str
    origin: Origin
    schema_: Schema = Field(alias="schema")
    schema_fingerprint: str
    # DSPy restores fields by their position.
    fields: dict[str, list[str]]
    state: dict[str, _Predictor]
    support: dict[str, Any] = Field(default_factory=dict)
    # What the files of kinds FILE.py:Class held.
    kinds: dict[str, str] = Field(default_factory=dict)


def resolve(name: str | Path) -> Path:
    """Return the file that PROGRAM means: itself, or `program.json` in a folder.

    UserError if there is none, or if a folder's file is a link that leads out of it.
    """
    path = Path(name)
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such program; name a {NAME} or the folder it is in")
        return path
    inner = path / NAME
    if not inner.is_file():
        raise UserError(f"{path}: no {NAME} in this folder")
    if not inner.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{inner}: a link that leads out of its folder; name the file it means")
    return inner


def open_program(name: str, *, trust: bool = False) -> Saved:
    """Load a program by file, by folder, or by the id of the MLflow run that tuned it."""
    if _RUN_ID.fullmatch(name) and not Path(name).exists():
        from crb_dspy.tracking.store import fetch

        return load_program(fetch(name, NAME), trust=trust)
    return load_program(name, trust=trust)


def write_program(path: Path, saved: Saved) -> Path:
    """Write a program as JSON, whole or not at all; equal programs give equal bytes.

    UserError if the file cannot be written.
    """
    try:
        write_whole(path, program_text(saved))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def program_text(saved: Saved) -> str:
    """Return what `write_program` writes."""
    rest = _document(saved)
    return as_json(rest | {"sha256": _sha256(rest)}, indent=1) + "\n"


def shipped(text: str) -> ExtractionProgram:
    """Return the program of such a text, which whoever sent it was trusted with."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_text(text, "utf-8")
        return load_program(path, trust=True).program


def load_program(name: str | Path, *, trust: bool = False) -> Saved:
    """Read a program of `write_program`: JSON only, nothing is unpickled.

    A program named FILE.py:Class is that file's code, run only if it is what it was when the
    program was written, and if there is or was `trust` in it. UserError for a file that is not
    JSON, foreign, of a newer format, changed since it was written, or whose program has other
    fields or other code now.
    """
    path = resolve(name)
    table = _table(path)
    document = _validated(path, table)
    schema, origin = document.schema_, document.origin
    negation.speak(schema.negations)
    if document.schema_fingerprint != fingerprint(schema.model_dump()):
        _refuse(path, "its schema is not the one it was tuned for; fetch it anew")
    try:
        foreign.allow_kinds(codes_of(schema), document.kinds, trust=trust)
        _ = schema.kinds  # which check their options
        code, program = code_of(origin.program), None
        if code == origin.code:
            if code:
                foreign.allow_code(origin.program, trust=trust)
            program = build_program(origin.program, schema, origin.program_options)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if program is None:
        _refuse(path, f"the code of '{origin.program}' is not what it was; compile again")
    _check_fields(path, document, program)
    for label, predictor in _predictors(program):
        try:
            predictor.load_state(table["state"][label])
            # To JSON, a report or a quote may be anything.
            demonstrations(predictor.signature, predictor.demos)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = f"DSPy {document.dspy} wrote what this one cannot read or show"
            _refuse(path, f"{said}: {one_line(error, 100)}")
    program = _supported(path, program, document.support, trust=trust)
    return Saved(program, schema, origin.of_parts(program.parts.values()))


def _supported(
    path: Path, program: ExtractionProgram, table: Mapping[str, Any], *, trust: bool
) -> ExtractionProgram:
    """Return a program with the classifiers that stand in its file."""
    try:
        found, parts = supports_of(table), program.parts
        foreign.allow_embeddings(embeddings_of(found), trust=trust)
        return program.with_parts({n: parts[n].with_support(its) for n, its in found.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _refuse(path, f"its classifier cannot be read: {error!r}; compile again")


def _predictors(program: ExtractionProgram) -> Iterator[tuple[str, Any]]:
    """Yield predictors under DSPy's names for them.

    DSPy itself leaves out of a program's state what an optimizer marked as compiled.
    """
    for name, part in program.parts.items():
        for label, predictor in part.named_sub_modules(dspy.Predict):
            yield f"{name}.{label.removeprefix('self.')}", predictor


def _state(program: ExtractionProgram) -> dict[str, Any]:
    """Return DSPy's state but for traces of the search and a model of a predictor's own."""
    bare: dict[str, Any] = {"traces": [], "train": [], "lm": None}
    state = {label: predictor.dump_state() | bare for label, predictor in _predictors(program)}
    return dict(json.loads(json.dumps(state)))


def _fields(program: ExtractionProgram) -> dict[str, list[str]]:
    return {label: list(predictor.signature.fields) for label, predictor in _predictors(program)}


def _document(saved: Saved) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "crb_dspy": __version__,
        "dspy": version("dspy"),
        "origin": saved.origin.model_dump(by_alias=True),
        "schema": saved.schema.model_dump(mode="json", by_alias=True),
        "schema_fingerprint": fingerprint(saved.schema.model_dump()),
        "fields": _fields(saved.program),
        "state": _state(saved.program),
        **({"support": support} if (support := plain_supports(used(saved.program.parts))) else {}),
        **({"kinds": codes} if (codes := codes_of(saved.schema)) else {}),
    }


def _sha256(rest: Mapping[str, Any]) -> str:
    return hashlib.sha256(as_json(rest).encode("utf-8")).hexdigest()


def _table(path: Path) -> dict[str, Any]:
    """Return what a file holds once it is known to be whole and of this format."""
    try:
        table = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        _refuse(path, f"not JSON, or cut off ({one_line(error, 80)}); fetch it anew")
    if not isinstance(table, dict) or not isinstance(table.get("format"), int):
        _refuse(path, _foreign(table))
    if table["format"] > FORMAT:
        wanted = f"format {table['format']}, written by crb_dspy {table.get('crb_dspy')}"
        _refuse(path, f"{wanted}, is newer than this one's, {FORMAT}; update crb_dspy")
    try:
        whole = table.pop("sha256", None) == _sha256(table)
    except (ValueError, RecursionError):  # NaN, which is not JSON, or nested beyond all bounds
        whole = False
    if not whole:
        _refuse(path, "changed or damaged since it was written; fetch it anew, or compile again")
    return table


def _foreign(table: object) -> str:
    known = table if isinstance(table, dict) else {}
    if "crb_dspy" in known:
        return "written before programs had a format; compile again"
    if "metadata" in known or any(isinstance(v, dict) and "signature" in v for v in known.values()):
        return f"a plain DSPy state, without its program and schema; name the {NAME} of a compile"
    return f"not a program of crb_dspy; name the {NAME} of a compile"


def _validated(path: Path, table: Mapping[str, Any]) -> _Document:
    try:
        # Not strictly: JSON has lists for tuples.
        return _Document.model_validate(table, strict=False)
    except ValidationError as error:
        _refuse(path, f"not what crb_dspy writes: {explained(error)[:200]}")


def _check_fields(path: Path, document: _Document, program: ExtractionProgram) -> None:
    now = _fields(program)
    if set(now) != set(document.fields) or set(now) != set(document.state):
        _refuse(path, f"program '{document.origin.program}' has other parts now; compile again")
    for label, fields in now.items():
        then = document.fields[label]
        if fields != then or len(fields) != len(document.state[label].signature.fields):
            said = f"{label} has the fields {', '.join(fields)} now, not {', '.join(then)}"
            _refuse(path, f"{said}; compile again")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UserError(f"{path}: {reason}")
