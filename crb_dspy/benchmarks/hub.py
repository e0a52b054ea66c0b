"""CaseReportBench from the Hugging Face Hub: "casereportbench", or "hub:OWNER/NAME" for a copy.

The table is public (CC BY-NC 4.0) and is kept in the cache of `datasets` after the first time.
"""

from __future__ import annotations

from crb_dspy.benchmarks import hubtable
from crb_dspy.benchmarks.source import Raw
from crb_dspy.errors import UserError
from crb_dspy.schema import Schema

CASEREPORTBENCH = "cxyzhang/caseReportBench_ClinicalDenseExtraction_Benchmark"


def claims(source: str) -> bool:
    """Take the name "casereportbench" and everything after "hub:"."""
    return source == "casereportbench" or source.startswith("hub:")


def read(source: str, schema: Schema) -> Raw:
    """Read the table's `train` split; UserError if `datasets` or the hub is out of reach."""
    name = source.removeprefix("hub:") if source.startswith("hub:") else CASEREPORTBENCH
    try:
        from datasets import exceptions, load_dataset
    except ImportError as error:
        remedy = "pip install 'crb_dspy[hub]', or name a local copy of the table"
        raise UserError(f"{source}: needs the package datasets: {remedy}") from error
    try:
        rows = list(load_dataset(name, split="train"))
    except (OSError, ValueError, exceptions.DatasetsError) as error:
        reason = str(error).partition("\n")[0]
        remedy = "check name and network, or name a local .parquet, .jsonl or .csv copy"
        raise UserError(f"{source}: cannot be read from the hub: {reason}; {remedy}") from error
    return hubtable.from_rows(rows, source, schema)
