"""The bundled sample: invented case reports with gold in the 14 categories of CaseReportBench."""

from __future__ import annotations

from importlib.resources import files

from crb_dspy.benchmarks import caselines
from crb_dspy.benchmarks.source import Raw
from crb_dspy.schema import Schema


def claims(source: str) -> bool:
    """Take the name "sample"."""
    return source == "sample"


def read(source: str, schema: Schema) -> Raw:
    """Read sample.jsonl from beside this module."""
    data = files("crb_dspy.benchmarks").joinpath("sample.jsonl").read_bytes()
    return caselines.parse(data, "sample", schema)
