"""What a compile leaves behind: files that can be read, run again, and loaded."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crb_dspy.catalog import code_of
from crb_dspy.compile import card
from crb_dspy.compile.config import Experiment
from crb_dspy.compile.plan import Plan
from crb_dspy.compile.result import Result, headline, metrics, slug, told
from crb_dspy.compile.stays import stays
from crb_dspy.data.splits import Split
from crb_dspy.evaluation.rows import records, table
from crb_dspy.files import as_json, legible, write_lines, write_whole
from crb_dspy.models import parameters
from crb_dspy.models.settings import Endpoint
from crb_dspy.origin import Origin
from crb_dspy.program import ExtractionProgram
from crb_dspy.program.prompt import ReportFirst
from crb_dspy.report import Prompt, Searched, report
from crb_dspy.report.cells import cells_of
from crb_dspy.saved import Saved, write_program
from crb_dspy.scoring.objectives import SCORE
from crb_dspy.trust import foreign
from crb_dspy.tuning import ledger


def write_inputs(folder: Path, experiment: Experiment, split: Split) -> list[Path]:
    """Write the resolved experiment and the split; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    resolved, sides = folder / "experiment.toml", folder / "split.json"
    write_whole(resolved, toml(experiment.model_dump(by_alias=True)))
    names = {
        side: [case.id for case in getattr(split, side)] for side in ("train", "validation", "test")
    }
    write_whole(sides, as_json(names, indent=1))
    return [resolved, sides]


def write_outputs(planned: Plan, tuned: ExtractionProgram, result: Result) -> list[Path]:
    """Write program, card, prompts, candidates, cells and page of a result; return their paths."""
    folder = result.folder
    cells, readable, page = (folder / n for n in ("cells.jsonl", "prompts.md", "report.html"))
    write_whole(readable, prompts(planned.tuning.program, tuned))
    write_whole(page, _page(planned, tuned, result))
    write_whole(folder / card.NAME, card.card(planned, tuned, result))
    saved = _saved(planned, tuned, result)
    about = saved.origin
    own = about.program if about.code else None
    # It need not be asked about when the program is opened again.
    foreign.agree(own, about.model, about.api_base, about.api_key_env)
    foreign.agree_request(parameters.redirects(about.request))
    if model := planned.experiment.embeddings:
        foreign.agree_embeddings(model)
    for kind in planned.schema.own_kinds:
        foreign.agree_code(kind)
    return [
        *([_server(folder, result.learnt)] if result.learnt else []),
        write_program(folder / "program.json", saved),
        folder / card.NAME,
        readable,
        page,
        write_lines(folder / "candidates.jsonl", result.candidates),
        write_lines(cells, records(columns(result))),
    ]


def _server(folder: Path, learnt: Sequence[str]) -> Path:
    """Write what was learnt of the servers."""
    path = folder / "server.json"
    write_whole(path, as_json(list(learnt), indent=1))
    return path


def columns(result: Result) -> dict[str, list[Any]]:
    """Return the tuned cells as columns, with what the seed made of each."""
    before = table(result.baseline)
    theirs = {"predicted_baseline": "predicted", "score_baseline": "score"}
    theirs |= {f"{name}_baseline": name for name in ("reason", "error", "salvaged")}
    others = {
        f"{column}_{slug(name)}": table(rows)[column]
        for name, rows in result.systems.items()
        for column in ("predicted", "score")
    }
    return table(result.tuned) | {name: before[theirs[name]] for name in theirs} | others


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


def _saved(planned: Plan, tuned: ExtractionProgram, result: Result) -> Saved:
    experiment = planned.experiment
    found = metrics(result)
    origin = Origin(
        **Endpoint.of(experiment).model_dump(),
        program=experiment.program,
        program_options=experiment.program_options,
        code=code_of(experiment.program),
        schema=experiment.schema_,
        categories=list(planned.schema.keys),
        scores={name: value for name, value in found.items() if name.startswith("test/score")},
    )
    return Saved(tuned, planned.schema, origin)


def _page(planned: Plan, tuned: ExtractionProgram, result: Result) -> str:
    experiment = planned.experiment
    title = f"{experiment.name}: {experiment.program}, {experiment.optimizer}, {experiment.model}"
    title += f", objective {experiment.objective}" if experiment.objective != SCORE else ""
    halved = planned.tuning.objective.halved
    pairs: list[Prompt] = [
        (name, before, after) for name, before, after in _pairs(planned.tuning.program, tuned)
    ]
    return report(
        title,
        f"{headline(result).replace('  ', ', ')}\n{told(result)}",
        cells_of(result.baseline, halved),
        cells_of(result.tuned, halved),
        planned.loaded.cases,
        planned.schema,
        pairs,
        Searched(
            result.parts, result.candidates, _taken(planned, tuned, result), stays(planned, result)
        ),
    )


def _taken(planned: Plan, tuned: ExtractionProgram, result: Result) -> dict[str, str]:
    """Return the names of the candidates that parts use in place of their seeds."""
    parts = replace(planned.tuning, program=tuned).seeds
    used = {name: (ledger.prompts(part), ledger.supported(part)) for name, part in parts.items()}
    return {
        str(row["part"]): str(row["candidate"])
        for row in reversed(result.candidates)
        if row["number"] and used.get(str(row["part"])) == (row["prompt"], row["classifier"])
    }


def _pairs(seed: ExtractionProgram, tuned: ExtractionProgram) -> Iterable[tuple[str, str, str]]:
    for name, part in tuned.parts.items():
        before = dict(seed.parts[name].named_predictors())
        for label, predictor in part.named_predictors():
            shown = name if label == "predict" else f"{name} ({label})"
            yield shown, _shown(before[label]), _shown(predictor)


def _shown(predictor: Any) -> str:
    messages = ReportFirst().format(predictor.signature, predictor.demos, {"report": "{{report}}"})
    return "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in messages)


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
    if isinstance(value, dict):
        inner = [f"{_toml_value(key)} = {_toml_value(its)}" for key, its in value.items()]
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    # JSON is TOML but for tables and the one control character that JSON leaves as it is.
    return legible(json.dumps(value, ensure_ascii=False)).replace("\x7f", "\\u007f")
