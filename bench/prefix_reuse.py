"""What the report-first layout saves on a real engine: prompt tokens sent, computed, and score.

    python bench/prefix_reuse.py --data CASES --limit 3 --model local/NAME [--json]

Runs three untuned programs over the same cases, without a cache of answers: `monolithic`,
`category_specific`, and `category_specific` in the layout of DSPy's ChatAdapter, which puts
the instruction before the report. Computed tokens are the server's own count.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dspy

from crb_dspy.catalog import build_program
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.evaluation.asking import evaluate
from crb_dspy.evaluation.rows import score_of
from crb_dspy.models.lm import Model
from crb_dspy.models.settings import Settings
from crb_dspy.program.prompt import ReportFirst
from crb_dspy.progress import phase

COUNTED = ("prompt_tokens", "computed_tokens", "completion_tokens", "calls")


class DefaultLayout(dspy.ChatAdapter):  # type: ignore[misc]
    """DSPy's own layout and parser, one answer as it came."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        completions: list[dict[str, Any]] = super().__call__(*args, **kwargs)
        return [{**completion, "irregular": {}} for completion in completions]


RUNS: Mapping[str, tuple[str, type[dspy.Adapter]]] = {
    "monolithic": ("monolithic", ReportFirst),
    "category_specific": ("category_specific", ReportFirst),
    "category_specific_chat": ("category_specific", DefaultLayout),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample")
    parser.add_argument("--schema", default="casereportbench")
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--model", default="local/qwen2.5-coder-1.5b-instruct")
    parser.add_argument("--api-base")
    parser.add_argument("--only", choices=RUNS, help="one program, for a quick look")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    schema = load_schema(options.schema)
    cases = load(options.data, schema, limit=options.limit).cases
    names = [options.only] if options.only else list(RUNS)
    settings = Settings(model=options.model, api_base=options.api_base)
    programs = {name: measured(name, settings, options.schema, cases) for name in names}
    report(programs, len(cases), as_json=options.json)


def measured(name: str, settings: Settings, schema: str, cases: Sequence[Case]) -> dict[str, float]:
    """Run one program on an engine of its own, so that no run profits from another's prefixes."""
    program_name, adapter = RUNS[name]
    program = build_program(program_name, load_schema(schema), {})
    with tempfile.TemporaryDirectory() as folder:
        model = Model(settings, Path(folder))
        try:
            model.open()
            before, started = model.meter.usage, time.perf_counter()
            with dspy.context(lm=model.lm, adapter=adapter(), disable_history=True):
                total = len(cases) * len(program.parts)
                with phase(name, total) as tick:
                    rows = evaluate(program, cases, progress=tick)
            usage = asdict(model.meter.usage - before)
        finally:
            model.close()
    return {
        **{renamed(key): usage[key] for key in COUNTED},
        "seconds": round(time.perf_counter() - started, 1),
        "score": round(score_of(rows), 4),
        "errors": sum(bool(row.error) for row in rows),
    }


def renamed(counter: str) -> str:
    return {"prompt_tokens": "prompt_tokens_sent", "computed_tokens": "prompt_tokens_computed"}.get(
        counter, counter
    )


def report(programs: Mapping[str, Mapping[str, float]], cases: int, *, as_json: bool) -> None:
    computed = {name: run["prompt_tokens_computed"] for name, run in programs.items()}
    ours = computed.get("category_specific")
    result: dict[str, Any] = {"programs": programs, "cases": cases}
    if ours and "monolithic" in computed:
        result["computed_ratio_to_monolithic"] = round(ours / computed["monolithic"], 3)
    if ours and "category_specific_chat" in computed:
        result["computed_ratio_chat_to_ours"] = round(computed["category_specific_chat"] / ours, 3)
    if as_json:
        print(json.dumps(result))
        return
    columns = list(next(iter(programs.values())))
    print(f"{cases} cases\n{'':24}" + "".join(f"{column:>24}" for column in columns))
    for name, run in programs.items():
        print(f"{name:24}" + "".join(f"{run[column]:>24}" for column in columns))
    for name in ("computed_ratio_to_monolithic", "computed_ratio_chat_to_ours"):
        if name in result:
            print(f"{name}: {result[name]}")


if __name__ == "__main__":
    main()
