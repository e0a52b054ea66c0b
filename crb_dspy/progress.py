"""Progress for people: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Seconds between plain lines.
EVERY = 30.0

Tick = Callable[[], None]


class Progress:
    """How far a phase has come: call it for a tick, `say` what is being done."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self._label, self._total, self._said = label, total, ""
        self._started = self._shown = time.monotonic()
        self.done = done
        self._bar = _bar(label, total, done) if sys.stderr.isatty() else None

    def __call__(self) -> None:
        """Count one tick."""
        self.done += 1
        if self._bar is not None:
            self._bar.update()
        elif (now := time.monotonic()) - self._shown >= EVERY:
            self._shown = now
            self._print(f"{self._so_far()}{f'; {self._said}' if self._said else ''}")

    def say(self, text: str) -> None:
        """Show a text beside the count from the next tick on."""
        self._said = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        """Show how long a phase took that was not over at once."""
        seconds = time.monotonic() - self._started
        if self._bar is not None:
            self._bar.close()
        elif seconds >= 2:
            self._print(f"{self._so_far()} in {seconds:.0f} s")

    def _so_far(self) -> str:
        # A search may ask less than it could, so that its total is no goal.
        return f"{self._label}: {self.done} of {max(self.done, self._total)}"

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _bar(label: str, total: int, done: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=done,
        desc=label,
        unit="call",
        delay=2,
        smoothing=0.1,
        disable=False,
    )


@contextmanager
def phase(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Show on stderr how far `total` ticks have come, `done` of them already.

    Nothing for less than two seconds.
    """
    progress = Progress(label, total, done)
    yield progress
    progress.close()
