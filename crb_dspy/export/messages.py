"""Chat messages as JSON, for any client."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, beside
from crb_dspy.export._text import PLACEHOLDER, control, fill

FILE = "prompts.json"


class Messages(Exporter):
    """`prompts.json`: messages with a placeholder, response format and settings a prompt."""

    name = "messages"
    about = "chat messages as JSON, with response format and settings"
    carries = frozenset({"layout", "marks", "schema", "settings", "reasoning"})

    def write(self, export: Export, folder: Path) -> None:
        """Write one file; its `report` entry says how a report is put in."""
        from crb_dspy.files import as_json

        origin = export.saved.origin
        document = {
            "model": origin.model,
            "temperature": origin.temperature,
            **({"request": sent} if (sent := beside(export)) else {}),
            "report": {
                "placeholder": PLACEHOLDER,
                "replace": "its first occurrence in the user message, and no other",
                "control_marks": control(),
                "control_marks_become": "themselves and a space, in the report, before",
            },
            "prompts": [_entry(prompt) for prompt in export.first],
        }
        (folder / FILE).write_text(as_json(document, indent=1) + "\n", "utf-8")

    def reader(self, export: Export, folder: Path) -> Render:
        """Follow the rules in the file."""
        document = json.loads((folder / FILE).read_text("utf-8"))
        entries = {entry["name"]: entry for entry in document["prompts"]}
        pattern = document["report"]["control_marks"]

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            entry = entries[prompt]
            filled = [
                {**message, "content": fill(message["content"], report, pattern)}
                for message in entry["messages"]
            ]
            settings = {name: entry[name] for name in ("response_format", "max_tokens")}
            return {**settings, "messages": filled, "temperature": document["temperature"]}

        return render


def _entry(prompt: Prompt) -> dict[str, Any]:
    return {
        "name": prompt.name,
        "categories": prompt.keys,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": f"{prompt.before}{PLACEHOLDER}{prompt.after}"},
        ],
        "response_format": prompt.response_format,
        "max_tokens": prompt.max_tokens,
    }
