"""The bundled sample: invented case reports with gold in the 14 categories of CaseReportBench."""

from __future__ import annotations

from importlib.resources import files

from crb_dspy.data.benchmarks import caselines
from crb_dspy.data.benchmarks.source import Raw
from crb_dspy.data.schema import Schema, load_schema

NAME = "sample"


def claims(source: str) -> bool:
    """Take the name "sample"."""
    return source == NAME


def read(source: str, schema: Schema) -> Raw:
    """Read sample.jsonl from beside this module."""
    data = files("crb_dspy.data.benchmarks").joinpath("sample.jsonl").read_bytes()
    return caselines.parse(data, NAME, schema)


def schema() -> Schema:
    """Return the schema of its gold."""
    return load_schema("casereportbench")
