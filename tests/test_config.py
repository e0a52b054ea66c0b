"""Experiments are strict, and every mistake is one line that names the nearest valid choice."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.command import assignment
from crb_dspy.compile.artifacts import toml
from crb_dspy.compile.config import Experiment, read_experiment, setting
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError, unknown
from crb_dspy.sweep.grid import read_grid

CATEGORIES = load_schema("casereportbench").keys


def written(folder: Path, text: str) -> Path:
    path = folder / "e.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gi", "GI"), ("Derm", "DERM"), ("derm", "DERM"), ("vit", "Vitals_Hema"), ("Nuero", "Neuro")],
)
def test_the_nearest_name_is_told_whatever_its_capitals(name: str, meant: str) -> None:
    assert f"did you mean '{meant}'?" in unknown("category", name, CATEGORIES)


def test_nothing_is_suggested_where_nothing_is_like_it() -> None:
    assert "did you mean" not in unknown("category", "", CATEGORIES)
    assert "did you mean" not in unknown("category", "xyzzy", CATEGORIES)


def test_defaults_then_file_then_flags(tmp_path: Path) -> None:
    path = written(tmp_path, 'seed = 3\nprogram = "monolithic"\n[options]\ncandidates = 2\n')
    experiment = read_experiment(path, {"seed": 5, "options.demonstrations": 1})
    assert (experiment.program, experiment.seed, experiment.optimizer) == (
        "monolithic",
        5,
        "auto",
    )
    assert experiment.options == {"candidates": 2, "demonstrations": 1}


def test_options_go_with_the_choice_that_they_belong_to(tmp_path: Path) -> None:
    path = written(tmp_path, 'optimizer = "bootstrap"\n[options]\ncandidates = 2\n')
    assert read_experiment(path, {"optimizer": "bootstrap"}).options == {"candidates": 2}
    default = written(tmp_path, "[options]\ntrials = 2\n")
    assert read_experiment(default, {"optimizer": "auto"}).options == {"trials": 2}
    assert read_experiment(default, {"optimizer": "mipro"}).options == {}
    path = written(tmp_path, 'optimizer = "bootstrap"\n[options]\ncandidates = 2\n')
    other = read_experiment(path, {"optimizer": "labeled", "options.demonstrations": 1})
    assert other.options == {"demonstrations": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 1", "unknown key 'sead': did you mean 'seed'?"),
        ('seed = "1"', "seed = '1': input should be a valid integer"),
        ("threads = 0", "threads = 0: input should be greater than or equal to 1"),
        ("limit = 1.5", "limit = 1.5: input should be a valid integer"),
        ("split = [0.5]", "split = [0.5]: list should have at least 3 items"),
        ("categories = [1]", "categories.0 = 1: input should be a valid string"),
        ("seed 1", "not a TOML file"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_experiment(written(tmp_path, text), {})
    assert message in str(caught.value)
    assert "e.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such experiment file"):
        read_experiment(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3", ("seed", 3)),
        ("model=openai/x", ("model", "openai/x")),
        ("options.a=[1, 2]", ("options.a", [1, 2])),
        ("limit = 7", ("limit", 7)),
        ('name="a=b"', ("name", "a=b")),
        ("name=a=b", ("name", "a=b")),
    ],
)
def test_settings_are_toml_or_bare_text(text: str, expected: tuple[str, object]) -> None:
    assert setting(text) == expected


@pytest.mark.parametrize("text", ["seed", "=3", ""])
def test_a_setting_needs_key_and_value(text: str) -> None:
    with pytest.raises(UserError, match="--set key=value"):
        setting(text)


def can_be_a_folder(name: str) -> bool:
    return bool(name.strip(". ")) and name.isprintable() and "/" not in name


@given(
    name=st.text(min_size=1, max_size=100).filter(can_be_a_folder),
    limit=st.none() | st.integers(2, 99),
    groups=st.dictionaries(st.text(), st.text()),
    temperature=st.floats(0, 2),
)
def test_the_resolved_experiment_reads_back_as_itself(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    limit: int | None,
    groups: dict[str, str],
    temperature: float,
) -> None:
    experiment = Experiment(name=name, limit=limit, groups=groups, temperature=temperature)
    path = tmp_path_factory.getbasetemp() / "resolved.toml"
    path.write_text(toml(experiment.model_dump(by_alias=True)), "utf-8")
    assert read_experiment(path, {}) == experiment


@pytest.mark.parametrize("text", [f"seed = {'9' * 5000}", "seed = ", f"seed = {'[' * 9000}"])
def test_what_is_no_toml_is_one_line_whoever_reads_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text, "utf-8")
    readers: list[Callable[[Path], object]] = [
        lambda own: read_experiment(own, {}),
        lambda own: read_grid(own, {}),
        lambda own: load_schema(str(own)),
    ]
    for read in readers:
        with pytest.raises(UserError, match="own.toml: not a TOML file"):
            read(path)


def test_a_number_of_thousands_of_digits_on_the_command_line_is_a_text() -> None:
    assert assignment("--set", f"seed={'9' * 5000}") == ("seed", "9" * 5000)
