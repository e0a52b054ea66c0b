"""What MLflow costs a compile whose model answers at once: 138 cases x 14 categories.

    python bench/tracking.py [--optimizer bootstrap] [--cases 138] [--folds 5] [--json]

The compile runs twice, by its command, against a server on loopback that quotes a sentence at
once, in a process of its own: first with no store ("cold"), then beside the first run. All that
it waits for tracking is timed: the import of MLflow with the opening of the store, and the
writing. Processor seconds are what other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).parents[1])
sys.path.insert(0, ROOT)

WRITES = ("log", "keep", "table", "tag", "describe", "child", "dataset", "traces")


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        return serve()
    if sys.argv[1:2] == ["--timed"]:
        return timed(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--optimizer", default="bootstrap")
    parser.add_argument("--cases", type=int, default=138)
    parser.add_argument("--folds", type=int, default=0, help="judge all cases, by cross-fitting")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving() as address:
        write_cases(Path(folder) / "cases.jsonl", options.cases)
        arguments = ["--data", "cases.jsonl", "--optimizer", options.optimizer, "--threads", "8"]
        arguments += ["--model", "openai/fake", "--api-base", address]
        arguments += ["--folds", str(options.folds)] if options.folds else []
        rows = {store: compiled(folder, arguments) for store in ("cold", "warm")}
    if options.json:
        print(json.dumps(vars(options) | rows))
        return
    judged = f", {options.folds} folds" if options.folds else ""
    print(f"{options.optimizer}, {options.cases} cases x 14 categories{judged}, an instant model")
    print(f"{'store':8}{'seconds':12}{'compile':>10}{'opening':>10}{'writing':>10}{'share':>10}")
    for store, kinds in rows.items():
        for kind, row in kinds.items():
            numbers = "".join(f"{row[name]:10.2f}" for name in ("compile", "opening", "writing"))
            print(f"{store:8}{kind:12}{numbers}{row['share']:10.1%}")


def compiled(folder: str, arguments: list[str]) -> dict[str, dict[str, float]]:
    """Compile with nothing known but the store; return seconds and tracking's share of them."""
    for known in ("cache", "out"):
        shutil.rmtree(Path(folder) / "mlruns" / known, ignore_errors=True)
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, __file__, "--timed", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    took: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    for row in took.values():
        row["share"] = (row["opening"] + row["writing"]) / row["compile"]
    return {kind: {name: round(s, 4) for name, s in row.items()} for kind, row in took.items()}


class Watch:
    """Seconds by the clock and by the processor, by what was done; inner work is not outer work."""

    def __init__(self) -> None:
        self.took = dict.fromkeys(("compile", "opening", "writing"), (0.0, 0.0))
        self._running: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        outer, started = self._running[-1:], now()
        self._running.append(name)
        try:
            yield
        finally:
            self._running.pop()
            spent = [end - start for start, end in zip(started, now(), strict=True)]
            for key, sign in [(name, 1), *((key, -1) for key in outer if key != "compile")]:
                wall, own = self.took[key]
                self.took[key] = (wall + sign * spent[0], own + sign * spent[1])

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return the function with its time taken."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self(name):
                return function(*arguments, **named)

        return call


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def timed(arguments: list[str]) -> None:
    """Run the command with a watch on tracking, and print what the watch shows."""
    watch = Watch()
    with watch("compile"):
        from crb_dspy.compile.__main__ import main as compile_
        from crb_dspy.tracking import run as mlflow_run
        from crb_dspy.tracking import store as tracking

        opened = tracking.tracked

        @contextmanager
        def tracked(*arguments: Any, **named: Any) -> Iterator[mlflow_run.Run]:
            run = opened(*arguments, **named)
            inner = watch.around(run.__enter__, "writing")()
            yield inner
            watch.around(run.__exit__, "writing")(None, None, None)

        for name in WRITES:
            setattr(mlflow_run.Run, name, watch.around(getattr(mlflow_run.Run, name), "writing"))
        tracking.connect = watch.around(tracking.connect, "opening")
        tracking.tracked = tracked
        compile_(arguments)
    kinds = zip(("clock", "processor"), zip(*watch.took.values(), strict=True), strict=True)
    print(json.dumps({kind: dict(zip(watch.took, row, strict=True)) for kind, row in kinds}))


@contextmanager
def serving() -> Iterator[str]:
    """Serve a model in a process of its own, and give its address."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def serve() -> None:
    """Serve until standard input is closed."""
    from tests.fake_server import Body, asked_keys
    from tests.fake_server import serving as fake

    def quoting(body: Body) -> str:
        """Quote a sentence for each category, by chance that can be repeated, now and then none."""
        prompt = body["messages"][-1]["content"]
        if "Task:" not in prompt:
            return '{"answer": ["yes"]}'
        sentences = prompt.split("\n</report>\n")[0].split(". ")
        chance = random.Random(prompt)
        picked = {key: chance.sample(sentences, chance.randrange(2)) for key in asked_keys(body)}
        return json.dumps(picked)

    with fake(quoting) as server:
        print(server.address, flush=True)
        sys.stdin.read()


def write_cases(path: Path, number: int) -> None:
    """Write the sample's cases over and over, each time as other texts."""
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.schema import load_schema

    cases = load("sample", load_schema("casereportbench")).cases
    lines = []
    for copy in range(number):
        case = cases[copy % len(cases)]
        sections = {f"Copy {copy}": "Once more.", **case.sections}
        gold = {key: list(quotes) for key, quotes in (case.gold or {}).items()}
        lines.append(json.dumps({"id": f"c{copy}", "sections": sections, "gold": gold}) + "\n")
    path.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
