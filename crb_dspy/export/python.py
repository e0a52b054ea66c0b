"""One script that needs LiteLLM alone, and beside a classifier: reads reports, prints JSON."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pprint
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import getsource
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from crb_dspy.export._seam import (
    KEY,
    LOOKS,
    Call,
    Endpoint,
    Export,
    Exporter,
    Findings,
    Prompt,
    Render,
)
from crb_dspy.files import as_json

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

FILE = "extract.py"
# What stands beside the script where a program has a classifier: a package and what it loads.
PACKAGE, TABLE = "beside", "classifier.json"
_HEAD = '''#!/usr/bin/env python3
"""Quote findings from case reports: prompts tuned with crb_dspy, for LiteLLM alone.

    python extract.py [--model MODEL] [--api-base URL] REPORT.txt ... > findings.jsonl

Notes on what this script does and lacks are in README.md beside it.
"""

from __future__ import annotations

'''
# What a source that is carried imports of these stands in the script itself.
_LEFT_OUT = ("crb_dspy", "dspy")
# Of functions whose source follows.
_IMPORTS = f"""\
from {PACKAGE}.beside import Beside, asked_first, left_empty, looked_again, yes_no
from {PACKAGE}.excerpts import excerpt
from {PACKAGE}.files import legible"""
_BESIDE = ("crb_dspy.export._beside", "crb_dspy.quotes.excerpts", "crb_dspy.files")
_LOADED = f'BESIDE = Beside(Path(__file__).parent / "{PACKAGE}" / "{TABLE}")'


class Python(Exporter):
    """`extract.py`: the reading of answers is the source of this project's, to the letter.

    Where the program has a sentence classifier, so are the modules in `beside/` that use it; its
    weights, and annotated sentences if examples are chosen by them, are in `classifier.json`. They
    need rapidfuzz, and sentence-transformers if it learnt with embeddings.
    """

    name = "python"
    about = "one script that needs litellm alone"
    quotes_only = True
    carries = frozenset(
        {
            "layout",
            "marks",
            "schema",
            "settings",
            "parsing",
            "reasoning",
            "second_pass",
            "classifier",
            *LOOKS,
        }
    )

    def write(self, export: Export, folder: Path) -> None:
        """Write the script."""
        from crb_dspy.export import _client, _errors, _script
        from crb_dspy.models import faults, http, lacks, learnt, reply
        from crb_dspy.program import answers, candidates, marks, matching, prompt

        origin = export.saved.origin
        names = ("model", "api_base", "api_key_env", "temperature", "seed")
        settings = {name: getattr(origin, name) for name in names}
        if origin.sent:
            settings["request"] = origin.sent
        support = _beside(export, folder)
        defusing = f"CONTROL = re.compile({marks.CONTROL.pattern!r})"
        blocks = [
            _HEAD + _source(reply).strip("\n"),
            *map(_source, (_errors, faults, http, lacks, learnt)),
            _source(candidates),
            _source(matching),
            _source(answers),
            defusing,
            getsource(marks.defuse),
            getsource(prompt.already_quoted),
            *([_IMPORTS, getsource(prompt.examples), getsource(prompt.example)] * support),
            _source(_client),
            _source(_script),
            f"SETTINGS = {pprint.pformat(settings, sort_dicts=False)}",
            f"PROMPTS = {pprint.pformat(_data(export), sort_dicts=False, width=100)}",
            *([_LOADED] * support),
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
        module.__file__ = str(folder / FILE)
        space = vars(module)
        with _importing(folder):
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


def _beside(export: Export, folder: Path) -> bool:
    """Write what stands beside the model, if anything does, and say so."""
    from crb_dspy.retrieval.support import plain_supports, used

    table = plain_supports(used(export.saved.program.parts))
    if not table:
        return False
    if negations := export.saved.schema.negations:
        table["negations"] = negations
    package = folder / PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text('"""What crb_dspy has beside a model."""\n', "utf-8")
    for name in _closure(*_BESIDE):
        text = getsource(importlib.import_module(name))
        own = re.sub(r"^from crb_dspy\.[\w.]*?(\w+) import", _renamed, text, flags=re.M)
        (package / f"{_short(name)}.py").write_text(own, "utf-8", newline="\n")
    (package / TABLE).write_text(as_json(table) + "\n", "utf-8")
    return True


def _closure(*names: str) -> list[str]:
    """Return modules of this project and those that they need."""
    found, left = list[str](), list(names)
    while left:
        found.append(name := left.pop())
        text = getsource(importlib.import_module(name))
        theirs = re.findall(r"^from (crb_dspy\.[\w.]+) import", text, flags=re.M)
        left += [other for other in theirs if other not in (*found, *left)]
    return sorted(found)


def _short(name: str) -> str:
    return name.rpartition(".")[2].lstrip("_")


def _renamed(match: re.Match[str]) -> str:
    return f"from {PACKAGE}.{match[1].lstrip('_')} import"


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
    text = getsource(module)
    lines = text.splitlines()
    for number, node in enumerate(ast.parse(text).body):
        own = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _LEFT_OUT
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if number == 0 or own or future:
            for line in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[line] = ""
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines))


def _data(export: Export) -> list[dict[str, Any]]:
    names = (
        "name",
        "part",
        "keys",
        "titles",
        "repeats",
        "look",
        "system",
        "before",
        "middle",
        "after",
        "max_tokens",
    )
    return [
        {name: getattr(prompt, name) for name in names}
        | {"response_format": _plain(prompt)}
        | _showing(export, prompt)
        for prompt in export.prompts
    ]


def _showing(export: Export, prompt: Prompt) -> dict[str, Any]:
    """Return what is asked for beside an answer, and the end of a prompt in two.

    Examples that are chosen for a report come between.
    """
    from crb_dspy.program.prompt import demonstration, frame_of, question
    from crb_dspy.program.silence import ALTERNATIVES

    part = export.saved.program.parts[prompt.part]
    use = part.support.use if part.support and not (prompt.look or prompt.repeats) else None
    silence = {"logprobs": ALTERNATIVES} if use and use.silence < 1 else {}
    if not use or not use.showing:
        return silence
    signature = dict(part.named_predictors())[prompt.label].signature
    frame = frame_of(signature)
    return silence | {
        "shown": [demonstration(signature, demo) for demo in prompt.demonstrations],
        "question": question(signature),
        "opening": frame.examples,
        "closing": frame.closing,
    }


def _plain(prompt: Prompt) -> Any:
    return json.loads(json.dumps(prompt.response_format))


@contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Let what lies in a folder be imported, and nothing of it stay."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
