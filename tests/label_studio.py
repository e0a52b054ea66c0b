"""A real Label Studio on loopback, started by a test and stopped by it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

# It needs other versions of much that this project uses, and so an environment of its own.
COMMAND = "CRB_LABEL_STUDIO"
_TOKEN = "0123456789012345678901234567890123456789"
_READY = 300


@dataclass(frozen=True)
class LabelStudio:
    """A server that is up, and what is asked of it."""

    address: str

    def ask(self, path: str, body: object = None) -> Any:
        """Ask the API, by POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {_TOKEN}", "Content-Type": "application/json"}
        asked = Request(f"{self.address}/api/{path}", data, headers)
        try:
            with urlopen(asked, timeout=60) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise AssertionError(f"{path}: {error.read()[:1000]!r}") from error


@contextmanager
def label_studio(folder: Path) -> Iterator[LabelStudio]:
    """Serve with data in a folder; skip where no command is installed or named."""
    command = os.environ.get(COMMAND) or shutil.which("label-studio")
    if not command:
        pytest.skip(f"label-studio is not installed, nor named by {COMMAND} (make label-studio)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    start = [command, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    user = ["--username", "expert@example.org", "--password", "invented-pass", "--user-token"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*start, *user, _TOKEN],
            env=os.environ | own,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _until_ready(server, address, folder / "log")
            yield LabelStudio(address)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def _until_ready(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + _READY
    while server.poll() is None and time.monotonic() < until:
        try:
            with urlopen(f"{address}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"Label Studio did not start: {log.read_text()[-2000:]}")
