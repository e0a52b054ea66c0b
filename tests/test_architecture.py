"""The plan of the house is true: its tree, its floors, and the size of its rooms."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crb_dspy.__main__ import COMMANDS, main
from crb_dspy.errors import UserError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "crb_dspy"
FACES = {PACKAGE / "program" / "__init__.py", PACKAGE / "recipe" / "__init__.py"}
SOURCES = [
    path
    for folder in (PACKAGE, ROOT / "programs", ROOT / "optimizers")
    for path in sorted(folder.rglob("*.py"))
]


def rooms() -> set[str]:
    """The modules and packages at the root of the package, as the plan writes them."""
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.name}/" for path in PACKAGE.iterdir() if any(path.glob("[!_]*.*"))}
    return modules | (folders - {"__pycache__/"})


def test_the_tree_of_the_plan_names_every_room() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    drawn = set(re.findall(r"^      (\S+) ", plan, re.M))
    assert drawn == rooms()
    assert len(plan.splitlines()) <= 80


def test_the_floors_are_few_and_every_room_has_to_stand_on_one() -> None:
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:layers"]
    assert layers["exhaustive"] == "True"
    assert len(layers["layers"].split("\n")) - 1 <= 10
    assert len(list(PACKAGE.glob("*.py"))) - 1 <= 14


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 300
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 8, node.name
    if path not in FACES:
        told = [node for node in tree.body if not isinstance(node, ast.Expr)]
        handed_on = all(isinstance(node, ast.Import | ast.ImportFrom) for node in told)
        assert not (told and handed_on), "it only hands names on"


def test_every_command_is_at_the_front_door(capsys: pytest.CaptureFixture[str]) -> None:
    doors = [p for p in SOURCES if re.search(r"\brun(_command)?\(main\)", p.read_text("utf-8"))]
    names = {p.parent.name if p.name == "__main__.py" else p.stem for p in doors}
    assert names - {"crb_dspy"} == set(COMMANDS)
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S.*\.$", shown, re.M) for name in COMMANDS)


def test_an_unknown_command_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown command 'compil': did you mean 'compile'"):
        main(["compil"])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name: str) -> None:
    code = (
        "import sys; from crb_dspy.__main__ import main\n"
        f"try: main(['{name}', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'dspy', 'mlflow', 'litellm', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_names_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown flag '--hepl': did you mean '--help'"):
        main([name, *ARGUMENTS.get(name, []), "--hepl"])


# What a command can't do without.
ARGUMENTS = {
    "sweep": ["x"],
    "suggest": ["x", "--input", "x", "--out", "x"],
    "curve": ["x"],
    "evaluate": ["x", "--data", "x"],
    "extract": ["x", "--input", "x", "--out", "x"],
    "score": ["--gold", "x", "--pred", "x"],
    "audit": ["--data", "x"],
    "prompts": ["x"],
    "list": ["programs"],
}
