"""How every command ends: an exit code, and one line for whoever typed it."""

from __future__ import annotations

import argparse
import io
import os
import re
import resource
import shutil
import signal
import sys
import textwrap
import tomllib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from crb_dspy.errors import CrbError, UserError, scrubbed, unknown

INTERRUPTED = 130
FILES = 16_384
_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)")


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command on its arguments and exit with its code.

    UserError: 2, any other CrbError and what the system refuses (a full disk): 1, Ctrl-C or
    SIGTERM: 130, each with one line on stderr, without secrets.
    Output cut off by the reader (`| head`) is no error.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # DSPy's optimizers draw bars of their own for every evaluation.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Its cache opens some thirty files a thread.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES)), hard))
    # Names of files may hold what the terminal's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except CrbError as error:
        _complain(f"error: {error}")
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
    except OSError as error:
        # A full disk, a folder that may not be written: of no file in particular.
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"error: {where}{error.strerror or error}; nothing that was written is lost")
        code = 1
    sys.exit(code)


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a command; what it can't take is a UserError, nearest name first."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage."""
        if wrong := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            flags = [name for name in self._option_string_actions if name.startswith("--")]
            raise UserError(unknown("flag", wrong[1], flags))
        if wrong := _CHOICE.match(message):
            raise UserError(unknown(wrong[1], wrong[2], re.findall(r"'(.*?)'", wrong[3])))
        raise UserError(f"{message}; {self.prog} --help shows what there is")


def screen(most: int = 10_000) -> int:
    """Return how wide the terminal is, at most `most`; that where no terminal is printed to."""
    return max(40, min(most, shutil.get_terminal_size().columns if sys.stdout.isatty() else most))


def hung(name: str, text: str, indent: int, most: int = 10_000) -> str:
    """Return a name with a text beside it, in lines that fit the terminal, at most so long."""
    width = screen(most) - indent
    lines = textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    head, *rest = lines or [""]
    return "\n".join([f"{name:{indent}}{head}", *(" " * indent + line for line in rest)])


def assignment(flag: str, text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is TOML, or a bare text where it is not."""
    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise UserError(f"{flag} {text}: write {flag} key=value")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except (ValueError, RecursionError):
        return key.strip(), value.strip()


def request_flag(parser: argparse.ArgumentParser) -> None:
    """Let a command that asks a model take `--request`."""
    parser.add_argument(
        "--request",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter that goes to the model as it is: top_p=0.9, chat_template_kwargs.X=false",
    )


def asked_flags(parser: Parser) -> None:
    """Let a command that asks a saved program about many reports say whom, how and how much."""
    parser.add_argument("--model", help="another model than the program was tuned for")
    parser.add_argument(
        "--api-base",
        action="append",
        metavar="URL|FILE",
        help="address of a local server, with /v1; again for further servers of the same model, "
        "or a file with one a line",
    )
    parser.add_argument("--threads", type=int, default=1, help="calls under way at once")
    parser.add_argument("--max-calls", type=int, help="the most calls of one start")
    parser.add_argument("--max-tokens", type=int, help="the most tokens of one start")
    parser.add_argument(
        "--max-answer-tokens", type=int, help="the least room of an answer, for models that think"
    )
    parser.add_argument("--timeout", type=float, help="the longest wait for an answer, in seconds")
    request_flag(parser)
    parser.add_argument(
        "--max-failed",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="exit with 1 if more than this share of the cells failed (default: 0.5)",
    )


def parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of `--request`, dotted keys as tables in tables."""
    table: dict[str, Any] = {}
    for text in texts:
        key, value = assignment("--request", text)
        *outer, last = key.split(".")
        inner = table
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UserError(f"--request {text}: '{name}' is not a table")
        inner[last] = value
    return table


def columns_flag(parser: argparse.ArgumentParser) -> None:
    """Let a command that reads tables take `--columns`."""
    parser.add_argument("--columns", help="of a table: id=NAME,text=NAME,GI=NAME,...")


def too_many(failed: int, cells: int, most: float) -> bool:
    """Say on stderr that more cells failed than may; UserError for what is no share."""
    if not 0 <= most <= 1:
        raise UserError(f"--max-failed {most}: a share is from 0 to 1")
    if failed <= most * cells:
        return False
    _complain(f"error: {failed} of {cells} cells failed, more than --max-failed {most:g} allows")
    return True


def trust_flag(parser: Parser) -> None:
    """Let a command that opens programs take `--trust`."""
    parser.add_argument(
        "--trust", action="store_true", help="run the code and ask the server that its file names"
    )


def engine_flags(parser: Parser) -> None:
    """Let a command run in this process, on Ray's workers, or by a batch API."""
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this process, or Ray's workers"
    )
    parser.add_argument(
        "--address", help="of a running Ray cluster, as auto; without it, Ray on this machine alone"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="Ray's, each with --threads calls under way"
    )
    parser.add_argument(
        "--batch",
        action="store_true",
        help="by the provider's batch API: half the price, within a day; can be ended and goes on",
    )


def check_batch(arguments: argparse.Namespace) -> None:
    """UserError where a batch is asked for beside what does not go with it."""
    if arguments.batch and arguments.engine == "ray":
        raise UserError("--batch: the provider spreads the work; leave --engine ray out")


def _complain(line: str) -> None:
    sys.stderr.write(f"{scrubbed(' '.join(line.split()))}\n")
