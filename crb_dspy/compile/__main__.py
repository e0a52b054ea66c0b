"""Tune a prompt program on annotated cases and show what it gained.

python -m crb_dspy.compile [EXPERIMENT.toml] [--set key=value ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.command import Parser, columns_flag, hung, parameters, request_flag
from crb_dspy.command import run as run_command
from crb_dspy.files import QUICKSTART

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crb_dspy.compile.config import Experiment
    from crb_dspy.compile.estimate import Phase
    from crb_dspy.compile.plan import Plan
    from crb_dspy.compile.result import Result
    from crb_dspy.scoring.halves import Halves

# Gold quotes that are not in their report, listed by name.
SHOWN = 20


def main(argv: list[str]) -> int:
    """Read the arguments, compile, print the result."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.compile.config import read_experiment, setting

    flags = vars(arguments)
    changes: dict[str, Any] = dict(setting(text) for text in flags.pop("set"))
    if columns := flags.pop("columns"):
        from crb_dspy.data.readers.tables import parsed

        changes["columns"] = parsed(columns)
    for key, value in parameters(flags.pop("request")).items():
        changes[f"request.{key}"] = value
    path, dry, resume = (flags.pop(name) for name in ("experiment", "dry_run", "resume"))
    if (keys := flags.pop("categories")) is not None:
        changes["categories"] = [key.strip() for key in keys.split(",")]
    changes |= {name: value for name, value in flags.items() if value is not None}
    if path is None and "data" not in changes:
        path = QUICKSTART
    experiment = read_experiment(path, changes)
    from crb_dspy.compile.plan import plan

    planned = plan(experiment)
    _announce(planned)
    from crb_dspy.compile.caps import check_caps
    from crb_dspy.compile.flow import run

    if dry:
        check_caps(planned)
    else:
        _report(run(planned, must_resume=resume))
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.compile",
        description="Tune a prompt program on annotated case reports and show what it gained.",
        epilog="Precedence: defaults, then the experiment file, then flags.",
    )
    parser.add_argument(
        "experiment",
        nargs="?",
        type=Path,
        help="TOML file (default: experiments/quickstart.toml; with --data no file)",
    )
    parser.add_argument("--program", help="category_specific, monolithic, or FILE.py:Class")
    parser.add_argument(
        "--optimizer", help="auto (default), labeled, mipro, ..., or FILE.py:function"
    )
    parser.add_argument("--model", help="local/NAME, local/PATH.gguf, or any LiteLLM model")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--reflection-model", help="writes instructions (default: the model)")
    parser.add_argument("--data", help="sample, a case JSONL, a hub table, or a brat folder")
    parser.add_argument("--test-data", help="cases that judge; then all of --data tunes")
    columns_flag(parser)
    parser.add_argument("--limit", type=int, help="use this many cases of --data")
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
    request_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and stop")
    return parser


def _announce(planned: Plan) -> None:
    experiment, sides, estimate = planned.experiment, planned.sides[-1], planned.estimate
    print(f"{experiment.name}: {experiment.program}, {experiment.optimizer}, {experiment.model}")
    judged = f"{planned.tested} test" + (f" in {len(planned.folds)} folds" if planned.folds else "")
    fresh = f" ({len(sides.confirm)} of them for the gate)" if sides.confirm else ""
    validation = f"{len(planned.split.validation)} validation{fresh}"
    apart = f"; {experiment.test_data}: " if experiment.test_data else ", "
    count = len(planned.schema.keys)
    categories = f"{count} {'category' if count == 1 else 'categories'}"
    sizes = f"{len(sides.train)} train, {validation}{apart}{judged}"
    print(f"data       {experiment.data}: {sizes} cases, {categories}")
    if left := planned.unannotated:
        print(f"           left out, without any gold: {', '.join(left)} (--categories all)")
    levels = ", ".join(f"{n} {level}" for level, n in planned.loaded.levels.items() if n)
    print(f"gold       {f'quotes in their reports: {levels}' if levels else 'no quotes'}")
    for note in planned.loaded.notes:
        print(f"           {note}")
    loose = planned.loaded.ungrounded
    for case, category, quote in loose[:SHOWN]:
        print(f"           not in its report: {case} {category}: {quote[:60]!r}")
    if len(loose) > SHOWN:
        print(f"           and {len(loose) - SHOWN} more that are not in their reports")
    _trivial(planned)
    cost = _dollars(experiment, estimate.phases)
    known = f"{estimate.calls} calls, about {estimate.tokens:,} prompt tokens{cost}"
    print(f"estimate   at most {known}")
    for phase in (phase for phase in estimate.phases if phase.calls != 0):
        asked = "unknown" if phase.calls is None else f"{phase.calls} calls"
        sent = f", {phase.tokens:,} tokens" if phase.tokens else ""
        print(f"           {phase.name:14}{phase.role:11}{asked}{sent}")
    sys.stdout.flush()


