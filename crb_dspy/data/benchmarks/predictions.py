"""Predictions of any system: one JSON object a line, checked before they are scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crb_dspy.data.kind import Kind
from crb_dspy.data.reserved import safe
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError, unknown
from crb_dspy.files import plain_file, whole_characters

Findings = dict[str, list[str]]
Keys = Sequence[str] | Mapping[str, Kind]


def read_predictions(
    path: Path,
    keys: Keys,
    ids: Sequence[str],
    *,
    allow_missing: bool = False,
) -> dict[str, Findings]:
    """Read lines `{"id": ..., "findings": {category: [quote, ...]}}` for known cases.

    `keys` are the categories, with what they hold where that is something else than quotes.

    A finding may also be an object with a `quote`, as `extract` writes it. A category that is
    left out found nothing. UserError naming file, line and case for an id
    that is unknown or comes twice, a category that is not in the schema, anything but a list
    of texts, and, unless `allow_missing`, for cases without a line.
    """
    found: dict[str, Findings] = {}
    for where, name, findings in _entries(path, keys):
        if name not in ids:
            raise UserError(f"{where}: {unknown('case', name, ids[:50])}")
        found[name] = findings
    missing = [name for name in ids if name not in found]
    if missing and not allow_missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{path}: no prediction for case {', '.join(missing[:3])}{more}; "
            "--allow-missing counts them as having found nothing"
        )
    return found


def findings_of(path: str, schema: Schema) -> dict[str, Findings]:
    """Read such lines for whatever cases they name; categories that are not asked for are known."""
    keys = {category.key: category.holds for category in (*schema.categories, *schema.unselected)}
    return {name: findings for _, name, findings in _entries(Path(path), keys)}


def _entries(path: Path, keys: Keys) -> Iterator[tuple[str, str, Findings]]:
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        name, findings = _checked(where, line, keys)
        if name in seen:
            raise UserError(f"{where}: case '{name}' was there before")
        seen.add(name)
        yield where, name, findings


def _lines(path: Path) -> list[str]:
    if wrong := plain_file(path):
        raise UserError(f"{path}: {wrong}")
    try:
        return path.read_text("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; convert it first") from error


def _checked(where: str, line: str, keys: Keys) -> tuple[str, Findings]:
    try:
        record = json.loads(line)
        whole = whole_characters(record)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON that can be read: {error}") from error
    if not whole:
        raise UserError(f"{where}: half a character (as \\ud83d alone); put the whole one")
    if not isinstance(record, dict) or not isinstance(record.get("id"), str | int):
        raise UserError(f"{where}: needs an object with a text 'id'")
    name, findings = str(record["id"]), record.get("findings")
    if not isinstance(findings, Mapping):
        raise UserError(f"{where}: case {name}: 'findings' must be an object of lists")
    known = keys if isinstance(keys, Mapping) else {}
    own = {key: holds for key, holds in known.items() if not holds.verbatim}
    named = {key if key in keys else safe(key): its for key, its in findings.items()}
    plain = {k: own[k].read(its)[0] if k in own else _plain(its) for k, its in named.items()}
    for key, quotes in plain.items():
        if fault := _fault(key, quotes, keys):
            raise UserError(f"{where}: case {name}: {fault}")
    return name, plain


def _plain(quotes: Any) -> Any:
    if not isinstance(quotes, list):
        return quotes
    return [q["quote"] if isinstance(q, Mapping) and "quote" in q else q for q in quotes]


def _fault(key: str, quotes: object, keys: Keys) -> str:
    if key not in keys:
        return unknown("category", key, list(keys))
    if not isinstance(quotes, list):
        return f"{key} is {json.dumps(quotes)[:40]}, not a list"
    odd = [quote for quote in quotes if not isinstance(quote, str)]
    return f"{key} holds {json.dumps(odd[0])[:40]}, which is not a text" if odd else ""
