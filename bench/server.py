"""Run the experiments in experiments/server/ on a model behind an API, and print one table.

    python bench/server.py --model openai/NAME --api-base http://localhost:8000/v1 [--threads 32]
        [--only gold24_auto maccrobat_sparse ...] [--reflection-model NAME] [--set KEY=VALUE ...]
        [--table-only]

CRB_REAL_DATA names the folder of the annotated data. Every file is a sweep, but curve.toml, which
`python -m crb_dspy.curve` carries out, and whose table it prints. What was finished before is not
run again; one file's failure is told and does not end the others. The table has a row for each run
and, once for each set of test cases, rows of the empty answer and of the sentence classifier learnt
from the same cases.
Metrics are those of MLflow: docs/metrics.md. `seconds` are of the whole run, search included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.compare.stored import Stored, runs
from crb_dspy.compile.config import setting
from crb_dspy.compile.flow import parameters
from crb_dspy.sweep.grid import Grid, points, read_grid

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "server"
CURVE = "curve"
COLUMNS: Mapping[str, str] = {
    "seed": "test/score_baseline",
    "score": "test/score",
    "with gold": "test/nonempty_f1",
    "without": "test/empty_agreement",
    "negations": "test/negation_recall",
    "TSR": "paper/tsr_norm",
    "calls": "cost/calls",
    "prompt tokens": "cost/prompt_tokens",
    "computed": "cost/computed_tokens",
    "generated": "cost/completion_tokens",
    "seconds": "cost/seconds",
}
# What tells a point of a file from others of its name.
SAME = ("program", "optimizer", "model", "seed", "folds", "category_keys", "data_fingerprint")
SYSTEMS = ("empty_answer", "sentence_classifier")
HALVES = {"score": "score", "with gold": "nonempty_f1", "without": "empty_agreement"}


def main() -> int:
    options = _options()
    names = options.only or sorted(path.stem for path in FOLDER.glob("*.toml"))
    failed = (
        [] if options.table_only else [name for name in names if not carried_out(name, options)]
    )
    known = runs()
    for name in (name for name in names if name != CURVE):
        print(f"\n## {name}\n")
        print("\n".join(table(latest(known, FOLDER / f"{name}.toml", options))))
    for name in failed:
        print(f"\n{name}: ended with an error, see above")
    return 1 if failed else 0


def carried_out(name: str, options: argparse.Namespace) -> bool:
    """Run one experiment file; say whether it ended well."""
    door = "curve" if name == CURVE else "sweep"
    command = [sys.executable, "-m", f"crb_dspy.{door}", str(FOLDER / f"{name}.toml")]
    command += ["--sizes", "6,12,18"] if name == CURVE else []
    command += [word for change in _settings(options) for word in ("--set", change)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return not subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, check=False
    ).returncode


def table(found: Sequence[Stored]) -> list[str]:
    """Return runs as rows of Markdown, and what systems without a model made of their cases."""
    rows = [["system", *COLUMNS], ["---"] + ["---:"] * len(COLUMNS)]
    for run in found:
        rows.append([run.name, *(_number(run.metrics.get(name)) for name in COLUMNS.values())])
    for about, run in {_judged(run): run for run in found}.items():
        for system in SYSTEMS:
            own = {column: run.metrics.get(f"{system}/{m}") for column, m in HALVES.items()}
            cells = [_number(own.get(column)) for column in COLUMNS]
            rows.append([f"{system.replace('_', ' ')} ({about[1]} cells)", *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def latest(known: Iterable[Stored], file: Path, options: argparse.Namespace) -> list[Stored]:
    """Return the newest finished run of each point of a file, in the order of the file."""
    wanted = {point.name: parameters(point.planned) for point in points(_grid(file, options))}
    own: dict[str, Stored] = {}
    for run in known:
        if run.name not in wanted or run.status != "FINISHED" or "test/score" not in run.metrics:
            continue
        if all(run.params.get(key) == str(wanted[run.name][key]) for key in SAME):
            own[run.name] = run
    return [own[name] for name in wanted if name in own]


def _grid(file: Path, options: argparse.Namespace) -> Grid:
    changes = dict(setting(text) for text in _settings(options))
    return read_grid(file, changes)


def _settings(options: argparse.Namespace) -> list[str]:
    names = ("model", "threads", "api_base", "reflection_model")
    given = {name: getattr(options, name) for name in names}
    return [*(f"{name}={value}" for name, value in given.items() if value), *options.set]


def _judged(run: Stored) -> tuple[str, str]:
    """Return what tells test cases from others: their split, and how many cells they have."""
    cells = int(run.params.get("categories", 0)) * int(run.params.get("test", 0))
    return run.params.get("split_fingerprint", ""), str(cells or "all")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) <= 1 and value != int(value) else f"{value:,.0f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--api-base")
    parser.add_argument("--reflection-model")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table-only", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
