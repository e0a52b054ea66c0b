"""The front door: what there is to run, a line each.

python -m crb_dspy [COMMAND [ARGUMENTS ...]]
python -m crb_dspy --completion bash|zsh
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from crb_dspy.command import Parser, run
from crb_dspy.errors import UserError, unknown

# In the order in which people come to need them.
COMMANDS = (
    *("demo", "init", "doctor", "compile", "sweep", "compare", "evaluate", "extract", "export"),
    *("convert", "suggest", "curve", "score", "audit", "prompts", "list", "forget"),
)
USUAL = """\
most often
  python -m crb_dspy.compile --data CASES.jsonl --model openai/NAME --api-base URL
  python -m crb_dspy.compare
  python -m crb_dspy.extract RUN --input FOLDER --out findings.jsonl
"""
HERE = Path(__file__).parent


def main(argv: list[str]) -> int:
    """List the commands, or run the one that is named."""
    if not argv or argv[0] in ("-h", "--help"):
        print("python -m crb_dspy.COMMAND, each with --help\n")
        for name in COMMANDS:
            print(f"  {name:10}{_about(name)}")
        print(f"\n{USUAL}", end="")
        return 0
    if argv[0] == "--completion":
        return _completion(argv[1:])
    name, *rest = argv
    if name not in COMMANDS:
        raise UserError(unknown("command", name, COMMANDS))
    code: int = _module(name).main(rest)
    return code


def start() -> None:
    """Run as the console script `crb_dspy`."""
    run(main)


def _module(name: str) -> ModuleType:
    room = f"crb_dspy.{name}"
    return importlib.import_module(f"{room}.__main__" if (HERE / name).is_dir() else room)


def _completion(argv: list[str]) -> int:
    """Print what makes a shell complete commands and flags."""
    if argv not in (["bash"], ["zsh"]):
        raise UserError('--completion bash or zsh: eval "$(crb_dspy --completion bash)"')
    import shtab

    whole = Parser(prog="crb_dspy")
    commands = whole.add_subparsers()
    for name in COMMANDS:
        parser = _module(name)._parser()
        commands.add_parser(name, parents=[parser], add_help=False, help=_about(name))
    print(shtab.complete(whole, shell=argv[0]))
    return 0


def _about(name: str) -> str:
    """Return what a command says of itself, without importing it."""
    path = HERE / name / "__main__.py" if (HERE / name).is_dir() else HERE / f"{name}.py"
    told = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return told.partition("\n")[0]


if __name__ == "__main__":
    start()
