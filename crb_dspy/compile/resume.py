"""Going on with a run that was broken off: the same question only, answered from its cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crb_dspy import __version__
from crb_dspy.catalog import code_of, codes_of
from crb_dspy.compile.plan import Plan
from crb_dspy.errors import UserError
from crb_dspy.files import as_json, fingerprint, write_whole
from crb_dspy.tuning.ledger import identity

NAME = "run.json"


def inputs(planned: Plan) -> dict[str, Any]:
    """Return all that decides a run; asks no model."""
    return {
        **planned.experiment.model_dump(by_alias=True),
        "data set": planned.loaded.fingerprint,
        "cases of train, validation and test": planned.split.fingerprint,
        "prompts of the seed": identity(planned.tuning.program),
        "schema's text": fingerprint(planned.schema.model_dump()),
        "file of the program": code_of(planned.experiment.program),
        **{f"file of kind {name}": code for name, code in codes_of(planned.schema).items()},
        "file of the optimizer": code_of(planned.experiment.optimizer),
        **{f"endpoint of the {r} model": s.identity for r, s in planned.experiment.roles.items()},
        "version": __version__,
    }


def then(folder: Path, now: Mapping[str, Any], *, must: bool = False) -> dict[str, Any] | None:
    """Return the run in a folder if it asked for the very same: its MLflow run, if it finished.

    `must`: UserError that says what changed in place of None.
    """
    state = _read(folder)
    if state is not None and not changed(state["inputs"], now):
        return state
    if must:
        raise UserError(_refusal(folder, state, now))
    return None


def write(folder: Path, now: Mapping[str, Any], mlflow: str, *, finished: bool) -> None:
    """Write what is asked and by which MLflow run, for a later one to go on."""
    state = {"inputs": now, "mlflow": mlflow, "finished": finished}
    write_whole(folder / NAME, as_json(state, indent=1))


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for every input that is not what it was."""
    plain = json.loads(json.dumps(now))
    return [
        f"{key}: {then.get(key)!r} then, {plain.get(key)!r} now"
        for key in dict.fromkeys([*then, *plain])
        if then.get(key) != plain.get(key)
    ]


def _refusal(folder: Path, then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    where = folder
    if then is None:
        stem = folder.name.rpartition("-")[0]
        others = sorted(folder.parent.glob(f"{stem}-*/{NAME}"), key=lambda p: p.stat().st_mtime)
        if not others:
            return f"--resume: no run '{stem}' in {folder.parent}; start one without --resume"
        where = others[-1].parent
        then = _read(where)
    differences = "; ".join(changed((then or {}).get("inputs", {}), now))
    return f"--resume: {where} was another question: {differences}; run without --resume"


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((folder / NAME).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(state, dict) and {"inputs", "mlflow", "finished"} <= set(state)
    return state if whole and isinstance(state["inputs"], dict) else None
