"""Several servers of one model: a report stays with one, reports go where least is under way."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dspy.lm15 import LM15Error, RateLimitError, ServerError, TimeoutError, TransportError

from crb_dspy.errors import UserError, one_line
from crb_dspy.models.direct import Direct

# Failures that may be the server's own, not the request's.
_ITS_OWN = (RateLimitError, ServerError, TimeoutError, TransportError)
# Errors of a server's own in a row after which it is left; one where nothing answered at all.
FAULTS = 3
# Seconds for which a server is left at first; doubled each time, up to the longest.
LEFT, LONGEST = 1.0, 60.0
# Reports whose server is remembered: many more than are under way at once.
REPORTS = 4096
# Ends the report in a prompt: all questions about a report share what stands before.
_END = "</report>"

Completion = Callable[..., Any]


@dataclass(eq=False)
class _Host:
    """A server: how it is asked, what is under way there, and until when it is left."""

    address: str
    ask: Completion
    running: int = 0
    faults: int = 0
    wait: float = 0.0
    until: float = 0.0
    probing: bool = False


class Fleet:
    """Answers as one server would, by several: `fleet(messages=..., ...)`, as LiteLLM is called.

    All requests about one report go to the server that got the first, unless that is left. A
    report that is new goes where the fewest calls are under way, so that servers share the work
    by their speed. One that does not answer is left for a while, then tried with a single call;
    what it was asked is asked elsewhere. The error of the last server is raised if none answers.
    """

    def __init__(
        self,
        connected: Mapping[str, Any],
        addresses: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        ask: Callable[[Mapping[str, Any]], Completion] = Direct,
    ) -> None:
        self._hosts = [_Host(a, ask({**connected, "api_base": a})) for a in addresses]
        self._clock, self._lock = clock, threading.Lock()
        self._homes: OrderedDict[bytes, _Host] = OrderedDict()

    def __call__(self, *, messages: Any, **given: Any) -> Any:
        """Make one attempt, at as many servers as it takes."""
        report = _report(messages)
        tried: list[_Host] = []
        while True:
            with self._asked(report, tried) as host:
                try:
                    answer = host.ask(messages=messages, **given)
                except _ITS_OWN as error:
                    self._failed(host, error)
                    tried.append(host)
                    if len(tried) == len(self._hosts):
                        raise
                    continue
                self._answered(host)
                return answer

    @contextmanager
    def _asked(self, report: bytes, tried: Sequence[_Host]) -> Iterator[_Host]:
        with self._lock:
            host = self._chosen(report, tried)
            host.running += 1
        try:
            yield host
        finally:
            with self._lock:
                host.running -= 1
                host.probing = False

    def _chosen(self, report: bytes, tried: Sequence[_Host]) -> _Host:
        """Return the report's server, or the least busy of those that answer."""
        now = self._clock()
        rest = [host for host in self._hosts if host not in tried]
        home = self._homes.get(report)
        if home in rest and not home.until:
            self._homes.move_to_end(report)
            return home
        back = next((h for h in rest if h.until and h.until <= now and not h.probing), None)
        well = [host for host in rest if not host.until]
        if back and not tried:
            back.probing, chosen = True, back
        elif well:
            chosen = min(well, key=lambda host: host.running)
        else:  # all are left: whoever is to be tried first
            chosen = min(rest, key=lambda host: host.until)
        self._homes[report] = chosen
        self._homes.move_to_end(report)
        while len(self._homes) > REPORTS:
            self._homes.popitem(last=False)
        return chosen

    def _answered(self, host: _Host) -> None:
        with self._lock:
            if host.until:
                _say(f"{host.address}: answers again")
            host.faults, host.wait, host.until = 0, 0.0, 0.0

    def _failed(self, host: _Host, error: LM15Error) -> None:
        with self._lock:
            host.faults += 1
            # Who refuses everything, or answers nothing, is left at once.
            silent = isinstance(error, RateLimitError | TransportError | TimeoutError)
            if not silent and host.faults < FAULTS and not host.until:
                return
            now = self._clock()
            if host.until > now:  # it was left while this call was under way
                return
            host.wait = min(max(LEFT, 2 * host.wait), LONGEST)
            host.until = now + max(host.wait, getattr(error, "retry_after", None) or 0.0)
            _say(f"{host.address}: left for {host.until - now:.0f} s: {one_line(error, 120)}")


def servers(given: str | Sequence[str] | None) -> list[str]:
    """Return servers as they were typed: addresses, and files with one a line; each once.

    UserError for a file that cannot be read.
    """
    found: list[str] = []
    for text in [given] if isinstance(given, str) else given or ():
        found += [address for address in _listed(text) if address not in found]
    return found


def _listed(text: str) -> list[str]:
    path = Path(text)
    if "://" in text or not path.is_file():
        return [text]
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as a list of servers: {one_line(error)}"
        ) from error
    return [line for line in lines if line and not line.startswith("#")]


def _report(messages: Any) -> bytes:
    """Return what tells a report from others: all that its questions share."""
    content = messages[-1]["content"]
    shared, end, _ = content.rpartition(_END) if isinstance(content, str) else ("", "", "")
    text = shared if end else str(content)
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _say(line: str) -> None:
    sys.stderr.write(f"server {line}\n")
