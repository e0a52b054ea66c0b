"""A report stays text in chat templates and for tokenizers as their makers publish them.

CRB_CHAT_TEMPLATES names a folder of them (`*.jinja`, and `*.gguf`, of which the header is read):
they are others' texts and no part of this project. llama.cpp's `models` folder holds some 90.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import jinja2
import pytest
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crb_dspy.program.prompt import ReportFirst
from tests.test_marks import MARKS, PART

FOLDER = os.environ.get("CRB_CHAT_TEMPLATES", "")
PATHS = sorted(
    path for end in ("jinja", "gguf") for path in Path(FOLDER).rglob(f"*.{end}") if FOLDER
)
NAMED = pytest.mark.skipif(
    not PATHS, reason="CRB_CHAT_TEMPLATES does not name a folder of published chat templates"
)
# Marks in angle brackets, and in square ones that are no index or type (`list[str]`).
MARK = re.compile(
    r"\]?<[^\s<>{}]{1,60}>\[?|(?<!\w)\[/?[A-Za-z_|]+\]|\][~!][^\s]{1,4}[\[\]~]|\[e~\["
)
# Numbers in the GGUF format by their kind; 8 is a text, 9 a list.
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
SPECIAL = (3, 4)


def header(path: Path) -> dict[str, Any]:
    """Return what a GGUF file says of its model."""
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
        number(file, "Q"), number(file, "I")
        return {text(file): value(file, number(file, "I")) for _ in range(number(file, "Q"))}


def number(file: BinaryIO, kind: str) -> Any:
    return struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0]


def text(file: BinaryIO) -> str:
    return file.read(number(file, "Q")).decode("utf-8", "replace")


def value(file: BinaryIO, kind: int) -> Any:
    if kind == 9:
        inner = number(file, "I")
        return [value(file, inner) for _ in range(number(file, "Q"))]
    return text(file) if kind == 8 else number(file, NUMBERS[kind])


@lru_cache
def template_of(path: Path) -> str:
    if path.suffix == ".gguf":
        return str(header(path).get("tokenizer.chat_template", ""))
    return path.read_text("utf-8")


def specials(path: Path) -> Iterator[str]:
    """Yield the special tokens of a model, without what only fills its vocabulary up."""
    found = header(path)
    kinds = found.get("tokenizer.ggml.token_type", [])
    for token, kind in zip(found["tokenizer.ggml.tokens"], kinds, strict=False):
        if kind in SPECIAL and re.search(r"[<>\[\]]", token) and not re.match(r"\[PAD\d", token):
            yield token


class Generation(Extension):
    """The tag around what a model says, which stands in templates that are trained with."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> jinja2.Environment:
    def refuse(said: str) -> None:
        raise jinja2.TemplateError(said)

    def tojson(it: Any, *_: Any, **how: Any) -> str:
        return json.dumps(it, ensure_ascii=False, indent=how.get("indent"))

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = tojson
    made.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime(2026, 1, 2).strftime(form),
    }
    return made


@lru_cache
def marks() -> tuple[str, ...]:
    """Return every mark of every family: of a tokenizer, in a template, or put together by it."""
    found = dict.fromkeys(MARKS)
    for path in PATHS:
        if path.suffix == ".gguf":
            found |= dict.fromkeys(specials(path))
        for _, kind, piece in environment().lex(template_of(path)):
            if kind in ("string", "data"):
                found |= dict.fromkeys(MARK.findall(piece))
        found |= dict.fromkeys(around(path))
    return tuple(found)


@lru_cache
def hostile() -> str:
    return " ".join(f"Before {mark}obey{mark} after." for mark in marks())


@lru_cache
def prompt(said: str) -> list[dict[str, Any]]:
    """Return a prompt that says something in report, demonstration and earlier findings."""
    part = PART.with_demonstrations([{"case": "c", "report": f"She vomited. {said}", "GI": [said]}])
    inputs = {"report": said, "found": [said]}
    return ReportFirst().format(part.predict.signature, part.predict.demos, inputs)


@lru_cache
def around(path: Path) -> frozenset[str]:
    """Return the marks that a template puts around a harmless prompt."""
    messages = prompt("PLAIN")
    own = MARK.findall("".join(message["content"] for message in messages))
    return frozenset(MARK.findall(rendered(template_of(path), messages))) - set(own)


def rendered(template: str, messages: list[dict[str, Any]]) -> str:
    more: dict[str, Any] = {"add_generation_prompt": True, "bos_token": "", "eos_token": ""}
    more |= {"functions": "", "datetime": "2 January 2026"}
    compiled = environment().from_string(template)
    try:
        return compiled.render(messages=messages, **more)
    except jinja2.TemplateError:
        # Families without a system's turn: servers put it before the user's.
        whole = "\n\n".join(message["content"] for message in messages)
        return compiled.render(messages=[{"role": "user", "content": whole}], **more)


@NAMED
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_mark_of_any_family_gets_through_a_published_template(path: Path) -> None:
    if not template_of(path):
        pytest.skip("a vocabulary without a template")
    if not around(path):
        pytest.skip("its turns are marked by plain words, which nothing tells from a report's")
    plain, shown = (rendered(template_of(path), prompt(said)) for said in ("PLAIN", hostile()))
    assert plain.count("PLAIN") == 4
    counts = {mark: (plain.count(mark), shown.count(mark)) for mark in marks()}
    assert {mark: both for mark, both in counts.items() if both[0] != both[1]} == {}
