"""CaseReportBench from the Hugging Face Hub: "casereportbench", or "hub:OWNER/NAME" for a copy.

The table is public (CC BY-NC 4.0) and is kept in the cache of `datasets` after the first time.
"""

from __future__ import annotations

from crb_dspy.data.benchmarks import hubtable
from crb_dspy.data.benchmarks.source import Benchmark, Raw, hub_rows
from crb_dspy.data.schema import Schema

CASEREPORTBENCH = "cxyzhang/caseReportBench_ClinicalDenseExtraction_Benchmark"
BENCHMARKS = (
    Benchmark(
        "CaseReportBench",
        "casereportbench",
        f"138 cases, quotes in 14 organ systems (hub {CASEREPORTBENCH}, CC BY-NC 4.0)",
        "the real data",
    ),
)


def claims(source: str) -> bool:
    """Take the name "casereportbench" and everything after "hub:"."""
    return source == "casereportbench" or source.startswith("hub:")


def read(source: str, schema: Schema) -> Raw:
    """Read the table's `train` split; UserError if `datasets` or the hub is out of reach."""
    name = source.removeprefix("hub:") if source.startswith("hub:") else CASEREPORTBENCH
    return hubtable.from_rows(hub_rows(name, "train", source), source, schema)
