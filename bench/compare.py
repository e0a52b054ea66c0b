"""How long the comparison of many runs takes, as the command is typed.

    python bench/compare.py [--runs 50] [--json]

Invented scores over 138 cases x 14 categories a run, kept in MLflow as a compile keeps them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.data.schema import load_schema
from crb_dspy.tracking.store import tracked

CASES, TEXT = 138, "was found to be in the report but is not what was sought, nor is it near to it"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        size = fill(options.runs)
        command = [sys.executable, "-m", "crb_dspy.compare"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        started = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = round(time.perf_counter() - started, 2)
        os.chdir("/")
    found: dict[str, Any] = {"runs": options.runs, "cells_mb": round(size / 1e6, 1)}
    found["seconds"] = seconds
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"{options.runs} runs of {CASES} x 14 cells, {found['cells_mb']} MB of cells: {seconds} s"
    )


def fill(runs: int) -> int:
    """Store runs with their cells; return the bytes of those."""
    keys, rng, size = load_schema("casereportbench").keys, np.random.default_rng(0), 0
    same = {"benchmark": "casereportbench", "data_fingerprint": "d", "split_fingerprint": "s"}
    about = {**same, "categories": len(keys), "program": "category_specific"}
    hard = rng.uniform(0, 1, (CASES, len(keys)))
    for number in range(runs):
        scores = np.clip(hard + rng.normal(0.01, 0.2, hard.shape), 0, 1)
        optimizer = "bootstrap" if number else "none"
        with tracked("bench", f"run {number}", {**about, "optimizer": optimizer}) as run:
            cells = Path("cells.jsonl")
            with cells.open("w") as file:
                for case, row in enumerate(scores):
                    for key, score in zip(keys, row, strict=True):
                        file.write(json.dumps(cell(f"case{case}", key, float(score))) + "\n")
            size += cells.stat().st_size
            run.keep(cells)
            experiment = Path("experiment.toml")
            experiment.write_text(f"name = 'run {number}'\n")
            run.keep(experiment)
            run.log({"test/score": float(scores.mean()), "cost/tokens": 1e5 * (1 + number)})
    return size


def cell(case: str, key: str, score: float) -> dict[str, object]:
    """Return a row of cells.jsonl with as much text as a real one."""
    told = {"case": case, "group": case, "category": key, "score": score, "score_baseline": 0.5}
    quotes = {name: [TEXT, TEXT] for name in ("gold", "predicted", "predicted_baseline")}
    return {**told, **quotes, "reason": TEXT * 2, "error": "", "salvaged": False}


if __name__ == "__main__":
    main()
