"""What a compile leaves behind: files that can be read, run again, and loaded."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crb_dspy.cases import Split
from crb_dspy.catalog import code_of
from crb_dspy.config import Experiment
from crb_dspy.evaluation import records, table
from crb_dspy.program import ExtractionProgram
from crb_dspy.prompt import ReportFirst
from crb_dspy.report import Prompt, report
from crb_dspy.running.plan import Plan
from crb_dspy.running.result import Result, headline, metrics
from crb_dspy.saved import Origin, Saved, write_program


def toml(table: Mapping[str, Any]) -> str:
    """Write an experiment as TOML; None values are left out."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml_value(value)}" for key, value in plain.items() if value is not None]
    for name, inner in table.items():
        if isinstance(inner, dict) and inner:
            lines += ["", f"[{name}]"]
            lines += [f"{_toml_value(key)} = {_toml_value(v)}" for key, v in inner.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    # JSON is TOML but for tables and the one control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_inputs(folder: Path, experiment: Experiment, split: Split) -> list[Path]:
    """Write the resolved experiment and the split; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    resolved, sides = folder / "experiment.toml", folder / "split.json"
    resolved.write_text(toml(experiment.model_dump(by_alias=True)), "utf-8")
    names = {
        side: [case.id for case in getattr(split, side)] for side in ("train", "validation", "test")
    }
    sides.write_text(json.dumps(names, indent=1, ensure_ascii=False), "utf-8")
    return [resolved, sides]


def write_outputs(planned: Plan, tuned: ExtractionProgram, result: Result) -> list[Path]:
    """Write program, prompts, candidates, cells and the page of a result; return their paths."""
    folder = result.folder
    cells, readable, page = (folder / n for n in ("cells.jsonl", "prompts.md", "report.html"))
    readable.write_text(prompts(planned.program, tuned), "utf-8")
    page.write_text(_page(planned, tuned, result), "utf-8")
    return [
        write_program(folder / "program.json", _saved(planned, tuned, result)),
        readable,
        page,
        write_rows(folder / "candidates.jsonl", result.candidates),
        write_rows(cells, records(columns(result))),
    ]


def columns(result: Result) -> dict[str, list[Any]]:
    """Return the tuned cells as columns, with what the seed made of each."""
    before = table(result.baseline)
    theirs = {"predicted_baseline": "predicted", "score_baseline": "score"}
    theirs |= {f"{name}_baseline": name for name in ("reason", "error", "salvaged")}
    return table(result.tuned) | {name: before[theirs[name]] for name in theirs}


def _saved(planned: Plan, tuned: ExtractionProgram, result: Result) -> Saved:
    experiment = planned.experiment
    names = (
        "program",
        "program_options",
        "model",
        "api_base",
        "temperature",
        "context",
        "seed",
        "api_key_env",
    )
    scores = {
        name: value for name, value in metrics(result).items() if name.startswith("test/score")
    }
    origin = Origin(
        **{name: getattr(experiment, name) for name in names},
        code=code_of(experiment.program),
        schema=experiment.schema_,
        categories=list(planned.schema.keys),
        scores=scores,
    )
    return Saved(tuned, planned.schema, origin)


def _page(planned: Plan, tuned: ExtractionProgram, result: Result) -> str:
    experiment = planned.experiment
    title = f"{experiment.name}: {experiment.program}, {experiment.optimizer}, {experiment.model}"
    pairs: list[Prompt] = [
        (name, before, after) for name, before, after in _pairs(planned.program, tuned)
    ]
    return report(
        title,
        headline(result).replace("  ", ", "),
        result.baseline,
        result.tuned,
        planned.loaded.cases,
        planned.schema,
        pairs,
        result.parts,
    )


def prompts(seed: ExtractionProgram, tuned: ExtractionProgram) -> str:
    """Return every prompt for people, changed ones as a diff from the seed's.

    `{{report}}` stands for the report.
    """
    blocks = []
    for name, before, after in _pairs(seed, tuned):
        if before == after:
            blocks.append(f"## {name} (as the seed)\n\n````text\n{after}\n````")
            continue
        both = (before.splitlines(), after.splitlines())
        lines = difflib.unified_diff(*both, "seed", "tuned", lineterm="")
        change = "\n".join(lines)
        blocks.append(
            f"## {name} (tuned)\n\n````text\n{after}\n````\n\n"
            f"### Change\n\n````diff\n{change}\n````"
        )
    return "# Prompts\n\n" + "\n\n".join(blocks) + "\n"


def _pairs(seed: ExtractionProgram, tuned: ExtractionProgram) -> Iterable[tuple[str, str, str]]:
    for name, part in tuned.parts.items():
        before = dict(seed.parts[name].named_predictors())
        for label, predictor in part.named_predictors():
            shown = name if label == "predict" else f"{name} ({label})"
            yield shown, _shown(before[label]), _shown(predictor)


def _shown(predictor: Any) -> str:
    messages = ReportFirst().format(predictor.signature, predictor.demos, {"report": "{{report}}"})
    return "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in messages)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write one JSON object a line."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path
