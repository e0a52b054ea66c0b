"""How every command ends: an exit code, and one line for whoever typed it."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from crb_dspy.errors import CrbError, UserError

INTERRUPTED = 130
FILES = 16_384


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command on its arguments and exit with its code.

    UserError: 2, any other CrbError: 1, Ctrl-C or SIGTERM: 130, each with one line on stderr.
    Output cut off by the reader (`| head`) is no error.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # DSPy's optimizers draw bars of their own for every evaluation.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Its cache opens some thirty files a thread.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES)), hard))
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except CrbError as error:
        _complain(f"error: {' '.join(str(error).split())}")
        code = 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        _complain("interrupted")
        sys.stdout.flush()
        # Threads with a call under way would be waited for, which may take minutes.
        os._exit(INTERRUPTED)
    except BrokenPipeError:
        # The interpreter flushes once more at exit; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")
