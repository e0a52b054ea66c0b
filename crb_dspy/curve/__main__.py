"""Show what more annotated cases would bring: the score against their number.

python -m crb_dspy.curve EXPERIMENT.toml [--sizes 6,12,24] [--set key=value ...]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.compile.plan import Plan
    from crb_dspy.curve.stands import Stand


def main(argv: list[str]) -> int:
    """Read the arguments, carry the experiment out at each size, print, plot."""
    arguments = _parser().parse_args(argv)
    sizes = _sizes(arguments.sizes)
    from crb_dspy.compile.config import read_experiment, setting
    from crb_dspy.compile.plan import plan
    from crb_dspy.curve.stands import check, stands

    planned = plan(
        read_experiment(arguments.experiment, dict(setting(text) for text in arguments.set))
    )
    check(planned, sizes)
    print(f"{planned.experiment.name}: {planned.tested} test cases", flush=True)
    found = []
    for stand in stands(planned, sizes):
        found.append(stand)
        print(_line(stand), flush=True)
    print(f"MLflow run {_logged(planned, found)}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.curve",
        description="Compile an experiment with 6, 12, 24 ... of its annotated cases, on the same "
        "test cases, and show the scores.",
    )
    parser.add_argument("experiment", type=Path, help="TOML file, as of compile")
    parser.add_argument("--sizes", default="6,12,24", metavar="N,N,...", help="numbers of cases")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of an experiment"
    )
    return parser


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError as error:
        raise UserError(f"--sizes {text}: write numbers, as 6,12,24") from error


def _line(stand: Stand) -> str:
    told = "  ".join(
        f"{name} {score.mean:.3f} ({score.low:.3f} to {score.high:.3f})"
        for name, score in stand.scores.items()
    )
    return f"{stand.size:4} cases  {told}"


def _logged(planned: Plan, found: Sequence[Stand]) -> str:
    """Keep the curve as a run of its own: a metric with a step for each size, and a plot."""
    from crb_dspy.curve.plot import write
    from crb_dspy.files import as_json
    from crb_dspy.tracking import store

    experiment = planned.experiment
    folder = Path(experiment.out) / f"{experiment.name}-curve"
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "curve.json"
    table.write_text(as_json(json.loads(json.dumps([asdict(s) for s in found], default=str))))
    benchmark = f"{planned.schema.name}: {Path(experiment.data).stem}"
    about = {"sizes": ",".join(str(stand.size) for stand in found), "test": planned.tested}
    with store.tracked(benchmark, f"{experiment.name} curve", about, kind="curve") as kept:
        for name in found[0].scores:
            values = [stand.scores[name].mean for stand in found]
            kept.batch(kept.id, {}, {f"curve/{name.replace(' ', '_')}": values})
        for path in (table, write(found, folder / "curve.png")):
            kept.keep(path)
            print(f"written    {path}")
        return kept.id


if __name__ == "__main__":
    run(main)
