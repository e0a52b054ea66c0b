"""What the stack costs over a bare HTTP call, against a server that answers at once.

    python bench/overhead.py [--calls 300] [--json]

Calls a second at concurrency 1 and 32, the median of three rounds each, for a bare HTTP client,
plain `dspy.Predict` over LiteLLM, and this project's program on the same model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.cases import Case
from crb_dspy.catalog import build_program
from crb_dspy.evaluation import read
from crb_dspy.models.reach import Model, Settings
from crb_dspy.prompt import ReportFirst
from crb_dspy.schema import load_schema
from tests.fake_server import serving

# Rates of calls of one kind at one concurrency: (number of calls, concurrency) -> seconds.
Timed = Callable[[int, int], float]
REPORT = "The boy had a fever of 39 °C. " * 40


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates: dict[str, dict[str, float]] = {}
    with serving(lambda body: '{"GI": []}') as server:
        kinds = {
            "http": bare(server.address),
            "dspy": plain(server.address),
            "ours": ours(server.address),
        }
        for timed in kinds.values():
            timed(64, 32)
        for concurrency in (1, 32):
            rounds = {name: [] for name in kinds}  # type: dict[str, list[float]]
            for _ in range(3):
                for name, timed in kinds.items():
                    rounds[name].append(options.calls / timed(options.calls, concurrency))
            rates[str(concurrency)] = {n: round(statistics.median(r), 1) for n, r in rounds.items()}
    ratios = {c: round(rate["ours"] / rate["dspy"], 3) for c, rate in rates.items()}
    if options.json:
        print(json.dumps({"calls_per_second": rates, "ours_to_dspy": ratios}))
        return
    print(f"{'concurrency':>12}{'http':>12}{'dspy':>12}{'ours':>12}{'ours/dspy':>12}")
    for label, rate in rates.items():
        numbers = "".join(f"{value:>12}" for value in (*rate.values(), ratios[label]))
        print(f"{label:>12}{numbers}")


def timed(call: Callable[[int], object]) -> Timed:
    def run(calls: int, concurrency: int) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(concurrency) as pool:
            for _ in pool.map(call, range(calls)):
                pass
        return time.perf_counter() - started

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

    def run(calls: int, concurrency: int) -> float:
        cases = [Case(str(i), {"Report": f"{REPORT}{i}"}) for i in range(calls)]
        with lock, tempfile.TemporaryDirectory() as folder:
            model = Model(Settings("openai/fake", address, threads=concurrency), Path(folder))
            model.open()
            lm = model.lm.copy(cache=False)
            with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
                started = time.perf_counter()
                read([part], cases, threads=concurrency)
                return time.perf_counter() - started

    return run


if __name__ == "__main__":
    main()
