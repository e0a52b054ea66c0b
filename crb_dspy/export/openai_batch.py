"""Requests for OpenAI's batch API, one for each prompt and report of a folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, beside

# Limits of one file of the API: requests, bytes.
MOST, LARGEST = 50_000, 200_000_000


class OpenAIBatch(Exporter):
    """`batch-001.jsonl` and so on, each within the limits of the API."""

    name = "openai-batch"
    about = "JSONL requests of OpenAI's batch API for the reports of --input"
    carries = frozenset({"layout", "marks", "schema", "settings", "reasoning", "sections"})
    wants_reports = True

    def write(self, export: Export, folder: Path) -> None:
        """Write the requests, report by report, so that prompts of one report stay together."""
        parts = export.saved.program.parts
        texts = [
            (case.id, prompt, parts[prompt.part].shown(case))
            for case in export.reports
            for prompt in export.first
        ]
        _write(export, [entry for entry in texts if entry[2].strip()], folder)

    def reader(self, export: Export, folder: Path) -> Render:
        """Read requests about a text from a batch that is written for it."""

        @lru_cache(maxsize=1)
        def bodies(report: str) -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as other:
                _write(export, [("x", prompt, report) for prompt in export.first], Path(other))
                return _bodies(Path(other))

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            body = bodies(report)[f"x/{prompt}"]
            return {key: value for key, value in body.items() if key != "model"}

        return render

    def faults(self, export: Export, folder: Path) -> list[str]:
        """Compare every request about the reports with what the program would send."""
        bodies = _bodies(folder)
        parts = export.saved.program.parts
        faults = []
        for case in export.reports:
            for prompt in export.first:
                part = parts[prompt.part]
                name, text = f"{case.id}/{prompt.name}", part.shown(case)
                sent = part.messages(text) if text.strip() else None
                if bodies.get(name, {}).get("messages") != sent:
                    faults.append(f"{name}: the messages are not the program's")
        return faults


def _write(export: Export, texts: Sequence[tuple[str, Prompt, str]], folder: Path) -> None:
    from crb_dspy.files import as_json

    lines = [as_json(_request(export, prompt, name, text)) + "\n" for name, prompt, text in texts]
    for number, chunk in enumerate(_chunks(lines), 1):
        (folder / f"batch-{number:03}.jsonl").write_text("".join(chunk), "utf-8")


def _request(export: Export, prompt: Prompt, name: str, report: str) -> dict[str, Any]:
    from crb_dspy.program.marks import defuse

    origin = export.saved.origin
    sent = beside(export)
    body = {
        **sent.pop("extra_body", {}),
        **sent,
        "model": origin.model.partition("/")[2] or origin.model,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": f"{prompt.before}{defuse(report)}{prompt.after}"},
        ],
        "max_tokens": prompt.max_tokens,
        "temperature": origin.temperature,
        "response_format": prompt.response_format,
    }
    request = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return {"custom_id": f"{name}/{prompt.name}", **request}


def _chunks(lines: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode("utf-8"))
        if chunk and (len(chunk) == MOST or size + length > LARGEST):
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += length
    yield chunk


def _bodies(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("batch-*.jsonl"))
    # Not splitlines: a report may hold other characters that end lines.
    lines = [line for file in files for line in file.read_text("utf-8").split("\n") if line]
    requests = map(json.loads, lines)
    return {request["custom_id"]: request["body"] for request in requests}
