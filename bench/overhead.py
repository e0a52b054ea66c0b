"""What the stack costs over a bare HTTP call, against a server that answers at once.

    python bench/overhead.py [--calls 300] [--rounds 5] [--json]
    python bench/overhead.py --memory

Calls a second and milliseconds of processor time a call at concurrency 1 and 32, the median of
the rounds, for a bare HTTP client (httpx, as this project uses), plain `dspy.Predict` over
LiteLLM, and this project's program on the same model, without a cache. The server is a process
of its own. Processor time is what other work on the machine disturbs least. `--memory`: the MiB of
this process before, during and after 138 reports x 14 categories, 32 under way, answers cached.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import dspy
import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.cluster import resident
from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.evaluation.asking import readings_of
from crb_dspy.models.lm import Model
from crb_dspy.models.settings import Settings
from crb_dspy.program.prompt import ReportFirst
from tests.fake_server import serving

# (number of calls, concurrency) -> seconds on the clock, and of the processor.
Timed = Callable[[int, int], tuple[float, float]]
Medians = dict[str, dict[str, float]]
REPORT = "The boy had a fever of 39 °C. " * 40


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.memory:
        with beside() as address:
            print(memory(address))
        return
    rates: Medians = {}
    costs: Medians = {}
    with beside() as address:
        kinds = {"http": bare(address), "dspy": plain(address), "ours": ours(address)}
        for timed in kinds.values():
            timed(64, 32)
        for concurrency in (1, 32):
            taken = {name: [] for name in kinds}  # type: dict[str, list[tuple[float, float]]]
            for _ in range(options.rounds):
                for name, timed in kinds.items():
                    taken[name].append(timed(options.calls, concurrency))
            middle = {
                n: [statistics.median(column) for column in zip(*t, strict=True)]
                for n, t in taken.items()
            }
            rates[str(concurrency)] = {n: options.calls / wall for n, (wall, _) in middle.items()}
            costs[str(concurrency)] = {n: 1000 * c / options.calls for n, (_, c) in middle.items()}
    report(rates, costs, options.json)


def report(rates: Medians, costs: Medians, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"calls_per_second": rates, "milliseconds_of_processor": costs}))
        return
    print(f"{'concurrency':>33}{'http':>9}{'dspy':>9}{'ours':>9}{'ours/dspy':>11}{'ours/http':>11}")
    for name, table, sign in (("calls a second", rates, 1), ("ms of processor", costs, -1)):
        for label, row in table.items():
            numbers = "".join(f"{value:>9.2f}" for value in row.values())
            ratios = [(row["ours"] / row[other]) ** sign for other in ("dspy", "http")]
            print(f"{name:>22}{label:>11}{numbers}{ratios[0]:>11.2f}{ratios[1]:>11.2f}")


@contextmanager
def beside() -> Iterator[str]:
    """Serve in a process of its own, whose work is not the client's."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _serve(pipe: Connection) -> None:
    with serving(lambda body: '{"GI": []}') as server:
        pipe.send(server.address)
        pipe.recv()


def timed(call: Callable[[int], object]) -> Timed:
    def run(calls: int, concurrency: int) -> tuple[float, float]:
        started, worked = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(concurrency) as pool:
            for _ in pool.map(call, range(calls)):
                pass
        return time.perf_counter() - started, time.process_time() - worked

    return run


def bare(address: str) -> Timed:
    client = httpx.Client(limits=httpx.Limits(max_connections=64, max_keepalive_connections=64))
    body = {"model": "fake", "messages": [{"role": "user", "content": REPORT}]}
    return timed(lambda _: client.post(f"{address}/chat/completions", json=body).json())


def plain(address: str) -> Timed:
    lm = dspy.LM("openai/fake", api_base=address, api_key="none", cache=False, engine="litellm")
    predict = dspy.Predict("report -> GI: list[str]")

    def call(number: int) -> object:
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), disable_history=True):
            return predict(report=f"{REPORT}{number}")

    return timed(call)


def ours(address: str) -> Timed:
    part = build_program("category_specific", load_schema("casereportbench").select(["GI"]), {}).GI
    lock = threading.Lock()

    def run(calls: int, concurrency: int) -> tuple[float, float]:
        cases = [Case(str(i), {"Report": f"{REPORT}{i}"}) for i in range(calls)]
        with lock, tempfile.TemporaryDirectory() as folder:
            model = Model(
                Settings(model="openai/fake", api_base=address, threads=concurrency), Path(folder)
            )
            model.open()
            lm = model.lm.copy(cache=False)
            with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
                started, worked = time.perf_counter(), time.process_time()
                readings_of([part], cases, threads=concurrency)
                return time.perf_counter() - started, time.process_time() - worked

    return run


def memory(address: str) -> str:
    schema = load_schema("casereportbench")
    parts = list(build_program("category_specific", schema, {}).parts.values())
    cases = [Case(str(i), {"Report": f"{REPORT}{i}"}) for i in range(138)]
    settings = Settings(model="openai/fake", api_base=address, threads=32)
    with tempfile.TemporaryDirectory() as folder:
        model = Model(settings, Path(folder))
        model.open()
        before = resident(os.getpid())
        with dspy.context(lm=model.lm, adapter=ReportFirst(), disable_history=True):
            readings_of(parts, cases, threads=32)
        after, most = (
            resident(os.getpid()),
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )
    calls = model.meter.usage.calls
    return (
        f"memory     {before:.0f} MiB before, at most {most:.0f}, {after:.0f} after {calls} calls"
    )


if __name__ == "__main__":
    main()
