"""What a run shows while it goes on."""

from __future__ import annotations

import pytest

from crb_dspy import progress
from crb_dspy.compile.estimate import Phase
from crb_dspy.compile.stages import Stages


def test_a_stage_that_is_entered_again_goes_on_counting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    stages = Stages({}, [Phase("baseline", "task", 4, None)])
    for _ in range(2):
        with stages("baseline") as tick:
            tick()
            tick()
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"baseline: {done} of 4" for done in (1, 2, 3, 4)]
