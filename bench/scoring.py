"""How long scoring takes: every metric over 138 x 14 invented cells, on one core.

python bench/scoring.py [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence

from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import load_schema
from crb_dspy.quotes.grounding import ground
from crb_dspy.scoring import objective, paper, spans, tokens

CASES, ROUNDS = 138, 3
Cell = tuple[str, list[str], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cells = invented()
    timed = {"objective": seconds(lambda: [objective.score_cell(*cell) for cell in cells])}
    for name in paper.PAPER:
        timed[name] = seconds(
            lambda name=name: [paper.score_cell(gold, found, [name]) for _, gold, found in cells]  # type: ignore[misc]
        )
    timed["field"] = seconds(lambda: [spans.pooled([spans.count(*cell)]) for cell in cells])
    total = sum(timed.values())
    if options.json:
        print(json.dumps({"cells": len(cells), "seconds": timed, "total": total}))
        return
    print(f"{len(cells)} cells, median of {ROUNDS} rounds, caches emptied before each")
    for name, value in {**timed, "total": total}.items():
        print(f"{name:16}{value:8.3f} s")


def invented() -> list[Cell]:
    """Return the sample's cells over and over, each time as other texts, with noisy predictions."""
    schema, chance = load_schema("casereportbench"), random.Random(0)
    cases, cells = load("sample", schema).cases, []
    for number in range(CASES):
        case = cases[number % len(cases)]
        text = f"{case.text}\n\nCopy {number}. " + case.text.split("\n", 1)[1]
        everything = [quote for key in schema.keys for quote in (case.gold or {})[key]]
        for key in schema.keys:
            gold = list((case.gold or {})[key])
            cells.append((text, gold, predicted(gold, everything, chance)))
    return cells


def predicted(gold: Sequence[str], others: Sequence[str], chance: random.Random) -> list[str]:
    """Return some of gold, some of it shortened, something else, now and then a fabrication."""
    kept = [quote for quote in gold if chance.random() < 0.7]
    short = [" ".join(q.split()[:4]) if chance.random() < 0.3 else q for q in kept]
    made_up = ["a fabricated finding of nothing"] if chance.random() < 0.2 else []
    return short + chance.sample(list(others), min(2, len(others))) + made_up


def seconds(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        for cached in (ground, tokens.tokenized, paper._best_ratio):
            cached.cache_clear()
        started = time.process_time()
        work()
        rounds.append(time.process_time() - started)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
