"""What can go wrong, by who can mend it."""


class CrbError(Exception):
    """Any failure of this project that is not a bug; its text is one line for a person."""


class UserError(CrbError):
    """The request cannot be met as it stands: says what, where, and what to do (exit code 2)."""


class RunError(CrbError):
    """A run that was started could not go on: model, budget or export (exit code 1)."""
