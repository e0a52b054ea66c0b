"""What a compile leaves behind: files that can be read, run again, and loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crb_dspy import __version__
from crb_dspy.cases import Split, fingerprint
from crb_dspy.catalog import build_program
from crb_dspy.config import Experiment
from crb_dspy.errors import UserError
from crb_dspy.program import ExtractionProgram
from crb_dspy.prompt import ReportFirst
from crb_dspy.schema import Schema, load_schema


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


def write_program(
    folder: Path, experiment: Experiment, schema: Schema, programs: Sequence[ExtractionProgram]
) -> list[Path]:
    """Write the tuned program and its prompts beside those of the seed; return their paths."""
    seed, tuned = programs
    state = {
        "crb_dspy": __version__,
        "program": experiment.program,
        "program_options": experiment.program_options,
        "schema": experiment.schema_,
        "categories": list(schema.keys),
        "schema_fingerprint": fingerprint(schema.model_dump()),
        "state": tuned.dump_state(),
    }
    saved, readable = folder / "program.json", folder / "prompts.md"
    saved.write_text(json.dumps(state, indent=1, ensure_ascii=False), "utf-8")
    readable.write_text(prompts(seed, tuned), "utf-8")
    return [saved, readable]


def prompts(seed: ExtractionProgram, tuned: ExtractionProgram) -> str:
    """Return every prompt for people, `{{report}}` standing for the report."""
    blocks = []
    for name, part in tuned.parts.items():
        for label, predictor in part.named_predictors():
            before = _shown(dict(seed.parts[name].named_predictors())[label])
            after = _shown(predictor)
            change = "tuned" if after != before else "as the seed"
            blocks.append(f"## {name} ({label}, {change})\n\n{after}")
            if after != before:
                blocks.append(f"### Seed of {name}\n\n{before}")
    return "# Prompts\n\n" + "\n\n".join(blocks) + "\n"


def _shown(predictor: Any) -> str:
    messages = ReportFirst().format(predictor.signature, predictor.demos, {"report": "{{report}}"})
    return "\n\n".join(f"{m['role']}:\n\n````text\n{m['content']}\n````" for m in messages)


def load_program(path: Path) -> tuple[ExtractionProgram, Schema]:
    """Return a saved program and its schema; UserError for a file that is not of this schema."""
    try:
        saved = json.loads(path.read_text("utf-8"))
        schema = load_schema(saved["schema"]).select(saved["categories"])
        program = build_program(saved["program"], schema, saved["program_options"])
        known = saved["schema_fingerprint"] == fingerprint(schema.model_dump())
        state = saved["state"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a program of crb_dspy: {error!r}") from error
    if not known:
        raise UserError(f"{path}: schema '{schema.name}' has changed since; compile again")
    program.load_state(state)
    return program, schema


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write one JSON object a line."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path
