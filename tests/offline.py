"""A Python that reaches this machine alone, and tells of every try to go further."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Python imports a module of this name before anything else.
_SITE = """\
import os, socket

HERE = ("127.0.0.1", "::1", "localhost", "", None)


def _refuse(host):
    with open(os.environ["TRIED"], "a") as file:
        file.write(f"{host}\\n")
    raise OSError(f"the network is cut off: {host}")


def _guarded(name):
    own = getattr(socket.socket, name)

    def guarded(self, address, *rest):
        far = self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in HERE
        return _refuse(address[0]) if far else own(self, address, *rest)

    return guarded


socket.socket.connect = _guarded("connect")
socket.socket.connect_ex = _guarded("connect_ex")
_resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: (
    _resolve(host, *rest, **more) if host in HERE else _refuse(host)
)
"""


def offline(
    folder: Path, *command: str, path: str = "", **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run Python in an empty folder without a network; return its end and what it tried to reach.

    `path` is where packages are looked for first.
    """
    site, tried, place = folder / "site", folder / "tried", folder / "empty"
    site.mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
    tried.touch()
    (site / "sitecustomize.py").write_text(_SITE)
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "PYTHONPATH"}
    python = os.pathsep.join(filter(None, [str(site), path]))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=place,
        env={**kept, "PYTHONPATH": python, "TRIED": str(tried), **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    return done, tried.read_text().split()
