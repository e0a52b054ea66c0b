"""What of this machine's cores is free."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Seconds for which the machine is watched: loading a model takes as many times longer.
WATCHED = 0.5
_STAT = Path("/proc/stat")


def free_cores(stat: Path = _STAT, seconds: float = WATCHED) -> float:
    """Return how many cores are idle, by what the kernel counts in so many seconds.

    Where it does not count so (not Linux), cores less the processes that wanted one in the last
    minute.
    """
    cores = os.cpu_count() or 1
    before = _times(stat)
    if before is None:
        return max(0.0, cores - os.getloadavg()[0])
    time.sleep(seconds)
    after = _times(stat) or before
    idle, total = after[0] - before[0], after[1] - before[1]
    return cores * idle / total if total else float(cores)


def _times(stat: Path) -> tuple[int, int] | None:
    """Return the ticks in which cores were idle, and all ticks, None if they are not counted."""
    try:
        ticks = [int(part) for part in stat.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    # User, nice, system, idle, waiting for a disk, and others.
    return (ticks[3] + ticks[4], sum(ticks)) if len(ticks) > 4 else None
