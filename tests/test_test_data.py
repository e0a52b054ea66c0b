"""Test data of one's own: its cases judge, and all others tune."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from crb_dspy.compile import resume
from crb_dspy.compile.__main__ import main
from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.plan import Plan, plan
from crb_dspy.errors import RunError, UserError
from crb_dspy.quotes.grounding import Status
from crb_dspy.sweep import __main__ as sweep
from crb_dspy.sweep.grid import points, read_grid
from crb_dspy.sweep.study import Study
from tests.fake_server import Body, FakeServer, Reply, serving
from tests.made_run import Home, home

OWN = {"data": "own.jsonl", "test_data": "theirs.jsonl", "categories": ["RESP"]}
FLAGS = ["--data", "own.jsonl", "--test-data", "theirs.jsonl", "--categories", "RESP"]


def write(path: str, names: list[str], word: str = "cough", **more: object) -> None:
    lines = (
        {"id": n, "sections": {"R": f"Case {n} had {word}."}, "gold": {"RESP": [word]}, **more}
        for n in names
    )
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


def planned(**changes: object) -> Plan:
    return plan(read_experiment(None, OWN | changes))


def refusal(**changes: object) -> str:
    with pytest.raises(UserError) as caught:
        planned(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path) as found:
        write("own.jsonl", names("own", 12))
        write("theirs.jsonl", names("their", 5))
        yield found


@pytest.mark.usefixtures("place")
def test_test_data_judges_whole_and_all_of_the_data_tunes() -> None:
    made = planned(split=[0.5, 0.25, 0.25])
    sides = {s: {case.id for case in getattr(made.split, s)} for s in ("train", "validation")}
    assert {case.id for case in made.split.test} == set(names("their", 5))
    assert sides["train"] | sides["validation"] == set(names("own", 12))
    # In the proportion of the experiment's shares, without the test cases'.
    assert (len(sides["train"]), len(sides["validation"])) == (8, 4)
    assert (len(made.splits), made.tested) == (1, 5)
    assert made.loaded.levels[Status.EXACT] == 17
    assert len(planned(split=[1, 0, 0], optimizer="labeled").split.train) == 12


@pytest.mark.usefixtures("place")
def test_limits_are_for_the_data_that_tunes() -> None:
    write("theirs.jsonl", names("their", 5), "cough " * 50 + "and cough")
    made = planned(limit=6, longest=40)
    assert len(made.split.train + made.split.validation) == 6
    assert len(made.split.test) == 5


@pytest.mark.usefixtures("place")
def test_fingerprints_cover_both_files_and_their_roles() -> None:
    def prints() -> tuple[str, str]:
        made = planned()
        return made.loaded.fingerprint, made.split.fingerprint

    before = prints()
    write("theirs.jsonl", names("their", 5), "asthma")
    other = prints()
    assert (before[0] != other[0], before[1] == other[1]) == (True, True)
    write("theirs.jsonl", names("their", 4), "asthma")
    fewer = prints()
    assert all(a != b for a, b in zip(fewer, other, strict=True))
    alone = resume.inputs(planned(test_data=None))
    (said,) = [text for text in resume.changed(alone, resume.inputs(planned())) if "theirs" in text]
    assert said == "test_data: None then, 'theirs.jsonl' now"


@pytest.mark.usefixtures("place")
def test_groups_in_both_are_named() -> None:
    write("own.jsonl", names("own", 12), group="Fabry")
    write("theirs.jsonl", names("their", 5), group="Fabry")
    message = "test_data = 'theirs.jsonl': 1 group also in data: Fabry; leave them out of one"
    assert message in refusal()
    write("own.jsonl", ["own1", *names("their", 5)])
    write("theirs.jsonl", names("their", 5))
    assert "5 groups also in data: their0, their1, their2 and 2 more" in refusal()


@pytest.mark.usefixtures("place")
def test_a_case_or_its_text_in_both_is_named_whatever_its_group() -> None:
    write("own.jsonl", [*names("own", 3), "their2"])
    assert "1 group also in data: other;" in refusal(groups={"their2": "other"})
    same = {"id": "copy", "sections": {"R": "Case their1 had cough."}, "gold": {"RESP": []}}
    write("own.jsonl", names("own", 3))
    with Path("own.jsonl").open("a") as file:
        file.write(json.dumps(same) + "\n")
    assert "1 group also in data: their1;" in refusal()


@pytest.mark.usefixtures("place")
def test_groups_may_be_given_for_cases_of_either_file() -> None:
    groups = {"own1": "x", "their1": "y", "their2": "y"}
    made = planned(groups=groups)
    found = {case.id: case.group for case in made.loaded.cases}
    assert {name: found[name] for name in groups} == groups
    assert "1 group also in data: x" in refusal(groups={"own1": "x", "their1": "x"})
    assert "groups: unknown case 'their9'" in refusal(groups={"their9": "y"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 3}, "folds = 3: with test_data its cases judge; give one of the two"),
        ({"test_data": "bare.jsonl"}, "bare.jsonl: case b0 has no gold"),
        ({"test_data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"test_data": "$NOT_SET_ANYWHERE/x"}, "test_data = '$NOT_SET_ANYWHERE/x': set the env"),
        ({"data": "$NOT_SET_ANYWHERE/x"}, "data = '$NOT_SET_ANYWHERE/x': set the environment"),
        ({"split": [1, 0, 0]}, "optimizer 'auto' chooses on validation cases"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_mistake_is_one_line(changes: dict[str, object], message: str) -> None:
    Path("bare.jsonl").write_text('{"id": "b0", "sections": {"R": "Text."}}\n')
    assert message in refusal(**changes)


def dry(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*FLAGS, "--dry-run", *arguments])
    return capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_what_is_announced_names_both_files(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "7 train, 5 validation; theirs.jsonl: 5 test cases, 1 category"
    assert f"data       own.jsonl: {sizes}\n" in dry(capsys)
    without = dry(capsys, "--test-data", "")
    assert "theirs" not in without
    assert "test cases" in without


def right(body: Body) -> Reply:
    return '{"RESP": ["cough"]}'


def test_a_run_is_judged_on_it_and_says_so(place: Home) -> None:
    with serving(right) as server:
        place.compile(server, *FLAGS, "--optimizer", "labeled")
        (run,) = place.runs()
        assert run.data.params["data"] == "own.jsonl"
        assert run.data.params["test_data"] == "theirs.jsonl"
        assert run.data.params["test"] == "5"
        field = {n: v for n, v in run.data.metrics.items() if n.startswith("field/")}
        assert len(field) == 36
        assert field["field/quote_exact_f1_macro"] == 1
        assert {row["case"] for row in place.rows("cells.jsonl")} == set(names("their", 5))
        assert 'test_data = "theirs.jsonl"' in (place.out / "experiment.toml").read_text()
        asked = len(server.bodies)
        place.compile(server, *FLAGS, "--optimizer", "labeled")
        assert len(server.bodies) == asked


def test_a_broken_run_goes_on_unless_the_test_data_changed(place: Home) -> None:
    alive = [6]

    def mortal(body: Body) -> Reply:
        alive[0] -= 1
        return 500 if alive[0] < 0 else right(body)

    own = [*FLAGS, "--optimizer", "labeled", "--force"]
    with serving(mortal) as server:
        with pytest.raises(RunError):
            place.compile(server, *own)
        alive[0] = 1000
        text = Path("theirs.jsonl").read_text()
        write("theirs.jsonl", names("their", 5), "asthma")
        with pytest.raises(UserError, match="data set: '"):
            place.compile(server, *own, "--resume")
        Path("theirs.jsonl").write_text(text)
        place.compile(server, *own, "--resume")
    (run,) = place.runs()
    assert run.info.status == "FINISHED"


GRID = """
name = "small"
data = "own.jsonl"
test_data = "theirs.jsonl"
categories = ["RESP"]
model = "openai/fake"
optimizer = ["none", "labeled"]
"""


def swept(server: FakeServer, *arguments: str) -> int:
    Path("grid.toml").write_text(GRID)
    return sweep.main(["grid.toml", "--api-base", server.address, *arguments])


def test_points_of_a_sweep_are_judged_on_it(place: Home) -> None:
    with serving(right) as server:
        assert swept(server) == 0
        asked = len(server.bodies)
        assert swept(server) == 0
        assert len(server.bodies) == asked
    assert {run.data.params["test"] for run in place.runs()} == {"5"}
    assert len(place.runs()) == 2


@pytest.mark.usefixtures("place")
def test_test_data_may_vary_in_a_sweep_and_a_study_leaves_it_alone() -> None:
    write("more.jsonl", names("more", 4))
    Path("grid.toml").write_text(GRID.replace('"theirs.jsonl"', '["theirs.jsonl", "more.jsonl"]'))
    found = {point.name: point.planned.tested for point in points(read_grid(Path("grid.toml"), {}))}
    assert found == {
        "test_data=theirs.jsonl-none": 5,
        "test_data=theirs.jsonl-labeled": 5,
        "test_data=more.jsonl-none": 4,
        "test_data=more.jsonl-labeled": 4,
    }
    Path("grid.toml").write_text(GRID + 'search = "optuna"\n')
    grid = read_grid(Path("grid.toml"), {})
    for point in Study(grid, points(grid)).points.values():
        assert all(case.id.startswith("own") for case in point.planned.split.test)
