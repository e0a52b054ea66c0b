"""All that is kept of a data set is found and removed, and nothing of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crb_dspy.errors import UserError
from crb_dspy.forget.__main__ import main
from crb_dspy.tracking import store
from tests.fake_server import Body, Reply, serving
from tests.made_run import home

MINE = "Zwyckowski"


def test_one_data_set_goes_and_the_other_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"id": f"c{n}", "sections": {"R": f"{MINE} {n} had cough."}, "gold": {"RESP": ["cough"]}}
        for n in range(12)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    few = ["--categories", "RESP", "--optimizer", "labeled", "--force"]

    def reply(body: Body) -> Reply:
        known = MINE in body["messages"][-1]["content"]
        return json.dumps({"RESP": [MINE] if known else []})

    with serving(reply) as server, home(tmp_path) as place:
        place.compile(
            server,
            "--data",
            "own.jsonl",
            *few,
            "--set",
            "traces=1",
            "--set",
            "register_prompts=true",
            "--set",
            "allow_leaks=true",
        )
        place.compile(server, "--limit", 12, *few)
        capsys.readouterr()
        assert main([]) == 0
        sets = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert sorted(sets.values()) == ["own.jsonl", "sample"]
        (mine,) = (key for key, name in sets.items() if name == "own.jsonl")
        with pytest.raises(UserError, match="nothing is kept of a data set 'abc'; of these: "):
            main(["abc"])

        assert main([mine]) == 0
        shown = capsys.readouterr().out
        assert "--yes removes all of this" in shown
        assert len(place.runs()) == 2
        assert {line.split()[0] for line in shown.splitlines()} > {
            *("folders", "runs", "prompts", "traces", "cache")
        }

        assert main([mine, "--yes"]) == 0
        (left,) = place.runs()
        assert left.data.params["data"] == "sample"
        assert len(place.runs("part")) == 1
        assert not list(store.connect().search_prompts())
        assert len(list((tmp_path / "mlruns/out").iterdir())) == 1
        (tmp_path / "own.jsonl").unlink()
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path for path in kept if MINE.encode() in path.read_bytes()] == []
        assert main([]) == 0
        assert mine not in capsys.readouterr().out


def test_where_nothing_is_kept_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main([]) == 0
    assert "Nothing is kept here" in capsys.readouterr().out
    assert not (tmp_path / "mlruns").exists()
