"""Caps and costs are those of a run, in however many processes it was carried out."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from crb_dspy.compile import journal
from crb_dspy.errors import RunError, UserError
from crb_dspy.models.budget import Amount, Budget, Caps
from crb_dspy.models.meter import Meter, Usage
from tests.fake_server import Body, Reply, serving
from tests.made_run import HEEDLESS, home, repeated
from tests.scoring_reply import sample

ENDLESS = ["--limit", 12, "--threads", 4, "--force", "--optimizer", "./mine.py:recipe"]


def test_what_was_spent_is_known_to_the_next_process(tmp_path: Path) -> None:
    now = [0.0]
    with journal.held(tmp_path / "run") as first:
        assert (first.spent, first.usages) == (Amount(), {})
        task, writer = Meter(), Meter()
        first.follow({"task": task, "reflection": writer}, Budget(clock=lambda: now[0]))
        task.add(asked=1)
        now[0] = 60.0
        task.add(calls=1, prompt_tokens=10, completion_tokens=2, usd=0.5)
        writer.add(failures=1)
        now[0] = 90.0
        writer.add(calls=1, prompt_tokens=5)
    with (tmp_path / "run" / journal.NAME).open("a") as file:
        file.write('{"role": "task", "cal')
    with journal.held(tmp_path / "run") as second:
        assert second.spent == Amount(3, 17, 0.5, 1.5)
        assert second.usages["task"] == Usage(
            calls=1, prompt_tokens=10, completion_tokens=2, usd=0.5
        )
        assert second.usages["reflection"] == Usage(calls=1, failures=1, prompt_tokens=5)
        meter = Meter()
        second.follow({"task": meter}, Budget(spent=second.spent, clock=lambda: now[0]))
        meter.add(calls=1)
    with journal.held(tmp_path / "run") as third:
        assert third.spent == Amount(4, 17, 0.5, 1.5)
        third.restart()
        assert third.spent == Amount()
    with journal.held(tmp_path / "run") as fourth:
        assert fourth.spent == Amount()


def test_a_run_is_held_by_one_process(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="another process is at this very run")
    with journal.held(tmp_path), refused, journal.held(tmp_path):
        pass


def test_a_budget_goes_on_from_what_was_spent() -> None:
    budget = Budget(Caps(calls=3, minutes=2), Amount(calls=2, minutes=1.5), clock=lambda: 0.0)
    assert budget.left() == "1 of 3 calls, 0 of 2 minutes left"
    assert budget.minutes == 1.5


def test_a_cap_holds_over_a_run_that_was_broken_off(tmp_path: Path) -> None:
    living, numbers, revived = sample(), count(), [10_000]

    def mortal(body: Body) -> Reply:
        return 500 if 30 <= next(numbers) < revived[0] else living(body)

    (tmp_path / "mine.py").write_text(HEEDLESS)
    capped = [*ENDLESS, "--max-calls", 90, "--set", "gate=1"]
    with serving(mortal) as server, home(tmp_path) as place:
        with pytest.raises(RunError, match="stopped answering"):
            place.compile(server, *capped)
        before, revived[0] = len(server.bodies), 0
        assert before < 60
        place.compile(server, *capped, "--resume")
        assert 80 < len(server.bodies) <= 90
        (run,) = place.runs()
        failed = run.data.metrics["cost/failures"]
        assert run.data.metrics["cost/calls"] + failed == len(server.bodies)
        assert failed == before - 30
        assert "--max-calls 90 reached" in run.data.tags["stopped"]


def test_a_run_that_its_cap_stopped_is_the_same_when_it_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEEDLESS)
    capped = [*ENDLESS, "--max-calls", 60, "--set", "gate=1"]
    with serving(sample()) as server, home(tmp_path) as place:
        once, again = repeated(place, server, *capped)
        asked = len(server.bodies)
        assert (again.data.metrics["cost/calls"], once.data.metrics["cost/calls"]) == (0, asked)
        assert again.data.tags["stopped"] == once.data.tags["stopped"]


def test_a_folder_in_which_nothing_was_begun_is_taken_away(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "run"
    with pytest.raises(UserError, match="no such model"), journal.held(folder):
        raise UserError("no such model")
    assert not folder.exists()


def test_a_folder_with_anything_in_it_stays(tmp_path: Path) -> None:
    with journal.held(tmp_path):
        (tmp_path / "experiment.toml").write_text("")
    with journal.held(tmp_path):
        pass
    assert (tmp_path / journal.NAME).exists()


@pytest.mark.parametrize("line", ["", '{"role": "task", "minutes": 0.1, "failures": 1}\n'])
def test_a_model_that_was_never_reached_leaves_no_folder(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "out" / "run"
    with journal.held(folder):
        (folder / journal.NAME).write_text(line)
    assert not folder.exists()


def test_a_call_that_was_answered_keeps_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with journal.held(folder):
        (folder / journal.NAME).write_text('{"role": "task", "minutes": 0.1, "calls": 1}\n')
    assert (folder / journal.NAME).is_file()
