"""What a person has agreed to, once and for all, by hash; kept in the home folder."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from crb_dspy.errors import UserError


def allowed(claim: str, *values: object, given: bool) -> None:
    """Let pass what was agreed to before or is `given` now, and remember it.

    `values` are all that decides what would happen. UserError with the claim for anything else.
    """
    if given:
        agree(*values)
    elif not agreed(*values):
        raise UserError(f"{claim}; --trust allows this, once and for all")


def agreed(*values: object) -> bool:
    """Say whether this was agreed to before."""
    try:
        return _digest(values) in _file().read_text("ascii", "replace").split()
    except OSError:
        return False


def agree(*values: object) -> None:
    """Remember that this was agreed to; where nothing can be kept, it is asked again."""
    if not agreed(*values):
        with suppress(OSError):
            _file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _file().open("a", encoding="ascii") as file:
                file.write(f"{_digest(values)}\n")


def _file() -> Path:
    # Not beside the runs: a folder from elsewhere could bring its own.
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "crb_dspy" / "agreed"


def _digest(values: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "replace")).hexdigest()
