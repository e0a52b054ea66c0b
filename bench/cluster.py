"""Extraction on a local Ray cluster against fake servers, killed and resumed.

    python bench/cluster.py [--reports 2000] [--workers 2] [--threads 8] [--latency 0] [--kill]

Invented short reports, all 14 categories, one call a category; the two servers answer after
`--latency` seconds. `--kill` ends three workers and, once, the whole run with SIGKILL, and gives
the same command again. Printed: reports and calls a second (also without the start of Ray), calls
repeated, the most memory that driver and workers held in each tenth of the run, and whether every
report has one row, equal to that of `--engine local` for a thousand reports spread evenly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.catalog import build_program
from crb_dspy.data.readers import reports
from crb_dspy.data.schema import load_schema
from crb_dspy.extract.partitions import Partitions
from crb_dspy.extract.spread import deal
from crb_dspy.origin import Origin
from crb_dspy.saved import Saved, write_program

ROOT = Path(__file__).parents[1]
WORKERS_KILLED = 3
# Reports that are read by `--engine local` too, about.
SAMPLE = 1000
_KEY = re.compile(rb'Answer in JSON: \\"(\w+)\\"')


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reports", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, answering(2, options.latency) as servers:
        folder = Path(name)
        keys = made(folder, options.reports)
        ray = command(servers, options, "ray")
        started = time.perf_counter()
        memory, steady = watched(folder, ray, options)
        seconds = time.perf_counter() - started
        counts = asked(servers)
        rows = list(Partitions(str(folder / "ray"), keys).all_rows())
        calls = sum(counts.values())
        print(f"reports    {options.reports} x {len(keys)} categories, {options.workers} workers")
        print(
            f"seconds    {seconds:.0f}: {len(rows) / seconds:.1f} reports a second, "
            f"{calls / seconds:.0f} calls a second; from the first file on {steady:.1f} reports, "
            f"{steady * len(keys):.0f} calls"
        )
        repeated = calls - len(counts)
        print(f"calls      {calls}, {repeated} of them repeated ({repeated / calls:.2%})")
        tenth = -(-len(memory) // 10)
        most = [f"{max(memory[at : at + tenth]):.0f}" for at in range(0, len(memory), tenth)]
        print(f"memory     {' '.join(most)} MiB, by tenths of the run")
        ids = [row["id"] for row in rows]
        print(
            f"rows       {len(ids)}, {len(set(ids))} of them distinct, "
            f"{'in' if ids == [f'c{i}' for i in range(options.reports)] else 'NOT in'} order"
        )
        print(f"errors     {sum(len(row['errors']) for row in rows)}")
        few = local(folder, servers, options)
        print(
            f"as local   {rows[:: options.reports // len(few)][: len(few)] == few}, n = {len(few)}"
        )


def made(folder: Path, wanted: int) -> tuple[str, ...]:
    """Write a program and reports; return the categories."""
    schema = load_schema("casereportbench")
    origin = Origin(
        model="openai/fake",
        program="category_specific",
        schema="casereportbench",
        categories=list(schema.keys),
    )
    write_program(
        folder / "p.json", Saved(build_program("category_specific", schema, {}), schema, origin)
    )
    few = max(1, wanted // SAMPLE)
    for name, numbers in (("reports", range(wanted)), ("few", range(0, wanted, few))):
        with (folder / f"{name}.jsonl").open("w") as file:
            for i in numbers:
                text = f"A girl had cough {i}. " + "She was well and had no fever. " * 20
                file.write(json.dumps({"id": f"c{i}", "sections": {"Case": text}}) + "\n")
    return schema.keys


def command(servers: list[tuple[str, Connection]], options: Any, engine: str) -> list[str]:
    source, out = ("reports.jsonl", "ray") if engine == "ray" else ("few.jsonl", "local.jsonl")
    bases = [part for address, _ in servers for part in ("--api-base", address)]
    more = ["--workers", str(options.workers)] if engine == "ray" else []
    return [
        sys.executable, "-m", "crb_dspy.extract", "p.json", "--input", source, "--out", out,
        "--engine", engine, "--threads", str(options.threads), *bases, *more,
    ]  # fmt: skip


def local(folder: Path, servers: list[tuple[str, Connection]], options: Any) -> list[Any]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = command(servers, options, "local")
    subprocess.run(run, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (folder / "local.jsonl").read_text().splitlines()]
    return [{**row, "source": "reports.jsonl"} for row in rows]


def watched(folder: Path, run: list[str], options: Any) -> tuple[list[float], float]:
    """Run to the end, killing if asked to.

    Return the MiB that its processes held, each second, and reports a second from the first file.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    total = len(deal(reports([str(folder / "reports.jsonl")], folder / "ray")).pieces)
    left = [total * (n + 1) // 5 for n in range(WORKERS_KILLED + 1)] if options.kill else []
    memory: list[float] = []
    begun, there = 0.0, 0
    process = subprocess.Popen(run, cwd=folder, env=env)
    while (code := process.poll()) is None:
        time.sleep(1)
        tree = below(process.pid)
        memory.append(
            sum(resident(pid) for pid, name in tree if "Worker" in name or pid == process.pid)
        )
        files = len(list((folder / "ray").glob("part-*")))
        if files and not begun:
            begun, there = time.perf_counter(), files
        workers = [pid for pid, name in tree if "MapWorker" in name]
        if left and files >= left[0] and workers:
            left.pop(0)
            if left:
                print(f"kill       worker {workers[0]} at {files} of {total} files", flush=True)
                os.kill(workers[0], signal.SIGKILL)
            else:
                print(f"kill       driver at {files} of {total} files", flush=True)
                process.kill()
                process.wait()
                process = subprocess.Popen(run, cwd=folder, env=env)
    if code:
        raise SystemExit(f"the run ended with {code}")
    share = (total - there) / total
    return memory, share * options.reports / (time.perf_counter() - begun)


def below(root: int) -> list[tuple[int, str]]:
    """Return process and command of all that a process started, and of itself."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                names[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
                parents[int(entry.name)] = int(stat[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [(pid, names.get(pid, "")) for pid in found]


def resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def answering(count: int, latency: float = 0.0) -> Iterator[list[tuple[str, Connection]]]:
    """Serve in processes of their own; each tells on demand how often it was asked what."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=serve, args=(theirs, latency), daemon=True) for _, theirs in pipes
    ]
    for process in processes:
        process.start()
    yield [(ours.recv(), ours) for ours, _ in pipes]
    for process in processes:
        process.kill()


