"""Predictions of any system: one JSON object a line, checked before they are scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from crb_dspy.errors import UserError
from crb_dspy.schema import unknown

Findings = dict[str, list[str]]


def read_predictions(
    path: Path, keys: Sequence[str], ids: Sequence[str], *, allow_missing: bool = False
) -> dict[str, Findings]:
    """Read lines `{"id": ..., "findings": {category: [quote, ...]}}` for known cases.

    A category that is left out found nothing. UserError naming file, line and case for an id
    that is unknown or comes twice, a category that is not in the schema, anything but a list
    of texts, and, unless `allow_missing`, for cases without a line.
    """
    found: dict[str, Findings] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        name, findings = _checked(f"{path}: line {number}", line, keys)
        if name not in ids:
            raise UserError(f"{path}: line {number}: {unknown('case', name, ids[:50])}")
        if name in found:
            raise UserError(f"{path}: line {number}: case '{name}' was there before")
        found[name] = findings
    missing = [name for name in ids if name not in found]
    if missing and not allow_missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{path}: no prediction for case {', '.join(missing[:3])}{more}; "
            "--allow-missing counts them as having found nothing"
        )
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; convert it first") from error


def _checked(where: str, line: str, keys: Sequence[str]) -> tuple[str, Findings]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("id"), str | int):
        raise UserError(f"{where}: needs an object with a text 'id'")
    name, findings = str(record["id"]), record.get("findings")
    if not isinstance(findings, Mapping):
        raise UserError(f"{where}: case {name}: 'findings' must be an object of lists")
    for key, quotes in findings.items():
        if fault := _fault(key, quotes, keys):
            raise UserError(f"{where}: case {name}: {fault}")
    return name, dict(findings)


def _fault(key: str, quotes: object, keys: Sequence[str]) -> str:
    if key not in keys:
        return unknown("category", key, keys)
    if not isinstance(quotes, list):
        return f"{key} is {json.dumps(quotes)[:40]}, not a list"
    odd = [quote for quote in quotes if not isinstance(quote, str)]
    return f"{key} holds {json.dumps(odd[0])[:40]}, which is not a text" if odd else ""
