"""Pages that mkdocs makes of the program itself: commands, settings, functions; and root files."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Pages that lie elsewhere in the checkout.
ROOTED = {
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "log.md": "experiments/README.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that have no file under docs: mkdocs calls this."""
    from mkdocs.structure.files import File

    pages = {
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/python.md": functions(),
        **{page: rooted(ROOT / source) for page, source in ROOTED.items()},
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def rooted(path: Path) -> str:
    """Return a page that lies elsewhere, with its pictures where they lie seen from docs."""
    return path.read_text("utf-8").replace("](../docs/", "](")


def commands() -> str:
    """Return what each command says of itself with --help."""
    from crb_dspy.__main__ import COMMANDS

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": path, "NO_COLOR": "1"}
    blocks = []
    for name in COMMANDS:
        asked = [sys.executable, "-m", f"crb_dspy.{name}", "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True, env=environment)
        blocks.append(f"## {name}\n\n```text\n{done.stdout.strip()}\n```")
    return "# Commands\n\n" + "\n\n".join(blocks) + "\n"


def settings() -> str:
    """Return every key of an experiment, with its type and default."""
    from crb_dspy.compile.config import Experiment

    rows = [
        f"| `{field.alias or name}` | {_plain(field.annotation)} | {_default(field)} |"
        for name, field in Experiment.model_fields.items()
    ]
    head = "# Settings\n\nKeys of an experiment's TOML file, and of `--set KEY=VALUE`.\n\n"
    return head + "| key | type | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _plain(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) and not _args(annotation) else None
    return (name or str(annotation).replace("typing.", "")).replace("|", "or")


def _args(annotation: Any) -> Any:
    return getattr(annotation, "__args__", ())


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "must be given" if field.is_required() else f"`{value!r}`"


def functions() -> str:
    """Return the functions of the package and what is needed to write parts of one's own."""
    import crb_dspy
    from crb_dspy import program, recipe

    blocks = ["# Python", *_told("crb_dspy", crb_dspy, ("load", "compile", "score"))]
    blocks += _told("crb_dspy.program", program, program.__all__)
    blocks += _told("crb_dspy.recipe", recipe, recipe.__all__)
    return "\n\n".join(blocks) + "\n"


def _told(room: str, module: Any, names: Any) -> Iterator[str]:
    yield f"## {room}"
    for name in names:
        found = getattr(module, name)
        if not callable(found):
            continue
        try:
            signature = str(inspect.signature(found))
        except (TypeError, ValueError):
            signature = ""
        said = inspect.getdoc(found) or ""
        yield f"### {name}\n\n```python\n{name}{signature}\n```\n\n{said}"