def asked(servers: list[tuple[str, Connection]]) -> Counter[bytes]:
    total: Counter[bytes] = Counter()
    for _, pipe in servers:
        pipe.send(None)
        total += pipe.recv()
    return total


class Quick(asyncio.Protocol):
    """Answers chat completions: a cough for GI, nothing for the rest."""

    def __init__(self, counts: Counter[bytes], latency: float) -> None:
        self.counts, self.latency, self.held = counts, latency, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, end, body = self.held.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self.held = body[length:]
        answer = '{"answer": ["yes"]}'
        if key := _KEY.search(body):
            self.counts[blake2b(body[:length], digest_size=8).digest()] += 1
            name = key[1].decode()
            answer = json.dumps({name: ["no fever"] if name == "GI" else []})
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": length // 4, "completion_tokens": len(answer) // 4}
        reply = {"id": "x", "model": "fake", "choices": [choice], "usage": usage}
        payload = json.dumps(reply).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        loop = asyncio.get_running_loop()
        loop.call_later(self.latency, self.transport.write, head % len(payload) + payload)


def serve(pipe: Connection, latency: float) -> None:
    counts: Counter[bytes] = Counter()

    def tell() -> None:
        pipe.recv()
        pipe.send(counts)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Quick(counts, latency), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pipe.send(f"http://127.0.0.1:{port}/v1")
        loop.add_reader(pipe.fileno(), tell)
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
