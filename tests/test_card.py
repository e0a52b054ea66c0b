"""The card of a tuned program: what it says is what the run found, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fake_server import Body, Reply, asked_keys, empty, serving
from tests.made_run import home


def stubborn(body: Body) -> Reply:
    """Quote what stands in no report, in every category."""
    if "Task:" not in body["messages"][-1]["content"]:
        return empty(body)
    return json.dumps({key: ["nowhere to be found"] for key in asked_keys(body)})


def test_a_card_tells_data_scores_weaknesses_and_whose_text(tmp_path: Path) -> None:
    with serving(stubborn) as server, home(tmp_path) as place:
        place.compile(server, "--optimizer", "labeled", "--set", "gate=1")
        text = (place.out / "card.md").read_text("utf-8")
        place.compile(server, "--optimizer", "labeled", "--set", "gate=1")
        assert (place.out / "card.md").read_text("utf-8") == text
        run, _ = place.runs()
        metrics, params = run.data.metrics, run.data.params
        demos = [d for row in place.rows("candidates.jsonl") for p in row["prompt"]
                 for d in p["demonstrations"]]  # fmt: skip
    for name in ("data_fingerprint", "split_fingerprint"):
        assert f"`{params[name]}`" in text
    assert f"| tuned | {metrics['test/score']:.3f} | " in text
    assert f"| seed | {metrics['test/score_baseline']:.3f} | " in text
    assert "100 % of its quotes are not in their report." in text
    assert "It does not beat the sentence classifier" in text
    assert demos and "demonstrations with text of reports: " in text
    assert all(demo["case"] in text for demo in demos)
    assert "licence: invented reports of this project, MIT" in text
    assert f"about {metrics['cost/report_tokens']:,.0f} tokens" in text


def test_a_program_without_demonstrations_holds_no_text(tmp_path: Path) -> None:
    with serving() as server, home(tmp_path) as place:
        place.compile(server, "--optimizer", "none")
        text = (place.out / "card.md").read_text("utf-8")
        (run,) = place.runs()
    assert text.rstrip().endswith("- of no report")
    assert run.data.metrics["cost/report_seconds"] > 0
