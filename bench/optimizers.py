"""What tuning by parts gains over tuning the whole program at once: score against calls.

    python bench/optimizers.py --only simulated [--seeds 20] [--plot curves.png] [--json]
    python bench/optimizers.py --only real [--model local/NAME] [--max-calls 600] [--json]

Simulated: recipes search, through the same seam as in a compile, over 14 parts whose answers come
from a response function (`bench/simulated.py`). A call is one part asked about one case, or one
request for an instruction. The same wording asked about the same case again is answered from the
cache: it counts for neither side as a call, for both as a request. By parts all parts run side by
side, each having a call in turn until its search is over. Both have the budget of the same
options: `mipro` the trials that MIPROv2's own formula gives to 14 predictors and 10 candidates,
twice as many with demonstrations, and `gepa`, which changes one instruction a round, 14 times the
rounds for the whole program. There is no gate, and every part has the same share.

`calls_to_reach_joint_best_ratio` is, for each seed, the calls after which the search by parts is
for good as well off as the joint search in the end, over all calls that the joint search spent;
the median over seeds. `requests_to_reach_joint_best_ratio` is the same as if there were no cache.
With the cache a joint `mipro` of few candidates soon has asked every wording about every case.
`--plain-joint` lets the joint search meet every case with every candidate, as MIPROv2 does.

Real: a compile with `joint = true` and one with `joint = false` under the same cap on calls, each
in a folder of its own so that neither profits from the other's answers. The data is MACCROBAT in
the folder that CRB_REAL_DATA names. The same command again goes on with what was broken off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.simulated import MODES, SEARCHES, UNITS, simulated
from crb_dspy.command import run as run_command
from crb_dspy.compile.config import setting


def tell(found: Mapping[str, Any]) -> None:
    """Print a table for each search."""
    for label, joint in found["joint"].items():
        parts = found["by_parts"][label]
        print(f"{label}: score of the best so far, {found['seeds']} seeds, median (quartiles)")
        print(f"{'calls':>8}{'joint':>24}{'by parts':>24}")
        rows = [[_shown(mode, n) for mode in (joint, parts)] for n in range(len(joint["calls"]))]
        for calls, row in zip(joint["calls"], rows, strict=True):
            print(f"{calls:8}{row[0]:>24}{row[1]:>24}")
        print(f"{'end':>8}{joint['final']:>24.3f}{parts['final']:>24.3f}")
        better = sum(b > j for j, b in zip(joint["finals"], parts["finals"], strict=True))
        calls, requests = (found[f"{unit}_to_reach_joint_best_ratio"][label] for unit in UNITS)
        print(
            f"by parts is better in the end with {better} seeds, and as good as joint after "
            f"{calls:.1%} of its calls,\n{requests:.1%} of its requests if there were no cache\n"
        )


def _shown(mode: Mapping[str, Any], row: int) -> str:
    return f"{mode['median'][row]:.3f} ({mode['low'][row]:.3f}-{mode['high'][row]:.3f})"


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw score against calls, a panel for each search, as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure((4.5 * len(found["joint"]), 4), layout="constrained")
    panels = figure.subplots(1, len(found["joint"]), sharey=True, squeeze=False)[0]
    for axes, label in zip(panels, found["joint"], strict=True):
        for mode, colour in zip(MODES, ("#d55e00", "#0072b2"), strict=True):
            of_mode = found[mode][label]
            name = f"{mode.replace('_', ' ')}, {of_mode['final']:.3f} in the end"
            axes.plot(of_mode["calls"], of_mode["median"], color=colour, label=name)
            axes.fill_between(
                of_mode["calls"], of_mode["low"], of_mode["high"], color=colour, alpha=0.2
            )
        axes.set(title=label.replace("_", " with "), xlabel="calls")
        axes.legend(loc="upper left", fontsize=8)
    panels[0].set_ylabel(f"score of the best so far, {found['seeds']} seeds")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def real(options: argparse.Namespace) -> dict[str, Any]:
    """Compile by parts and jointly with each recipe, in a process and a folder each."""
    keys = {key: getattr(options, key) for key in ("schema", "limit", "max_calls", "model")}
    common: dict[str, Any] = {**keys, "gate": 1.0, "categories": options.categories.split(",")}
    source = Path(options.data)
    common["data"] = str(source.resolve()) if source.exists() else options.data
    common |= {"api_base": options.api_base} if options.api_base else {}
    common |= dict(setting(text) for text in options.set)
    found: dict[str, Any] = {mode: {} for mode in MODES}
    for name in options.optimizers.split(","):
        for mode in MODES:
            changes = {"name": f"{name}-{mode}", "optimizer": name, "joint": mode == "joint"}
            folder = options.folder / f"{name}-{mode}"
            found[mode][name] = compiled({**common, **changes}, folder)
    return found


def compiled(changes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Compile in a process of its own, so that nothing is shared; exit if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: its for name, its in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(changes)]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def child(changes: Mapping[str, Any]) -> None:
    """Compile, and print what came of it as one line."""
    from crb_dspy.compile.config import read_experiment
    from crb_dspy.compile.flow import run
    from crb_dspy.compile.plan import plan
    from crb_dspy.compile.result import metrics

    result = run(plan(read_experiment(None, changes)))
    found, gain = metrics(result), result.difference
    row = {
        "baseline": round(found["test/score_baseline"], 4),
        "test": round(found["test/score"], 4),
        **{n: round(v, 4) for n, v in asdict(gain).items() if n in ("difference", "low", "high")},
        "cases": gain.cases,
        "calls": result.usage.calls,
        "requests": result.usage.asked,
        "tokens": result.usage.tokens,
        "seconds": round(result.seconds, 1),
        "stopped": result.stopped,
    }
    print(json.dumps({name: None if value != value else value for name, value in row.items()}))


def tell_real(found: Mapping[str, Any]) -> None:
    """Print a row for each compile."""
    rows = [(name, mode, row) for mode in MODES for name, row in found[mode].items()]
    columns = list(rows[0][2])[:-1]
    print(f"{'':24}" + "".join(f"{column:>12}" for column in columns))
    for name, mode, row in sorted(rows, key=lambda told: told[0]):
        numbers = "".join(f"{'' if row[c] is None else row[c]:>12}" for c in columns)
        print(f"{name + ', ' + mode:24}{numbers}  {row['stopped']}")


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    if options.child:
        child(json.loads(options.child))
        return 0
    found: dict[str, Any] = {}
    if options.only != "real":
        found["simulated"] = simulated(
            options.searches or SEARCHES[:2],
            options.seeds,
            options.trials,
            options.rounds,
            races=not options.plain_joint,
        )
        if options.plot:
            plot(found["simulated"], options.plot)
    if options.only != "simulated":
        found["real"] = real(options)
    if options.json:
        print(json.dumps(found))
        return 0
    for kind, told in (("simulated", tell), ("real", tell_real)):
        if kind in found:
            told(found[kind])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=("simulated", "real"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    invented = parser.add_argument_group("simulated")
    invented.add_argument("--seeds", type=int, default=20)
    invented.add_argument(
        "--searches", nargs="+", choices=SEARCHES, help=f"(default: {', '.join(SEARCHES[:2])})"
    )
    invented.add_argument("--trials", type=int, default=93, help="of mipro")
    invented.add_argument("--rounds", type=int, default=6, help="of gepa, a part")
    invented.add_argument(
        "--plain-joint", action="store_true", help="joint gives no candidate up, as DSPy's do not"
    )
    invented.add_argument("--plot", type=Path, help="draw the curves into this PNG file")
    data = parser.add_argument_group("real")
    data.add_argument("--model", default="local/qwen2.5-coder-1.5b-instruct")
    data.add_argument("--api-base")
    data.add_argument("--optimizers", default="mipro,gepa")
    data.add_argument("--data", default="$CRB_REAL_DATA/maccrobat/cases.jsonl")
    data.add_argument("--schema", default="maccrobat")
    data.add_argument("--categories", default="Age,Sex,History,Sign_symptom")
    data.add_argument("--limit", type=int, default=30)
    data.add_argument("--max-calls", type=int, default=600)
    data.add_argument("--folder", type=Path, default=Path("mlruns/bench"))
    data.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    run_command(main)
