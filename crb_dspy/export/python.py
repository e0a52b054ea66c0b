"""One script that needs LiteLLM alone: reads reports, prints findings as JSON."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pprint
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from crb_dspy.export._seam import (
    KEY,
    Call,
    Endpoint,
    Export,
    Exporter,
    Findings,
    Prompt,
    Render,
)

if TYPE_CHECKING:
    from crb_dspy.cases import Case

FILE = "extract.py"
_HEAD = '''#!/usr/bin/env python3
"""Quote findings from case reports: prompts tuned with crb_dspy, for LiteLLM alone.

    python extract.py [--model MODEL] [--api-base URL] REPORT.txt ... > findings.jsonl

Notes on what this script does and lacks are in README.md beside it.
"""

from __future__ import annotations

'''


class Python(Exporter):
    """`extract.py`: the reading of answers is the source of this project's, to the letter."""

    name = "python"
    about = "one script that needs litellm alone"
    carries = frozenset(
        {"layout", "marks", "schema", "settings", "parsing", "reasoning", "second_pass"}
    )

    def write(self, export: Export, folder: Path) -> None:
        """Write the script."""
        from crb_dspy import answers, prompt
        from crb_dspy.export import _script

        origin = export.saved.origin
        names = ("model", "api_base", "api_key_env", "temperature")
        settings = {name: getattr(origin, name) for name in names}
        defusing = f"CONTROL = re.compile({prompt.CONTROL.pattern!r})"
        blocks = [
            _HEAD + _source(answers).strip("\n"),
            defusing,
            inspect.getsource(prompt.defuse),
            _source(_script),
            f"SETTINGS = {pprint.pformat(settings, sort_dicts=False)}",
            f"PROMPTS = {pprint.pformat(_data(export.prompts), sort_dicts=False, width=100)}",
            'if __name__ == "__main__":\n    sys.exit(main())',
        ]
        text = "\n\n\n".join(block.strip("\n") for block in blocks) + "\n"
        # Surrogates are escaped by repr.
        (folder / FILE).write_text(text, "utf-8", newline="\n")

    def reader(self, export: Export, folder: Path) -> Render:
        """Use the script's own functions."""
        module = ModuleType("exported")
        # Dataclasses look for the module they are in.
        sys.modules["exported"] = module
        space = vars(module)
        exec(compile((folder / FILE).read_text("utf-8"), FILE, "exec"), space)
        prompts = {prompt["name"]: prompt for prompt in space["PROMPTS"]}

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            call: Call = space["call"](prompts[prompt], report, found)
            return call

        return render

    def run(
        self, export: Export, folder: Path, cases: Sequence[Case], endpoint: Endpoint
    ) -> Findings:
        """Run the script in a process of its own."""
        with tempfile.TemporaryDirectory() as other:
            lines = [json.dumps({"id": case.id, "sections": dict(case.sections)}) for case in cases]
            file = Path(other) / "cases.jsonl"
            file.write_text("\n".join(lines), "utf-8")
            command = [sys.executable, str(folder / FILE), *_options(endpoint), str(file)]
            key = endpoint.arguments.get("api_key")
            keys = {KEY: key} if key else {}
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | keys, check=False
            )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        if len(rows) < len(cases):
            from crb_dspy.errors import RunError

            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise RunError(f"{FILE} stopped after {len(rows)} of {len(cases)} cases: {last}")
        return {row["id"]: row["findings"] | dict.fromkeys(row["errors"]) for row in rows}


def _options(endpoint: Endpoint) -> list[str]:
    base = endpoint.arguments.get("api_base")
    return [
        *("--model", endpoint.arguments["model"]),
        *(["--api-base", base] if base else []),
        *(["--api-key-env", KEY] if endpoint.arguments.get("api_key") else []),
        *([] if endpoint.structured else ["--no-schema"]),
    ]


def _source(module: ModuleType) -> str:
    """Return a module's source without its docstring and what only this project can import."""
    text = inspect.getsource(module)
    lines = text.splitlines()
    for number, node in enumerate(ast.parse(text).body):
        own = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "crb_dspy"
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if number == 0 or own or future:
            for line in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[line] = ""
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines))


def _data(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    names = ("name", "keys", "repeats", "system", "before", "middle", "after", "max_tokens")
    return [
        {name: getattr(prompt, name) for name in names} | {"response_format": _plain(prompt)}
        for prompt in prompts
    ]


def _plain(prompt: Prompt) -> Any:
    return json.loads(json.dumps(prompt.response_format))
