"""The published scores are complete, flagged, and those of the source."""

from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")

from crb_dspy.compare.published import PUBLISHED, load_published  # noqa: E402
from crb_dspy.scoring.paper import PAPER  # noqa: E402

CONFIGURATION = ["model", "strategy", "prompting"]


def means(metric: str) -> dict[tuple[str, str, str], float]:
    scores = load_published()
    rows = scores[scores.metric == metric].groupby(CONFIGURATION).value.mean().reset_index()
    columns = (rows.model, rows.strategy, rows.prompting, rows.value)
    return {(m, s, p): float(value) for m, s, p, value in zip(*columns, strict=True)}


@pytest.mark.parametrize(("metric", "configurations"), [("levenshtein", 32), ("tsr_norm", 5)])
def test_every_configuration_has_every_category_once(metric: str, configurations: int) -> None:
    scores = load_published()
    rows = scores[scores.metric == metric]
    assert len(rows) == configurations * 14
    assert rows.category.nunique() == 14
    assert not rows.duplicated([*CONFIGURATION, "category"]).any()


def test_the_means_are_those_of_the_paper() -> None:
    tsr = means("tsr_norm")
    best = max(tsr, key=lambda configuration: tsr[configuration])
    assert best == ("Qwen2.5-7B", "FCSP", "few_shot")
    assert round(tsr[best], 2) == 56.38
    assert round(tsr["GPT-4o", "UCP", "few_shot"], 2) == 30.86
    assert means("levenshtein")["Qwen2.5-7B", "FCSP", "few_shot"] == pytest.approx(45.3254883443301)


def test_values_are_of_known_metrics_and_in_range() -> None:
    scores = load_published()
    assert set(scores.metric) <= set(PAPER)
    assert scores.value.between(0, 100).all()
    assert set(scores.strategy) == {"UGP", "UCP", "FCSP"}
    assert set(scores.prompting) == {"zero_shot", "few_shot", "chain_of_thought"}


def test_the_value_of_the_source_can_be_recovered() -> None:
    first = load_published().query("metric == 'levenshtein'").iloc[0]
    assert first.value / first.scale == pytest.approx(0.19889765646344643, rel=1e-15)
    assert set(load_published().groupby("metric").scale.unique().map(tuple)) == {(1,), (100,)}


def test_every_row_says_that_it_was_not_scored_here() -> None:
    scores = load_published()
    assert scores.published.all() and not scores.rescored.any()


def test_a_file_or_its_folder_may_be_named(tmp_path: Path) -> None:
    copy = tmp_path / PUBLISHED.name
    copy.write_text(PUBLISHED.read_text().split("\n")[0] + "\n")
    assert len(load_published(copy)) == len(load_published(tmp_path)) == 0
    with pytest.raises(FileNotFoundError):
        load_published(tmp_path / "none.csv")
