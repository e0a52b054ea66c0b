"""The embedded model: llama.cpp's OpenAI-compatible server, inside this process."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from crb_dspy.errors import RunError, UserError, one_line
from crb_dspy.models import load

HOST = "127.0.0.1"
# The engine can stop between two batches only; on two cores one of 256 tokens takes four
# seconds, and larger ones are not faster.
BATCH = 256
# A request that shares less than this with the prompt before leaves that one in memory. With
# the default of a tenth, a long report overwrites a short one behind the same beginning;
# nearer to one, the memory fills with one copy of a report for each category.
SAME_PROMPT = 0.5


def serve(
    path: Path, *, context: int = 8192, slots: int = 1, cache_ram_mib: int = 8192
) -> EmbeddedServer:
    """Load a GGUF file and serve it on a free port of this machine until closed or exit.

    `context` is in tokens for each of the `slots` requests served at once; `cache_ram_mib` is
    the memory for prompts of earlier requests, at most half of the machine's. RunError if
    llama.cpp cannot load the file, UserError if the engine is not installed.
    """
    return EmbeddedServer(path, _parameters(path, context, slots, cache_ram_mib))


class EmbeddedServer:
    """A running server: `api_base` ends in /v1, `api_key` is random; a context manager."""

    def __init__(self, path: Path, parameters: Any) -> None:
        import xllamacpp

        self.api_key = secrets.token_urlsafe(32)
        parameters.api_keys = [self.api_key]
        try:
            # Comes back when the model is loaded.
            self._server: Any = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise RunError(
                f"{path}: llama.cpp cannot load it: the file is damaged, its architecture is too "
                f"new, or memory is short for {parameters.n_ctx} tokens of context"
            ) from error
        # Closed before its loop has begun, the engine would wait for ever; an answer shows that
        # it has.
        self._server.handle_completions({"prompt": "a", "max_tokens": 1})
        self.api_base = f"{self._server.listening_address}/v1"
        _bypass_proxies()
        atexit.register(self.close)

    def close(self) -> None:
        """Cut off requests that are running, stop the server and free its port and memory."""
        if self._server is None:
            return
        atexit.unregister(self.close)
        _hang_up(urlsplit(self.api_base).port)
        self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _parameters(path: Path, context: int, slots: int, cache_ram_mib: int) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        why = f"cannot be loaded: {one_line(error)}"  # a library of the system, libgomp for one
        if isinstance(error, ModuleNotFoundError):
            why = "is not installed: pip install 'crb_dspy[local]'"
        raise UserError(f"the embedded engine {why}, or choose another --model") from error
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise RunError(f"{path}: not a GGUF file")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.model_alias = str(path), {path.stem}
    parameters.hostnames, parameters.port = [HOST], 0
    parameters.n_ctx, parameters.n_parallel = context * slots, slots
    parameters.n_batch = parameters.n_ubatch = BATCH
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = _threads()
    parameters.cache_prompt = parameters.use_jinja = True
    parameters.cache_ram_mib = min(cache_ram_mib, _memory_mib() // 2)
    parameters.slot_prompt_similarity = SAME_PROMPT
    # Slots would show reports to whoever asks; below zero nothing is written to stderr.
    parameters.endpoint_slots, parameters.ui, parameters.verbosity = False, False, -1
    return parameters


def _threads() -> int:
    """Return as many threads as there are cores that nobody uses, and say so if that is not all.

    Threads wait for each other after every layer: one that has to share its core with other work
    holds up all of them, and fewer are faster.
    """
    cores, free = _cores(), load.free_cores()
    threads = max(1, min(cores, round(free)))
    if threads < cores:
        s = "" if threads == 1 else "s"
        sys.stderr.write(
            f"local model: other work is on this machine, {free:.1f} of {cores} cores are free: "
            f"{threads} thread{s}\n"
        )
    return threads


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _bypass_proxies() -> None:
    """Keep HTTP clients of this process from asking a proxy for what runs on this machine."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if HOST not in hosts.split(","):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{hosts},{HOST}".lstrip(",")


def _hang_up(port: int | None) -> None:
    """Shut the server's listening socket and its connections.

    The engine stops only after its handlers, which wait for their clients to leave, and it
    keeps the interpreter locked meanwhile: clients in threads of this process would never go.
    """
    for listening in (True, False):
        for number in map(int, os.listdir("/dev/fd")):  # noqa: PTH208
            with suppress(OSError):
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as end:
                    accepts = end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    if bool(accepts) == listening and end.getsockname()[:2] == (HOST, port):
                        end.shutdown(socket.SHUT_RDWR)
