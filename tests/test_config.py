"""Experiments are strict, and every mistake is one line that names the nearest valid choice."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.config import Experiment, read_experiment, setting
from crb_dspy.errors import UserError
from crb_dspy.running.artifacts import toml


def written(folder: Path, text: str) -> Path:
    path = folder / "e.toml"
    path.write_text(text)
    return path


def test_defaults_then_file_then_flags(tmp_path: Path) -> None:
    path = written(tmp_path, 'seed = 3\nprogram = "monolithic"\n[options]\ncandidates = 2\n')
    experiment = read_experiment(path, {"seed": 5, "options.demonstrations": 1})
    assert (experiment.program, experiment.seed, experiment.optimizer) == (
        "monolithic",
        5,
        "factors",
    )
    assert experiment.options == {"candidates": 2, "demonstrations": 1}


def test_options_go_with_the_choice_that_they_belong_to(tmp_path: Path) -> None:
    path = written(tmp_path, 'optimizer = "bootstrap"\n[options]\ncandidates = 2\n')
    assert read_experiment(path, {"optimizer": "bootstrap"}).options == {"candidates": 2}
    default = written(tmp_path, "[options]\ntrials = 2\n")
    assert read_experiment(default, {"optimizer": "factors"}).options == {"trials": 2}
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


@given(
    name=st.text(min_size=1),
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
