"""A Ray cluster of two nodes on this machine, one of which is lost when told so.

Prints its address and the process of the second node, which it takes away at the first line on
stdin; it ends with stdin.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

from crb_dspy.cluster.pool import STARTS


def main() -> None:
    cluster = Cluster()
    # Room for the worker of the lost node is on the first.
    begun(cluster, 2)
    second = begun(cluster, 1)
    raylet = second.all_processes["raylet"][0].process.pid
    print(cluster.address, raylet, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(second, allow_graceful=False)
        sys.stdin.read()
    cluster.shutdown()


def begun(cluster: Cluster, cores: int) -> Any:
    """Start a node, again where a busy machine is too slow for Ray."""
    for left in range(STARTS - 1, -1, -1):
        try:
            return cluster.add_node(num_cpus=cores)
        except Exception:
            if not left:
                raise


if __name__ == "__main__":
    main()
