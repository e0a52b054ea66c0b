"""Remove all that is kept of a data set: answers, artefacts, runs, prompts, traces.

python -m crb_dspy.forget [FINGERPRINT [--yes]]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError

if TYPE_CHECKING:
    from crb_dspy.forget.holdings import Holdings


def main(argv: list[str]) -> int:
    """Read the arguments; list the data sets, or what is kept of one; remove it if told to."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.forget import holdings

    sets = holdings.data_sets(arguments.out)
    if arguments.fingerprint is None:
        _list(sets)
        return 0
    if arguments.fingerprint not in sets:
        known = ", ".join(sets) or "none at all"
        raise UserError(
            f"nothing is kept of a data set '{arguments.fingerprint}'; of these: {known}"
        )
    found = holdings.of(arguments.fingerprint, arguments.out)
    _show(found)
    if arguments.yes:
        for note in holdings.remove(found):
            print(note)
    else:
        print("Nothing is removed yet: --yes removes all of this, for good.")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.forget",
        description="Remove all that is kept of a data set; without one, list the data sets.",
        epilog="Files that were written to places of your own (findings of extract, exports, pages "
        "of compare) are yours to remove.",
    )
    parser.add_argument("fingerprint", nargs="?", help="12 digits, as the list shows them")
    parser.add_argument("--out", type=Path, help="folder of artefacts (default: mlruns/out)")
    parser.add_argument("--yes", action="store_true", help="remove, and don't only show")
    return parser


def _list(sets: dict[str, str]) -> None:
    for fingerprint, name in sets.items():
        print(f"{fingerprint}  {name}")
    if not sets:
        print("Nothing is kept here of any data set.")


def _show(found: Holdings) -> None:
    _lines("folders", list(map(str, found.folders)))
    _lines("runs", found.runs)
    _lines("prompts", [f"{name} version {version}" for name, version in found.prompts])
    _lines("traces", found.traces)
    if found.cache:
        print(f"cache      {found.cache}: all of it, as it does not know whose answers it holds")


def _lines(label: str, items: Sequence[str]) -> None:
    for item in items:
        print(f"{label:11}{item}")


if __name__ == "__main__":
    run(main)
