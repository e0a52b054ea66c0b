"""The commands `score` and `audit`, as a user of another system meets them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import load_schema
from crb_dspy.scoring.audit import SYSTEMS, audit
from tests.in_process import ran
from tests.real_data import real

KEYS = load_schema("casereportbench").keys
CASES = [
    {"id": "a", "sections": {"R": "No rash. He vomited."}, "gold": {"DERM": ["No rash"]}},
    {"id": "b", "sections": {"R": "She had seizures."}, "gold": {"Neuro": ["seizures"]}},
]
PREDICTED: list[dict[str, Any]] = [
    {"id": "a", "findings": {"DERM": ["rash"], "GI": ["vomited"]}},
    {"id": "b", "findings": {"Neuro": ["seizures"]}},
]


def written(path: Path, records: list[Any]) -> str:
    lines = (r if isinstance(r, str) else json.dumps(r) for r in records)
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def scored(folder: Path, predicted: list[Any], *more: str) -> CompletedProcess[str]:
    gold, pred = written(folder / "g.jsonl", CASES), written(folder / "p.jsonl", predicted)
    return ran("score", "--gold", gold, "--pred", pred, *more)


def test_json_holds_summary_categories_and_cells(tmp_path: Path) -> None:
    done = scored(tmp_path, PREDICTED, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["summary", "categories", "cells"]
    assert list(found["categories"]) == list(KEYS)
    assert len(found["cells"]) == 2 * len(KEYS)
    cell = next(c for c in found["cells"] if (c["id"], c["category"]) == ("a", "DERM"))
    assert cell["score"] == pytest.approx(2 / 3)
    assert (cell["precision"], cell["recall"], cell["polarity_errors"]) == (1, 0.5, 1)
    assert cell["empty_agreement"] is None
    assert cell["reason"].startswith("quoted without its negation")
    own = {"id", "category", "precision", "recall", "reason"}
    macro = {name for name in found["summary"] if "_macro" in name}
    assert len(macro) == 18
    assert set(found["summary"]) - macro == set(cell) - own
    assert (cell["token_recall_micro"], cell["quote_exact_f1_micro"]) == (0.5, 0)
    assert (cell["quote_overlap_f1_micro"], cell["quote_gold_positive"]) == (1, 0)
    assert found["summary"]["quote_exact_precision_micro"] == pytest.approx(1 / 3)
    assert found["summary"]["quote_overlap_recall_macro"] == pytest.approx(2 / 3)
    assert found["categories"]["RESP"]["token_f1_micro"] is None
    assert found["summary"]["cell_mean"] == pytest.approx(((12 + 2 / 3) / 14 + 1) / 2)
    assert found["summary"]["polarity_errors"] == 1
    assert found["categories"]["GI"]["hallucination"] == 50
    assert found["categories"]["RESP"]["negation_recall"] is None
    assert {"tsr_raw", "tsr_norm", "levenshtein", "exact_match", "bleu1", "bleu4"} < set(cell)


def test_metrics_can_be_chosen_and_shown_as_a_table(tmp_path: Path) -> None:
    objective = scored(tmp_path, PREDICTED, "--metrics", "objective").stdout
    assert "nonempty_f1" in objective
    assert "tsr_raw" not in objective
    paper = scored(tmp_path, PREDICTED, "--metrics", "paper", "--cells").stdout
    assert "tsr_raw" in paper
    assert "nonempty_f1" not in paper
    field = scored(tmp_path, PREDICTED, "--metrics", "field").stdout
    assert "quotes, exact" in field
    assert "tsr_raw" not in field + objective
    assert "quotes, exact" not in objective + paper


@pytest.mark.parametrize("width", [60, 80, 300])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    gold = written(tmp_path / "g.jsonl", CASES)
    for text, names in (
        (
            scored(tmp_path, PREDICTED, "--cells").stdout,
            [*KEYS, "empty_agreement", "hallucination"],
        ),
        (ran("audit", "--data", gold).stdout, [*SYSTEMS, "quote_overlap_f1_macro_positive"]),
    ):
        assert max(map(len, text.splitlines())) in range(50, width + 1)
        assert set(names) <= set(text.split())


def test_csv_holds_a_row_a_category_or_a_cell(tmp_path: Path) -> None:
    text = scored(tmp_path, PREDICTED, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["category"] for row in rows] == ["all", *KEYS]
    text = scored(tmp_path, PREDICTED, "--format", "csv", "--cells").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * len(KEYS)
    assert rows[0]["id"] == "a"


def test_missing_cases_count_as_empty_only_when_asked(tmp_path: Path) -> None:
    done = scored(tmp_path, PREDICTED[:1])
    assert done.returncode == 2
    assert "no prediction for case b" in done.stderr
    done = scored(tmp_path, PREDICTED[:1], "--allow-missing", "--format", "json")
    assert json.loads(done.stdout)["categories"]["Neuro"]["omission"] == 100


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "c", "findings": {}}, "line 3: unknown case 'c'"),
        ({"id": "a", "findings": {}}, "line 3: case 'a' was there before"),
        ({"id": "a", "findings": {"GX": []}}, "case a: unknown category 'GX': did you mean 'GU'?"),
        ({"id": "a", "findings": {"GI": None}}, "case a: GI is null, not a list"),
        ({"id": "a", "findings": {"GI": [1.5]}}, "case a: GI holds 1.5, which is not a text"),
        ({"id": "a", "findings": ["x"]}, "case a: 'findings' must be an object"),
        ({"findings": {}}, "needs an object with a text 'id'"),
        ("{", "line 3: not JSON"),
    ],
)
def test_a_faulty_prediction_is_named(tmp_path: Path, line: Any, message: str) -> None:
    done = scored(tmp_path, [*PREDICTED, line])
    assert done.returncode == 2
    assert message in done.stderr
    assert "p.jsonl" in done.stderr
    assert done.stderr.count("\n") == 1


def test_unknown_metrics_are_named(tmp_path: Path) -> None:
    done = scored(tmp_path, PREDICTED, "--metrics", "objektive")
    assert done.returncode == 2
    assert "did you mean 'objective'?" in done.stderr


def test_no_trivial_system_gets_far_on_the_sample() -> None:
    found = audit(load("sample", load_schema("casereportbench")).cases, KEYS)
    assert list(found) == list(SYSTEMS)
    assert found["gold"]["score"] == 1
    trivial = {name: found[name]["score"] for name in SYSTEMS if not name.startswith("gold")}
    assert max(trivial.values()) <= 0.25
    assert found["gold_without_negation"]["negation_recall"] < 0.1
    assert found["gold_without_negation"]["score"] < 0.95
    assert found["every_sentence"]["tsr_raw"] > 60


def test_the_audit_has_a_classifier_that_learnt_from_other_groups(tmp_path: Path) -> None:
    bodies = ["He had seizures. He came by bus.", "Seizures again. Mild weather.", "No seizures."]
    cases = [
        {"id": str(n), "sections": {"R": body}, "gold": {"Neuro": [body.split(".")[0]]}}
        for n, body in enumerate(bodies)
    ]
    done = ran("audit", "--data", written(tmp_path / "c.jsonl", cases), "--json")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == [*SYSTEMS, "sentence_classifier"]
    assert json.loads(done.stdout)["sentence_classifier"]["nonempty_f1"] > 0.3
    together = [{**case, "group": "one"} for case in cases]
    done = ran("audit", "--data", written(tmp_path / "g.jsonl", together), "--json")
    assert list(json.loads(done.stdout)) == list(SYSTEMS)


def test_no_trivial_system_gets_far_on_real_cases() -> None:
    done = ran("audit", "--data", str(real("casereportbench/gold_cases.jsonl")), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    trivial = [name for name in SYSTEMS if name not in ("gold", "gold_without_negation")]
    assert max(found[name]["score"] for name in trivial) <= 0.25
    assert found["gold"]["score"] == 1
    assert found["empty"]["ungrounded"] is None
