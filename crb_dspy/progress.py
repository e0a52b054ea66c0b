"""Progress for people: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Seconds between plain lines.
EVERY = 30.0

Tick = Callable[[], None]


@contextmanager
def phase(label: str, total: int) -> Iterator[Tick]:
    """Show on stderr how far `total` ticks have come; nothing for less than two seconds."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="call", delay=2, smoothing=0.1) as bar:

            def advance() -> None:
                bar.update()

            yield advance
        return
    started = shown = time.monotonic()
    done = 0

    def tick() -> None:
        nonlocal done, shown
        done += 1
        if (now := time.monotonic()) - shown >= EVERY:
            shown = now
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)  # noqa: T201

    yield tick
    if (seconds := time.monotonic() - started) >= 2:
        print(f"{label}: {done} of {total} in {seconds:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
