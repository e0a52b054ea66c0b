"""Lists become points with names, mistakes are found before anything is asked, caps are shared."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.errors import RunError, UserError
from crb_dspy.models.budget import Amount, Caps
from crb_dspy.sweep.budget import SharedBudget, judging
from crb_dspy.sweep.grid import Grid, Point, label, points, read_grid

SMALL = 'limit = 6\ncategories = ["GI"]\noptimizer = "none"\n'
STRATEGIES = (
    '[points.zero-shot]\noptimizer = "none"\n'
    '[points.few-shot]\noptimizer = "labeled"\ngate = 1.0\n'
    '[points."chain of thought"]\nprogram_options.cot = true\n'
)


def grid_of(folder: Path, text: str, **changes: Any) -> Grid:
    (folder / "sweep.toml").write_text(text)
    return read_grid(folder / "sweep.toml", changes)


def refusal(folder: Path, text: str, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        points(grid_of(folder, text, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_product_of_lists_and_strategies_is_planned(tmp_path: Path) -> None:
    found = points(grid_of(tmp_path, SMALL + 'program = ["monolithic", "filtered"]\n' + STRATEGIES))
    assert [point.name for point in found] == [
        "monolithic-zero-shot",
        "monolithic-few-shot",
        "monolithic-chain_of_thought",
        "filtered-zero-shot",
        "filtered-few-shot",
        "filtered-chain_of_thought",
    ]
    few, cot = found[4].planned.experiment, found[5].planned.experiment
    assert (few.program, few.optimizer, few.gate) == ("filtered", "labeled", 1.0)
    assert (cot.optimizer, cot.program_options) == ("none", {"cot": True})
    assert few.name == "filtered-few-shot"


def test_values_that_are_lists_vary_as_lists_of_lists(tmp_path: Path) -> None:
    text = 'limit = 6\noptimizer = "none"\ncategories = [["GI"], ["GI", "Neuro"]]\n'
    more = "split = [0.5, 0.0, 0.5]\n"
    found = points(grid_of(tmp_path, text + more + "[program_options]\ncot = [false, true]\n"))
    assert [point.name for point in found] == [
        "GI-cot=false",
        "GI-cot=true",
        "GI+Neuro-cot=false",
        "GI+Neuro-cot=true",
    ]
    assert found[0].planned.experiment.split == [0.5, 0.0, 0.5]
    assert found[3].planned.schema.keys == ("Neuro", "GI")


def test_flags_vary_too_and_what_does_not_vary_has_no_part_in_the_name(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, SMALL + 'program = ["filtered"]\n', seed=[1, 2])
    assert [point.name for point in points(grid)] == ["seed=1", "seed=2"]
    assert [p.name for p in points(grid_of(tmp_path, 'name = "a b"\n' + SMALL))] == ["a_b"]


def test_options_go_with_the_optimizer_that_a_flag_replaces(tmp_path: Path) -> None:
    text = 'optimizer = "labeled"\nlimit = 6\noptions.demonstrations = [1, 2]\n'
    assert len(points(grid_of(tmp_path, text))) == 2
    assert len(points(grid_of(tmp_path, text, optimizer="labeled"))) == 2
    (point,) = points(grid_of(tmp_path, text, optimizer="none"))
    assert point.planned.experiment.options == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead = [1, 2]", "point sead=1: unknown key 'sead': did you mean 'seed'?"),
        ('program = ["filtered", "filterd"]', "point filterd: unknown program 'filterd'"),
        ('optimizer = "none"\noptions.shots = [1]', "unknown option 'shots'"),
        ("seed = []", "seed = []: a list in a sweep"),
        ("seed = [1, 1]", "seed: two choices are called 'seed=1'"),
        ('program = ["filtered"]\n[points.a]\nprogram = "review"', "'program' is set for all"),
        ("points = [1]", "points: write a table for each strategy"),
        ('search = "optima"', "unknown search 'optima': did you mean 'optuna'?"),
        ("trials = 3", "trials: only with search = 'optuna'"),
        ('search = "optuna"\ntrials = "3"', "trials = '3': give a number"),
        ("seed = 1 2", "not a TOML file"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_point(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such sweep file"):
        read_grid(tmp_path / "none.toml", {})


@pytest.mark.parametrize(("name", "count"), [("paper_grid", 9), ("optimizers", 9)])
def test_the_sweeps_that_come_with_the_project_are_sound(name: str, count: int) -> None:
    path = Path(__file__).parents[1] / "experiments" / f"{name}.toml"
    assert len({point.name for point in points(read_grid(path, {}))}) == count


@given(st.text(min_size=1))
def test_a_label_can_be_a_folder(value: str) -> None:
    name = label("model", value)
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\:*?"<>|\n ')


@pytest.fixture
def three(tmp_path: Path) -> list[Point]:
    return points(grid_of(tmp_path, SMALL + "seed = [1, 2, 3]"))


def test_each_point_gets_what_judging_takes_and_what_one_leaves_goes_on(three: list[Point]) -> None:
    need = judging(three[0].planned).calls
    purse = SharedBudget(Caps(calls=3 * need + 9), three)
    given = purse.give(three[0])
    assert given.calls == need + 3
    purse.settle(given, Amount(calls=1))
    rest = 3 * need + 8
    assert purse.left().calls == rest
    given = purse.give(three[1])
    assert given.calls == need + (rest - 2 * need) // 2
    purse.settle(given, Amount(calls=given.calls or 0))
    assert purse.give(three[2]).calls == rest - (given.calls or 0)


def test_a_point_that_cannot_be_judged_waits_for_what_others_leave(three: list[Point]) -> None:
    need = judging(three[0].planned).calls
    purse = SharedBudget(Caps(calls=need + 1), three)
    first = purse.give(three[0])
    later: list[Caps] = []
    thread = threading.Thread(target=lambda: later.append(purse.give(three[1])))
    thread.start()
    purse.settle(first, Amount(calls=1))
    thread.join(30)
    assert [caps.calls for caps in later] == [need]
    purse.settle(later[0], Amount(calls=need))
    with pytest.raises(RunError, match=f"--max-calls {need + 1}: 0 left"):
        purse.give(three[2])


def test_points_that_need_nothing_hold_nothing_back(three: list[Point]) -> None:
    need = judging(three[0].planned).calls
    purse = SharedBudget(Caps(calls=3 * need), three)
    purse.skip(three[1])
    assert purse.give(three[0]).calls == need + need // 2


def test_without_caps_there_are_none(three: list[Point]) -> None:
    assert SharedBudget(Caps(), three).give(three[0]) == Caps()


def test_no_two_points_share_a_folder(three: list[Point]) -> None:
    from crb_dspy.sweep.points import folder

    assert len({folder(point) for point in three}) == 3
    other = three[0].planned.experiment.model_copy(update={"threads": 9})
    moved = replace(three[0], planned=replace(three[0].planned, experiment=other))
    assert folder(moved) != folder(three[0])
