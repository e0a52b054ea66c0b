"""What a cluster needs for many reports: a simulation of clients, servers and killed workers.

    python bench/scale.py [--reports 3000] [--gpus 8] [--clients 1] [--model 7b] [--call-ms 1.7]

Each GPU serves one replica: it computes prompts at one rate and generates at another, both shared
by the calls that are under way there, whose number is bounded. The first call about a report
computes the report, the others their question alone. A client process spends processor time on
each call, one after another. Rates are derived from published ones (docs/scale.md); lengths are
drawn around those of CaseReportBench. Printed: reports and calls a second, how busy GPUs and
clients were, and what 10^6 and 10^8 reports take.
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass, field

CATEGORIES = 14
# Tokens: of a report (152 to 1,916 words, median 510), of what all prompts share, of a question,
# and of an answer (54,623 in 336 calls of the embedded model, experiments/README.md).
REPORT, SHARED, QUESTION, ANSWER = 700, 110, 130, 163
# Tokens a second and GPU: computed, generated. TensorRT-LLM 0.6.1, H100, FP8 (docs/scale.md).
RATES = {"7b": (37_990, 6_895), "70b": (5_188, 1_513)}
# Bytes of a report's row in Parquet, text included.
ROW = 3_000


@dataclass
class Gpu:
    """A replica: calls that are under way, and when each would end were it alone."""

    computes: float
    generates: float
    slots: int
    busy_until: float = 0.0
    worked: float = 0.0
    waiting: list[tuple[float, float]] = field(default_factory=list)

    def call(self, now: float, computed: int, generated: int) -> float:
        """Return when a call ends: its share of the GPU's time, behind what is already due."""
        cost = computed / self.computes + generated / self.generates
        self.busy_until = max(now, self.busy_until) + cost
        self.worked += cost
        # A call is never faster than a lone one would be at the rate of a full batch.
        return max(self.busy_until, now + generated * self.slots / self.generates)


def simulated(options: argparse.Namespace, rng: random.Random) -> tuple[float, float, float]:
    """Return seconds, and the shares of them in which GPUs and clients were busy."""
    computes, generates = RATES[options.model]
    gpus = [Gpu(computes, generates, options.slots) for _ in range(options.gpus)]
    clients = [0.0] * options.clients
    spent = 0.0
    # Events: (time, report, gpu, calls of the report that are left).
    events: list[tuple[float, int, int, int]] = []
    under_way = [0] * options.gpus
    taken = now = 0.0
    reports = iter(range(options.reports))
    sizes = [int(REPORT * rng.lognormvariate(0, 0.5)) for _ in range(options.reports)]

    def ask(report: int, gpu: int, left: int, at: float) -> None:
        nonlocal spent
        client = min(range(len(clients)), key=clients.__getitem__)
        clients[client] = max(at, clients[client]) + options.call_ms / 1000
        spent += options.call_ms / 1000
        first = left == CATEGORIES
        computed = QUESTION + (SHARED + sizes[report] if first else 0)
        answer = max(8, int(ANSWER * rng.lognormvariate(0, 0.7) * 0.78))
        end = gpus[gpu].call(clients[client], computed, answer)
        heapq.heappush(events, (end, report, gpu, left - 1))

    def new(at: float) -> None:
        nonlocal taken
        report = next(reports, None)
        if report is not None:
            gpu = min(range(len(gpus)), key=under_way.__getitem__)
            under_way[gpu] += 1
            taken += 1
            ask(report, gpu, CATEGORIES, at)

    for _ in range(options.gpus * options.slots):
        new(0.0)
    while events:
        now, report, gpu, left = heapq.heappop(events)
        if left:
            ask(report, gpu, left, now)
        else:
            under_way[gpu] -= 1
            new(now)
    worked = sum(gpu.worked for gpu in gpus)
    return now, worked / now / len(gpus), spent / now / len(clients)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reports", type=int, default=3000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--slots", type=int, default=64, help="calls under way on each GPU")
    parser.add_argument("--clients", type=int, default=1, help="client processes")
    parser.add_argument("--model", choices=RATES, default="7b")
    parser.add_argument("--call-ms", type=float, default=1.7, help="processor time of a call")
    parser.add_argument("--usd", type=float, default=24.0, help="an hour of eight GPUs")
    options = parser.parse_args()
    seconds, gpus, clients = simulated(options, random.Random(0))
    rate = options.reports / seconds
    print(f"reports    {rate:.1f} a second, {rate * CATEGORIES:.0f} calls a second")
    print(f"busy       GPUs {gpus:.0%}, clients {clients:.0%} of {options.clients} processes")
    for many in (10**6, 10**8):
        hours = many / rate / 3600
        print(
            f"{many:>9,}  {hours:,.0f} hours, ${hours * options.usd * options.gpus / 8:,.0f}, "
            f"{many * ROW / 1e9:,.0f} GB of Parquet"
        )


if __name__ == "__main__":
    main()
