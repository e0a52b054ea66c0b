"""Tune a prompt program on annotated cases and show what it gained.

python -m crb_dspy.compile [EXPERIMENT.toml] [--set key=value ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import run as run_command

if TYPE_CHECKING:
    from crb_dspy.running.estimate import Phase
    from crb_dspy.running.plan import Plan
    from crb_dspy.running.result import Result

# Gold quotes that are not in their report, listed by name.
SHOWN = 20
QUICKSTART = Path(__file__).parents[1] / "experiments" / "quickstart.toml"


def main(argv: list[str]) -> int:
    """Read the arguments, compile, print the result."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.config import read_experiment, setting

    flags = vars(arguments)
    changes: dict[str, Any] = dict(setting(text) for text in flags.pop("set"))
    path, dry, resume = (flags.pop(name) for name in ("experiment", "dry_run", "resume"))
    if (keys := flags.pop("categories")) is not None:
        changes["categories"] = [] if keys == "all" else [key.strip() for key in keys.split(",")]
    changes |= {name: value for name, value in flags.items() if value is not None}
    if path is None and "data" not in changes:
        path = QUICKSTART
    experiment = read_experiment(path, changes)
    from crb_dspy.running.estimate import estimate
    from crb_dspy.running.plan import plan

    planned = plan(experiment)
    _announce(planned, estimate(planned))
    if not dry:
        from crb_dspy.running.flow import run

        _report(run(planned, must_resume=resume))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crb_dspy.compile",
        description="Tune a prompt program on annotated case reports and show what it gained.",
        epilog="Precedence: defaults, then the experiment file, then flags.",
    )
    parser.add_argument(
        "experiment",
        nargs="?",
        type=Path,
        help="TOML file (default: experiments/quickstart.toml, or with --data none)",
    )
    parser.add_argument("--program", help="category_specific, monolithic, or FILE.py:Class")
    parser.add_argument("--optimizer", help="none, labeled, mipro, ..., or FILE.py:function")
    parser.add_argument("--model", help="local/NAME, local/PATH.gguf, or any LiteLLM model")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--reflection-model", help="writes instructions (default: the model)")
    parser.add_argument("--data", help="sample, a case JSONL, a hub table, or a brat folder")
    parser.add_argument("--limit", type=int, help="use this many cases")
    parser.add_argument("--categories", help="KEY,KEY,... or all")
    parser.add_argument("--seed", type=int, help="of the split and all chance")
    parser.add_argument("--threads", type=int, help="calls under way at once")
    parser.add_argument("--folds", type=int, help="judge every case by a program tuned without it")
    parser.add_argument("--max-calls", type=int, help="cap on calls of all models together")
    parser.add_argument("--max-tokens", type=int, help="cap on tokens, sent and generated")
    parser.add_argument("--max-usd", type=float, help="cap on dollars (local models cost none)")
    parser.add_argument("--max-minutes", type=float, help="cap on minutes")
    parser.add_argument(
        "--force", action="store_true", default=None, help="search parts without headroom too"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the same run only, or say what changed"
    )
    parser.add_argument("--out", help="folder of the artefacts (default: mlruns/out)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of an experiment"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and stop")
    return parser


def _announce(planned: Plan, phases: list[Phase]) -> None:
    from crb_dspy.running.estimate import total

    experiment, sides = planned.experiment, planned.sides(planned.split)
    print(f"{experiment.name}: {experiment.program}, {experiment.optimizer}, {experiment.model}")
    judged = f"{planned.tested} test" + (f" in {len(planned.folds)} folds" if planned.folds else "")
    validation = f"{len(planned.split.validation)} validation ({len(sides.confirm)} fresh)"
    sizes = f"{len(sides.train)} train, {validation}, {judged}"
    print(f"data       {experiment.data}: {sizes} cases, {len(planned.schema.keys)} categories")
    levels = ", ".join(f"{n} {level}" for level, n in planned.loaded.levels.items() if n)
    print(f"gold       {levels or 'no quotes'}")
    loose = planned.loaded.ungrounded
    for case, category, quote in loose[:SHOWN]:
        print(f"           not in its report: {case} {category}: {quote[:60]!r}")
    if len(loose) > SHOWN:
        print(f"           and {len(loose) - SHOWN} more that are not in their reports")
    calls, tokens = total(phases)
    cost = _dollars(planned, phases)
    print(f"estimate   at most {calls} calls, about {tokens:,} prompt tokens{cost}")
    for phase in phases:
        asked = "unknown" if phase.calls is None else f"{phase.calls} calls"
        sent = f", {phase.tokens:,} tokens" if phase.tokens else ""
        print(f"           {phase.name:14}{phase.role:11}{asked}{sent}")
    sys.stdout.flush()


def _dollars(planned: Plan, phases: list[Phase]) -> str:
    from crb_dspy.models.wire import price

    task = planned.experiment.model
    models = {"task": task, "reflection": planned.experiment.reflection_model or task}
    paid = [p for p in phases if p.tokens and not models[p.role].startswith("local/")]
    usd = sum(price(models[p.role], p.tokens or 0, 0) for p in paid)
    return f", ${usd:.2f} before answers" if usd else ""


def _report(result: Result) -> None:
    from crb_dspy.running.result import headline, metrics
    from crb_dspy.tracking import uri

    found, gain, usage = metrics(result), result.difference, result.usage
    errors = [row for row in result.tuned if row.error]
    cells = len(result.tuned)
    if result.stopped:
        print(f"\nstopped    {result.stopped}; what follows is the best so far")
    print("\nparts")
    for name, verdict in result.parts:
        print(f"           {name}: {verdict}")
    print(
        f"\nbaseline   {found['test/score_baseline']:.3f}  ({gain.cases} test cases, {cells} cells)"
    )
    print(f"tuned      {found['test/score']:.3f}")
    print(f"difference {headline(result)}")
    saved = sum(row.salvaged for row in errors)
    print(f"errors     {len(errors)} of {cells} cells, {saved} of them salvaged")
    cached = max(0, usage.cached)  # an answer lost by a kill was asked twice
    print(f"calls      {usage.calls}, {cached} more from the cache, {usage.lost} lost")
    print(
        f"tokens     {usage.prompt_tokens} sent ({usage.computed_tokens} computed), "
        f"{usage.completion_tokens} generated"
    )
    print(f"seconds    {result.seconds:.0f}")
    _truths(result)
    print(f"artefacts  {result.folder}; MLflow run {result.run}")
    print(f"read       {result.folder}/report.html")
    print(f"compare    make ui STORE={uri()}")


def _truths(result: Result) -> None:
    print(f"stages     {'':25}{'estimated':>10}{'asked':>8}{'calls':>8}{'tokens sent':>13}")
    for truth in result.truths:
        guess = "unknown" if truth.estimated_calls is None else truth.estimated_calls
        used = truth.usage
        print(
            f"           {truth.stage:14}{truth.role:11}{guess:>10}{used.asked:>8}{used.calls:>8}"
            f"{used.prompt_tokens:>13,}"
        )


if __name__ == "__main__":
    run_command(main)
