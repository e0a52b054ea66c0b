"""Textual time series for sepsis (T2S2): case lines with events in place of gold.

    {"id": "PMC1", "sections": {"Case report": "..."}, "events": [["fever", -24.0], ["male", 0.0]]}

Hours are from admission. The first category of the schema that holds events gets them.
"""

from __future__ import annotations

import json
from pathlib import Path

from crb_dspy.data.benchmarks import caselines
from crb_dspy.data.benchmarks.source import Benchmark, Raw, lines
from crb_dspy.data.schema import Schema
from crb_dspy.errors import UserError

BENCHMARKS = (
    Benchmark(
        "T2S2",
        "t2s2",
        "20 sepsis reports with clinicians' timelines (github Shahriarnz14/T2S2)",
        "the real data: metrics of three published systems from their stored matches",
    ),
)


def claims(source: str) -> bool:
    """Take .jsonl files whose first line has sections and events."""
    return {"sections", "events"} <= first_keys(source)


def read(source: str, schema: Schema) -> Raw:
    """Read the cases; UserError for a schema without a category of events."""
    key = next((c.key for c in schema.categories if c.kind == "events"), None)
    if key is None:
        raise UserError(f"{source}: holds events; take schema t2s2, or a category of kind events")
    entries = []
    for _, entry in lines(Path(source).read_bytes(), source):
        events = entry.pop("events", [])
        if isinstance(events, list):
            events = [event for event in events if not _heading(event)]
        entries.append(json.dumps({**entry, "gold": {key: events}}))
    return caselines.parse("\n".join(entries).encode("utf-8", "surrogatepass"), source, schema)


def _heading(event: object) -> bool:
    """Say whether an event is the head of the table it came from, as in five of the reports."""
    return isinstance(event, list) and [str(v).strip("\ufeff") for v in event] == ["event", "time"]


def first_keys(source: str) -> set[str]:
    """Return the names in the first line of a JSON-lines file, none of anything else."""
    path = Path(source)
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return set()
    with path.open("rb") as file:
        try:
            first = json.loads(next((line for line in file if line.strip()), b""))
        except (ValueError, RecursionError):
            return set()
    return set(first) if isinstance(first, dict) else set()
