"""The formats of annotation tools, one a module."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

from crb_dspy.convert.documents import Document
from crb_dspy.errors import CrbError, UserError, one_line, unknown
from crb_dspy.files import plain_file

# A new one is a module and its name here.
NAMES = (
    *("cases", "labelstudio", "doccano", "prodigy", "argilla"),
    *("xmi", "casjson", "docbin", "bioc", "csv", "excel"),
)


# What people are asked there beside marks has a name of its own.
QUESTIONS = ("labelstudio", "argilla")


class Format(Protocol):
    """A module that reads and writes one format.

    `SUFFIX` is how its files end, "" where it writes a folder. `ANSWERS`: it holds what is no mark
    in the text.
    """

    ABOUT: str
    SUFFIX: str
    ANSWERS: bool

    def read(self, path: Path) -> Iterator[Document]:
        """Yield the documents of a file or folder; UserError, with the place, for what is wrong."""
        ...

    def write(self, path: Path, documents: Sequence[Document]) -> None:
        """Write documents to a file or folder."""
        ...


def find(name: str) -> Format:
    """Return a format by name; UserError for an unknown one, the nearest named."""
    if name not in NAMES:
        raise UserError(unknown("format", name, NAMES))
    return cast(Format, importlib.import_module(f"crb_dspy.convert.formats.{name}"))


def documents(name: str, path: Path) -> list[Document]:
    """Return what a file or folder of a format holds; UserError for whatever is wrong with it."""
    read = find(name).read
    if wrong := plain_file(path):
        raise UserError(f"{path}: {wrong}")
    try:
        return list(read(path))
    except CrbError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    # Whatever a damaged file makes of the libraries of the tools.
    except Exception as error:
        said = f"{type(error).__name__}: {one_line(error, 120)}"
        raise UserError(f"{path}: cannot be read as {name}: {said}") from error


def kept(documents: Sequence[Document], to: str) -> Iterator[str]:
    """Yield lines: how much in some documents is no mark, and what of it a format leaves out."""
    answers = [(key, one) for document in documents for key, one in document.answers.items()]
    names = ", ".join(dict.fromkeys(key for key, _ in answers))
    if not answers:
        return
    if not find(to).ANSWERS:
        able = ", ".join(name for name in NAMES if find(name).ANSWERS)
        yield f"left out   {len(answers)} answers to {names}: {to} holds marks alone, not so {able}"
        return
    yield f"answers    {len(answers)}: {names}"
    quotes = [k for k, one in answers for i in one.items if one.kind.chosen(i) != i]
    if quotes and to in QUESTIONS:
        told = ", ".join(dict.fromkeys(quotes))
        yield f"left out   the quotes beside {len(quotes)} answers to {told}"
