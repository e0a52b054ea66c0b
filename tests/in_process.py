"""What a user starts as a process, run in this one: another takes seconds to begin."""

from __future__ import annotations

import io
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from crb_dspy.__main__ import main
from crb_dspy.command import run
from crb_dspy.export.python import PACKAGE


def ran(*arguments: str, cwd: Path | None = None) -> CompletedProcess[str]:
    """Return what `crb_dspy ARGUMENTS` prints and ends with; `cwd` as of a process."""
    handler = signal.getsignal(signal.SIGTERM)
    with chdir(cwd or Path.cwd()):
        done = _ended(["crb_dspy", *arguments], partial(run, main))
    signal.signal(signal.SIGTERM, handler)
    return done


def script(command: Sequence[str], *, env: Mapping[str, str], **_: object) -> CompletedProcess[str]:
    """Run an exported script as `subprocess.run` would; what lies beside it is imported anew."""
    file, *arguments = command[1:]
    known = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(file).parent), *sys.path])
        for name, value in env.items():
            patch.setenv(name, value)
        done = _ended([file, *arguments], partial(runpy.run_path, file, run_name="__main__"))
    for name in set(sys.modules) - known:
        if name.partition(".")[0] == PACKAGE:
            del sys.modules[name]
    return done


def _ended(argv: list[str], start: Callable[[], object]) -> CompletedProcess[str]:
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            start()
    return CompletedProcess(argv, int(ended.value.code or 0), out.getvalue(), error.getvalue())
