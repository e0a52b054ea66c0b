"""Compare strategies that were run on the same test cases, and say what is shown.

python -m crb_dspy.compare [RUN ...] [--experiment NAME] [--baseline RUN] [--published]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, run, screen
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.compare.comparison import Comparison
    from crb_dspy.compare.comparison_text import Reference
    from crb_dspy.compare.strategies import Choice

COSTS = ("report_tokens", "tokens", "calls", "asked", "usd", "seconds")


def main(argv: list[str]) -> int:
    """Read the arguments, compare, print, and log the comparison as a run of its own."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.compare import comparison_text as text
    from crb_dspy.compare.comparison import compare
    from crb_dspy.compare.stored import runs
    from crb_dspy.compare.strategies import choose, laid_out
    from crb_dspy.tracking.store import guide

    choice = choose(
        runs(arguments.experiment), arguments.run, arguments.baseline, arguments.experiment
    )
    comparison = compare(laid_out(choice), cost=arguments.cost or "")
    references = _references(comparison) if arguments.published else []
    page = _side_by_side(comparison, choice) if arguments.html else ""
    outputs = {arguments.markdown: text.markdown, arguments.csv: text.values}
    for path, written in outputs.items():
        if path is not None:
            _write(path, written(comparison, references))
    for note in choice.notes:
        print(f"note: {note}")
    print(text.terminal(comparison, references, screen(text.WIDTH)), end="")
    if arguments.html is not None:
        _write(arguments.html, page)
        print(f"\nquotes of both beside each other: {arguments.html}")
    kept = _logged(comparison, references, choice)
    print(f"\nMLflow run {kept}", *guide(kept, "run"), sep="\n")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.compare",
        description="Compare strategies that were run on the same test cases.",
        epilog="The baseline is RUN, or the untuned program of a run with RUN:seed; without "
        "--baseline the oldest run with optimizer none, else the seed of the oldest run.",
    )
    parser.add_argument(
        "run", nargs="*", help="id, its beginning, or name (default: all compiles of --experiment)"
    )
    parser.add_argument("--experiment", help="of MLflow (default: the only one)")
    parser.add_argument("--baseline", metavar="RUN", help="what the others are compared with")
    parser.add_argument("--published", action="store_true", help="show published scores beside")
    parser.add_argument("--cost", choices=COSTS, help="that scores are held against")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the tables")
    parser.add_argument("--csv", type=Path, metavar="PATH", help="write all numbers")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write two runs side by side")
    return parser


def _references(comparison: Comparison) -> list[Reference]:
    from crb_dspy.compare.comparison_text import MEASURED, PUBLISHED, Reference
    from crb_dspy.compare.published import load_published

    benchmark = comparison.baseline.params.get("benchmark")
    if benchmark != "casereportbench":
        raise UserError(f"--published: scores are of casereportbench, these runs of {benchmark}")
    table = load_published()
    table = table[table.category.isin(comparison.board.categories)]
    keys = ["metric", "model", "strategy", "prompting"]
    means = table.groupby(keys, as_index=False)["value"].mean()
    shown = [
        Reference(metric, f"{model} / {strategy} / {prompting}", value, PUBLISHED)
        for metric, model, strategy, prompting, value in means.itertuples(index=False)
    ]
    return shown + [
        Reference(metric, own.label, own.metrics[f"paper/{metric}"], MEASURED)
        for metric in means["metric"].unique()
        for own in comparison.board.strategies
        if f"paper/{metric}" in own.metrics
    ]


def _side_by_side(comparison: Comparison, choice: Choice) -> str:
    """Return the page on which the quotes of two strategies stand in their reports."""
    from crb_dspy import report
    from crb_dspy.compare.sentences import sentence
    from crb_dspy.compare.strategies import cells
    from crb_dspy.compile.config import read_experiment
    from crb_dspy.compile.plan import plan
    from crb_dspy.tracking.store import fetch

    if len(comparison.gains) != 1:
        raise UserError(f"--html shows two strategies, not {len(comparison.gains) + 1}: name them")
    base, (gain,) = choice.baseline, comparison.gains
    rows = {run.id: cells(run) for run in choice.runs}
    seed = report.baseline_of(rows[base.id]) if choice.seed else rows[base.id]
    planned = plan(read_experiment(fetch(base.id, "experiment.toml"), {}))
    if planned.loaded.fingerprint != base.params["data_fingerprint"]:
        raise UserError(f"{planned.experiment.data}: not the cases of run {base.id} any more")
    names = (comparison.baseline.label, gain.strategy.label)
    return report.side_by_side(
        f"{names[0]} and {names[1]}",
        sentence(comparison),
        seed,
        rows[gain.strategy.run],
        planned.loaded.cases,
        planned.schema,
        names,
    )


def _logged(comparison: Comparison, references: Sequence[Reference], choice: Choice) -> str:
    """Keep tables and figures as a run that no comparison takes for a strategy."""
    from crb_dspy.compare import comparison_text as text
    from crb_dspy.compare import plots
    from crb_dspy.compare.comparison import SAME
    from crb_dspy.compare.sentences import sentence
    from crb_dspy.files import fingerprint
    from crb_dspy.tracking import store as tracking

    strategies, base = comparison.board.strategies, choice.baseline
    name = f"comparison-{fingerprint([strategy.run for strategy in strategies])}"
    folder = tracking.FOLDER / "out" / name
    tables = (text.markdown(comparison, references), text.values(comparison, references))
    for file, table in zip(("comparison.md", "comparison.csv"), tables, strict=True):
        _write(folder / file, table)
    about = {key: base.params.get(key, "unknown") for key in SAME}
    about |= {"baseline": comparison.baseline.label, "strategies": str(len(strategies))}
    title = f"comparison of {len(strategies)} strategies"
    with tracking.tracked(base.experiment, title, about, kind="comparison") as run_:
        for path in (folder / "comparison.md", folder / "comparison.csv"):
            run_.keep(path)
        for path in plots.write(comparison, folder):
            run_.keep(path)
        run_.tag("verdict", sentence(comparison))
        run_.describe(tables[0])
        return run_.id


def _write(path: Path, text: str) -> None:
    from crb_dspy.files import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    run(main)
