"""Run a grid of experiments, or let Optuna search it, and show what each point scored.

python -m crb_dspy.sweep SWEEP.toml [--set key=value ...]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import Parser, run

if TYPE_CHECKING:
    from crb_dspy.models.budget import Caps
    from crb_dspy.sweep.grid import Grid, Point
    from crb_dspy.sweep.points import Outcome

CAPS = ("calls", "tokens", "usd", "minutes")


def main(argv: list[str]) -> int:
    """Read the arguments, carry the points out, print a line for each; 1 if any failed."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.compile.config import setting
    from crb_dspy.models.budget import Caps
    from crb_dspy.sweep.grid import points, read_grid

    flags = vars(arguments)
    changes: dict[str, Any] = dict(setting(text) for text in flags.pop("set"))
    path, dry = flags.pop("sweep"), flags.pop("dry_run")
    caps = Caps(*(flags.pop(f"max_{name}") for name in CAPS))
    changes |= {name: value for name, value in flags.items() if value is not None}
    grid = read_grid(path, changes)
    found = points(grid)
    _announce(grid, found)
    if dry:
        return 0
    from crb_dspy.compile.record import tried

    for point in found:
        tried(point.planned)
    explore = grid.search["search"] == "optuna"
    return _explored(grid, found, caps) if explore else _swept(found, caps)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.sweep",
        description="Run every combination of the lists in an experiment file as a compile.",
        epilog="Points that were finished before are not run again. Caps of the command hold for "
        "all points together, caps in the file for each.",
    )
    parser.add_argument("sweep", type=Path, help="TOML file, as experiments/paper_grid.toml")
    parser.add_argument("--model", help="local/NAME, local/PATH.gguf, or any LiteLLM model")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--data", help="sample, a case JSONL, a hub table, or a brat folder")
    parser.add_argument("--test-data", help="cases that judge; then all of --data tunes")
    parser.add_argument("--limit", type=int, help="use this many cases of --data")
    parser.add_argument("--threads", type=int, help="calls under way at once, over all points")
    parser.add_argument("--out", help="folder of the artefacts (default: mlruns/out)")
    for name, kind in zip(CAPS, (int, int, float, float), strict=True):
        parser.add_argument(f"--max-{name}", type=kind, help=f"cap on {name} of all points")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of an experiment; a list varies it",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the points, and stop")
    return parser


def _announce(grid: Grid, points: Sequence[Point]) -> None:
    varied = " x ".join(f"{len(axis.choices)} {axis.name}" for axis in grid.axes)
    print(f"{grid.name}: {len(points)} points{f' ({varied})' if varied else ''}")
    calls = 0
    for point in points:
        known, judged = point.planned.estimate, point.planned.tested
        calls += known.calls
        asked = f"at most {known.calls:6} calls, {known.tokens:11,} tokens"
        print(f"  {point.name:40} {asked}, {judged} test cases")
    print(f"estimate   at most {calls} calls, fewer where points ask the same", flush=True)


def _swept(points: Sequence[Point], caps: Caps) -> int:
    from crb_dspy.sweep.budget import SharedBudget
    from crb_dspy.sweep.points import carried_out

    outcomes = _shown(carried_out(points, SharedBudget(caps, points)), len(points))
    scored = [outcome for outcome in outcomes if not math.isnan(outcome.score)]
    print("\nby score, each against its own seed with a 95 % interval")
    for outcome in sorted(scored, key=lambda outcome: -outcome.score):
        print(_line(outcome))
    print("\nThe largest number is not yet the best strategy. Which differences between points are")
    print("shown, and by how much, python -m crb_dspy.compare says.")
    return _verdict(outcomes)


def _explored(grid: Grid, points: Sequence[Point], caps: Caps) -> int:
    from crb_dspy.sweep.budget import SharedBudget
    from crb_dspy.sweep.study import Study

    study = Study(grid, points)
    judged = [len(point.planned.split.test) for point in study.points.values()]
    held = max(len(point.planned.split.test) for point in points)
    print(
        f"study      {study.name}: {study.wanted} trials, judged on {max(judged)} cases", flush=True
    )
    print(f"           out of train and validation; {held} test cases are left for the end")
    shared = SharedBudget(caps, list(study.points.values()), study.wanted / len(points))
    outcomes = _shown(study.run(shared), study.wanted)
    print(f"\nof {study.finished} trials, none is better in both score and tokens than")
    for outcome in study.front():
        print(_line(outcome))
    print("\nThese scores were chosen by, so they flatter. To judge one on the test cases:")
    for outcome in study.front():
        print(f"  python -m crb_dspy.compile {_written(study.name, outcome.name, points)}")
    return _verdict(outcomes)


def _written(study: str, name: str, points: Sequence[Point]) -> Path:
    """Write a point as an experiment of its own."""
    from crb_dspy.compile.artifacts import toml
    from crb_dspy.files import write_whole

    (experiment,) = (p.planned.experiment for p in points if p.name == name)
    path = Path(experiment.out) / study / f"{name}.toml"
    write_whole(path, toml(experiment.model_dump(by_alias=True)))
    return path


def _shown(outcomes: Iterable[Outcome], total: int) -> list[Outcome]:
    """Print a line for each outcome as it comes."""
    kept: list[Outcome] = []
    for outcome in outcomes:
        kept.append(outcome)
        print(f"{len(kept):3}/{total} {_line(outcome)}", flush=True)
    return kept


def _line(outcome: Outcome) -> str:
    why = f": {outcome.why}" if outcome.why else ""
    if math.isnan(outcome.score):
        return f"  {outcome.name:40} {outcome.state}{why}"
    gain = f"{outcome.difference:+.3f}" if outcome.difference else "as its seed"
    if outcome.difference and not math.isnan(outcome.low):
        gain += f" ({outcome.low:+.3f} to {outcome.high:+.3f})"
    state = "" if outcome.state == "done" else f"  {outcome.state}{why}"
    cost = f"{outcome.calls:6} calls {outcome.tokens:10,.0f} tokens {outcome.seconds:6.0f} s"
    return f"  {outcome.name:40} {outcome.score:.3f}  {gain:26} {cost}{state}"


def _verdict(outcomes: Sequence[Outcome]) -> int:
    failed = [outcome.name for outcome in outcomes if outcome.state == "failed"]
    if failed:
        sys.stdout.flush()
        sys.stderr.write(f"{len(failed)} of {len(outcomes)} points failed: {', '.join(failed)}\n")
    return int(bool(failed))


if __name__ == "__main__":
    run(main)