def _trivial(planned: Plan) -> None:
    """Say what silence and the best trivial system get under another objective than the score."""
    from crb_dspy.scoring.audit import trivial
    from crb_dspy.scoring.objectives import SCORE

    objective, schema = planned.tuning.objective, planned.schema
    if objective.name == SCORE:
        return
    scores = trivial(planned.loaded.cases, schema.keys, objective, schema.kinds)
    best = max(scores, key=scores.__getitem__)
    print(
        f"warning    objective {objective.name}: on these cases the empty answer gets "
        f"{scores['empty']:.3f}, {best.replace('_', ' ')} {scores[best]:.3f}, without reading"
    )


def _dollars(experiment: Experiment, phases: Sequence[Phase]) -> str:
    from crb_dspy.models.prices import price

    roles = experiment.roles
    paid = [p for p in phases if p.tokens and not roles[p.role].embedded]
    usd = sum(price(roles[p.role].model, p.tokens or 0, 0) for p in paid)
    return f", ${usd:.2f} before answers" if usd else ""


def _report(result: Result) -> None:
    from crb_dspy.compile.result import headline, told
    from crb_dspy.evaluation.failures import reasons
    from crb_dspy.scoring.halves import total
    from crb_dspy.tracking.store import guide

    gain, usage = result.difference, result.usage
    errors = [row for row in result.tuned if row.error]
    cells = len(result.tuned)
    if result.stopped:
        print(f"\nstopped    {result.stopped}; what follows is the best so far")
    print("\nparts")
    for name, verdict in result.parts:
        print(hung("", f"{name}: {verdict}", 11))
    if result.stages:
        stages = ", ".join(f"{name} {score:.3f}" for name, score in result.stages.items())
        print(f"expected   on validation, after each stage: {stages}")
    print(f"\n{'':20}{'score':>9}{'with gold':>11}{'without':>9}")
    for name, rows in (
        ("baseline", result.baseline),
        ("tuned", result.tuned),
        *result.systems.items(),
    ):
        halves = total(row.halves for row in rows)
        print(f"{name:20}{_figures(halves)}")
    print(f"           {gain.cases} test cases, {cells} cells")
    print(f"difference {headline(result)}")
    print(hung("", told(result), 11))
    saved = sum(row.salvaged for row in errors)
    print(f"errors     {len(errors)} of {cells} cells, {saved} of them mended")
    for reason in reasons(row.error for row in errors if row.failed):
        print(f"           {reason}")
    for line in result.learnt:
        print(f"server     {line}")
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
    print(*guide(result.run, "strategies", "report"), sep="\n")


def _figures(halves: Halves) -> str:
    """Return score, agreement where there is gold, and silence where there is none, as columns."""
    values = (halves.score, halves.nonempty_f1, halves.empty_agreement)
    told = ("" if value != value else f"{value:.3f}" for value in values)
    return "{:>9}{:>11}{:>9}".format(*told)


def _truths(result: Result) -> None:
    print(f"stages     {'':25}{'estimated':>10}{'asked':>8}{'calls':>8}{'tokens sent':>13}")
    for truth in (truth for truth in result.truths if truth.estimated_calls or truth.usage.asked):
        guess = "unknown" if truth.estimated_calls is None else truth.estimated_calls
        used = truth.usage
        print(
            f"           {truth.stage:14}{truth.role:11}{guess:>10}{used.asked:>8}{used.calls:>8}"
            f"{used.prompt_tokens:>13,}"
        )


if __name__ == "__main__":
    run_command(main)
