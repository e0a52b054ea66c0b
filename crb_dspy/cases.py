"""Case reports, their gold findings, and how they are split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

Findings = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """One report: sections by heading, gold quotes by category (None where not annotated).

    Cases of one `group` (same disease, family or paper) never stand on two sides of a split.
    """

    id: str
    sections: Mapping[str, str]
    gold: Findings | None = None
    group: str = field(default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.id)

    @cached_property
    def text(self) -> str:
        """The report as one text, each section under its heading; all offsets point into it."""
        return "\n\n".join(f"## {heading}\n{body}" for heading, body in self.sections.items())


@dataclass(frozen=True)
class Split:
    """Which cases tune (train, validation) and which only judge (test)."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


def fingerprint(*values: object) -> str:
    """Return 12 hex digits that change whenever a value does."""
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
