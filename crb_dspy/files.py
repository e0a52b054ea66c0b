"""Files and what is written into them: whole or not at all, legible, and told apart."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# Where runs leave what they make: the store, artefacts, the cache of answers.
FOLDER = Path("mlruns")
EXPERIMENTS = "experiments"
QUICKSTART = Path(EXPERIMENTS) / "quickstart.toml"
_SURROGATE = re.compile("[\ud800-\udfff]")


def experiment(path: Path) -> Path:
    """Return an experiment's file: as named, or the one that comes with the package.

    "experiments/quickstart.toml" names the latter too where no such file lies in this folder.
    """
    if path.is_file() or path.parent.name != EXPERIMENTS:
        return path
    own = bundled(path.name)
    return own if own.is_file() else path


def bundled(name: str) -> Path:
    """Return where a file of `experiments` lies that comes with the package."""
    # Beside this package in a checkout, inside it where it is installed.
    checkout, installed = (home / EXPERIMENTS / name for home in Path(__file__).parents[1::-1])
    return checkout if checkout.is_file() else installed


def as_json(value: object, indent: int | None = None) -> str:
    """Return a value as legible JSON that can be written as UTF-8, whatever its texts hold.

    ValueError for a number that is none, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def whole_characters(value: object) -> bool:
    """Say whether all texts of a value can be written: JSON can hold halves of characters."""
    return not _SURROGATE.search(json.dumps(value, ensure_ascii=False))


def plain_file(path: Path) -> str:
    """Say why a path can't be read as a file, "" if it may be or isn't there: pipes never end."""
    usable = path.is_file() or path.is_dir() or not path.exists()
    return "" if usable else "neither a file nor a folder; save its content as a file"


def legible(text: str) -> str:
    """Return a text that can be written as UTF-8: halves of characters become U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write one JSON object a line, as `write_whole`; return the path."""
    write_whole(path, "".join(f"{as_json(row)}\n" for row in rows))
    return path


def write_whole(path: Path, text: str) -> None:
    """Put a text in the place of a file at once, so that no reader ever meets half of it.

    All that runs leave behind is written here: nothing that a text may hold can make it fail.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(legible(text).encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def fingerprint(*values: object) -> str:
    """Return 12 hex digits that change whenever a value does."""
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
