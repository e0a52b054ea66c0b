"""Pieces of work mapped over actors by Ray Data: what a killed one had is done by another."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from crb_dspy.cluster.allowance import Allowance
from crb_dspy.errors import RunError, UserError, one_line
from crb_dspy.models.budget import Caps

# Pieces that Ray holds at once, at most, each as one block.
BLOCKS = 4096
# Times that Ray is started where it gives up: of its own processes it waits only a quarter of a
# minute for one.
STARTS = 3
# Seconds that Ray Data is given to end.
ENDING = 60.0
# Its thread that fetches in advance, which it leaves asleep for good.
PARKED = "Prefetcher"
# Memory of this machine for what Ray passes on: descriptions of pieces, and counts.
STORE = 100 * 2**20


@dataclass(frozen=True)
class Cluster:
    """Where the work goes: `address` of a running cluster ("auto"), None for this machine alone."""

    workers: int
    address: str | None = None


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Start Ray, or join the cluster; UserError if it is not installed or not there."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            "--engine ray: Ray is not installed: pip install 'crb_dspy[ray]'"
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _join(cluster)
    before = set(threading.enumerate())
    try:
        yield
    finally:
        # A thread of Ray Data that touches Ray after its end makes it end this process, silently.
        until = time.monotonic() + ENDING
        for thread in set(threading.enumerate()) - before:
            if thread.name == PARKED:
                continue
            thread.join(max(0.0, until - time.monotonic()))
        ray.shutdown()


def _join(cluster: Cluster) -> None:
    """Reach the cluster, or start one here: again if a busy machine was too slow for Ray."""
    import ray

    own = {"num_cpus": cluster.workers, "object_store_memory": STORE, "include_dashboard": False}
    given: dict[str, Any] = {"address": cluster.address} if cluster.address else own
    for left in range(0 if cluster.address else STARTS - 1, -1, -1):
        try:
            ray.init(
                **{"address": "local", **given},
                logging_level=logging.CRITICAL,
                log_to_driver=False,
            )
        except Exception as error:  # Ray says so by a bare one where it did not start in time
            ray.shutdown()
            if left:
                continue
            where = f"--address {cluster.address}" if cluster.address else "Ray does not start here"
            raise UserError(f"{where}: {one_line(error)}") from error
        return


def allowance(caps: Caps) -> Any:
    """Return the actor that hands out calls and tokens, None without caps."""
    if caps.calls is None and caps.tokens is None:
        return None
    import ray

    # On the machine of the driver, without which nothing goes on anyway.
    return ray.remote(num_cpus=0, max_restarts=0)(Allowance).remote(caps.calls, caps.tokens)


def mapped(
    items: Sequence[Any], make: Callable[[], Callable[[Any], Any]], cluster: Cluster
) -> Generator[Any]:
    """Yield what workers make of items, as they come; both are plain values, as JSON has them.

    To be closed where it is left early. `make` runs once in each worker and returns what is called
    with an item; it may be called again with the same one, where a worker was killed. At most a
    few items a worker are under way. RunError where Ray gives up.
    """
    import ray

    class Worker:
        # Arguments of its own would be lost with the process that holds them.
        def __init__(self) -> None:
            self._call = make()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"made": [json.dumps(self._call(json.loads(item))) for item in batch["item"]]}

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    blocks = min(len(items), BLOCKS)
    data = ray.data.from_items(
        [{"item": json.dumps(item)} for item in items], override_num_blocks=blocks
    ).map_batches(
        Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=cluster.workers, max_tasks_in_flight_per_actor=2),
        num_cpus=1,
    )
    try:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for made in batch["made"].to_pylist():
                yield json.loads(made)
    except ray.exceptions.RayError as error:
        said = one_line(getattr(error, "cause", None) or error)
        raise RunError(f"Ray gave up: {said}; the same command goes on") from error
