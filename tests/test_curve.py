"""The score against the number of annotated cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.plan import plan
from crb_dspy.curve.__main__ import main
from crb_dspy.curve.stands import shortened
from crb_dspy.errors import UserError
from tests.made_run import home

SETTINGS = {
    "name": "few",
    "data": "sample",
    "limit": 16,
    "categories": ["GI", "GU"],
    "program": "given",
    "model": "none",
    "optimizer": "auto",
    "options": {"candidates": 0},
    "split": [0.4, 0.3, 0.3],
}


def test_smaller_sets_are_parts_of_larger_ones_and_the_test_stays_the_same() -> None:
    planned = plan(read_experiment(None, SETTINGS))
    plans = [shortened(planned, size) for size in (4, 8)]
    few, more = ({c.id for c in (*p.split.train, *p.split.validation)} for p in plans)
    assert len(few) == 4
    assert len(more) == 8
    assert few < more
    assert all(p.split.test == planned.split.test for p in plans)
    assert len({p.experiment.name for p in plans}) == 2
    assert not more & {case.id for case in planned.split.test}


def test_each_size_is_a_line_a_step_and_a_point_of_the_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in SETTINGS.items() if key != "options"]
    (tmp_path / "few.toml").write_text("\n".join([*lines, "[options]", "candidates = 0"]))
    with home(tmp_path) as place:
        assert main([str(tmp_path / "few.toml"), "--sizes", "8,4"]) == 0
        (run,) = place.runs("curve")
        assert len(place.runs()) == 2
    printed = capsys.readouterr().out
    assert printed.index("   4 cases  baseline 0.000") < printed.index("   8 cases  baseline 0.000")
    assert "sentence classifier 0." in printed
    folder = tmp_path / "mlruns/out/few-curve"
    assert [stand["size"] for stand in json.loads((folder / "curve.json").read_text())] == [4, 8]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert {"curve/baseline", "curve/tuned", "curve/sentence_classifier"} <= set(run.data.metrics)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [("6,many", "write numbers, as 6,12,24"), ("2", "from 3 to 11 cases"), ("99", "from 3 to 11")],
)
def test_sizes_that_cannot_be_are_a_line(tmp_path: Path, sizes: str, message: str) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in SETTINGS.items() if key != "options"]
    (tmp_path / "few.toml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        main([str(tmp_path / "few.toml"), "--sizes", sizes])
