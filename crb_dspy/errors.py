"""What can go wrong, by who can mend it."""

import os
import re

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


class CrbError(Exception):
    """Any failure of this project that is not a bug; its text is one line for a person."""


class UserError(CrbError):
    """The request cannot be met as it stands: says what, where, and what to do (exit code 2)."""


class RunError(CrbError):
    """A run that was started could not go on: model, budget or export (exit code 1)."""


def one_line(error: BaseException, most: int = 300) -> str:
    """Return what an error says as one short line without secrets of the environment.

    Servers quote what they were sent, keys included.
    """
    text = " ".join(str(getattr(error, "message", "") or error).split())
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, "***")
    return text[:most]
