"""Checks, one finding each: what is well, what is not, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crb_dspy.errors import one_line

# What a check gives: what it saw, or `Fault`.
Looking = Callable[[], str]


class Fault(Exception):
    """What is not well, and what mends it."""

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(said)
        self.mend = mend


class Unknown(Exception):
    """What can't be said here, and why: no fault."""


@dataclass(frozen=True)
class Finding:
    """One line: `state` is "ok", "FAIL" or "-", which is no fault."""

    name: str
    state: str
    said: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.state:5}{self.name:15}{self.said}" + (f"; {self.mend}" if self.mend else "")


def look(name: str, looking: Looking, mend: str = "") -> Finding:
    """Return what a check found; an error of any other kind is a fault with the usual mend."""
    try:
        return Finding(name, "ok", looking())
    except Fault as fault:
        return Finding(name, "FAIL", str(fault), fault.mend)
    except Unknown as unknown:
        return Finding(name, "-", str(unknown))
    except Exception as error:  # noqa: BLE001  whatever is wrong is the finding
        return Finding(name, "FAIL", one_line(error, 160), mend)


def in_turn(
    checks: Iterator[tuple[str, Looking, str]], needed: tuple[str, ...]
) -> Iterator[Finding]:
    """Yield what checks find; after a fault in one that is `needed`, the others are left out."""
    broken = ""
    for name, looking, mend in checks:
        if broken:
            yield Finding(name, "-", f"not tried, since '{broken}' failed")
            continue
        found = look(name, looking, mend)
        if found.state == "FAIL" and name in needed:
            broken = name
        yield found
