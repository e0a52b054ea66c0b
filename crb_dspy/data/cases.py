"""Case reports, their gold findings, and how they are split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from crb_dspy.files import fingerprint

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

    def place(self, offset: int) -> tuple[str, int]:
        """Give the heading an offset of `text` stands under and its offset in that section.

        Offsets in a heading line count as the section's first, those past its end as its last.
        """
        if not 0 <= offset <= len(self.text):
            raise IndexError(f"offset {offset} is not in case '{self.id}'")
        end = 0
        for heading, body in self.sections.items():
            start = end + len(f"## {heading}\n")
            end = start + len(body) + len("\n\n")
            if offset < end:
                break
        return heading, min(max(offset - start, 0), len(body))


def data_fingerprint(cases: Iterable[Case]) -> str:
    """Return 12 hex digits for ids, texts, gold and groups, whatever the order of the cases."""
    ordered = sorted(cases, key=lambda case: case.id)
    return fingerprint(*((c.id, list(c.sections.items()), c.gold, c.group) for c in ordered))
