"""Two invented cases in every form that case data comes in."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError

SCHEMA = load_schema("casereportbench").select(["GI", "Neuro", "History"])

# Invented. Each case: sections, then gold as the report has it and as the hub table mangles it.
FIRST = "A 4-year-old girl, born at term, had vomiting at 37.5°C. No dark stools; “soft” abdomen."
SECOND = "Floppy limbs were seen in the patient's first year, without seizures."
GOLD = {
    "1000001": {
        "GI": ["had vomiting at 37.5°C", "No dark stools; “soft” abdomen"],
        "Neuro": [],
        "History": ["4-year-old girl, born at term"],
    },
    "1000002": {"GI": [], "Neuro": ["Floppy limbs", "without seizures"], "History": []},
}
MANGLED: dict[str, dict[str, Any]] = {
    "1000001": {
        "GI": ["had vomiting at 37.5 Â ° C", "No dark stools ; â€œsoftâ€\u009d abdomen"],
        "Neuro": ["null"],
        "History": ["4 - year - old girl , born at term"],
    },
    "1000002": {"GI": None, "Neuro": ["Floppy limbs", "without seizures"], "History": []},
}
SECTIONS = {"1000001": {"Case": FIRST, "Outcome": "She did well."}, "1000002": {"Case": SECOND}}


def save(path: Path, *entries: object) -> str:
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries), "utf-8")
    return str(path)


def entry(name: object = "a", **changes: object) -> dict[str, object]:
    whole: dict[str, object] = {"id": name, "sections": {"Case": FIRST}, "gold": {"GI": []}}
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def hub_rows() -> list[dict[str, object]]:
    return [
        {"pmcid": int(name), "text": str(SECTIONS[name]), **MANGLED[name], "Age (of onset)": "4"}
        for name in SECTIONS
    ]


def case_lines(folder: Path) -> str:
    return save(
        folder / "cases.jsonl",
        *({"id": f"PMC{n}", "sections": SECTIONS[n], "gold": GOLD[n], "more": 1} for n in GOLD),
    )


def hub_lines(folder: Path) -> str:
    return save(folder / "hub.jsonl", *hub_rows())


def hub_csv(folder: Path, cell: Callable[[Any], str] = str) -> str:
    with (folder / "hub.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, hub_rows()[0])
        writer.writeheader()
        for row in hub_rows():
            writer.writerow({k: cell(v) if k in SCHEMA.keys else v for k, v in row.items()})
    return str(folder / "hub.csv")


def numpy_csv(folder: Path) -> str:
    # As pandas writes lists that it read from parquet: no commas, and long ones broken.
    return hub_csv(folder, lambda v: f"[{chr(10).join(map(repr, v))}]" if v is not None else "")


def hub_parquet(folder: Path) -> str:
    pd.DataFrame(hub_rows()).to_parquet(folder / "hub.parquet")
    return str(folder / "hub.parquet")


def brat_folder(folder: Path) -> str:
    (folder / "brat").mkdir()
    for name, gold in GOLD.items():
        report = "\r\n".join(SECTIONS[name].values())
        notes = ["#1\tAnnotatorNotes T1\tnone", "R1\tMODIFY Arg1:T1 Arg2:T2"]
        for key, quotes in [*gold.items(), ("Weather", [report[:5]])]:
            for number, quote in enumerate(quotes):
                at = report.index(quote)
                notes.append(f"T{key}{number}\t{key} {at} {at + len(quote)}\t{quote}")
        (folder / "brat" / f"PMC{name}.txt").write_bytes(report.encode())
        (folder / "brat" / f"PMC{name}.ann").write_text("\n".join(notes) + "\n", "utf-8")
    return str(folder / "brat")


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(source, SCHEMA, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def brat(folder: Path, report: str, *notes: str) -> str:
    (folder / "a.txt").write_text(report, "utf-8")
    (folder / "a.ann").write_text("\n".join(notes), "utf-8")
    return str(folder)
