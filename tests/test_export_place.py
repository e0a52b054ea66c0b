"""Where an export may be written, and what of the place it leaves as it was."""

from pathlib import Path

import pytest

from crb_dspy.errors import UserError
from crb_dspy.export.__main__ import main
from crb_dspy.export._find import find
from crb_dspy.export._make import PROOF, Request, make, narrowed
from crb_dspy.export._seam import Export
from crb_dspy.saved import write_program
from tests.test_export import contents, tuned


def test_a_file_of_ones_own_beside_an_earlier_export_is_named_and_left(tmp_path: Path) -> None:
    exporter, saved, out = find("promptfoo"), tuned("instructions"), tmp_path / "out"
    make(exporter, saved, out, Request(check=False))
    (out / "prompts" / "mine.json").write_text("{}")
    before = contents(out)
    with pytest.raises(UserError, match=r"out: holds prompts/mine.json, which is of no"):
        make(exporter, saved, out, Request(check=False))
    assert contents(out) == before


@pytest.mark.parametrize("proof", ["", "[]", '{"files": {"a.txt": ""}}', '{"crb_dspy": "1"}'])
def test_a_proof_of_something_else_makes_no_earlier_export(tmp_path: Path, proof: str) -> None:
    (tmp_path / PROOF).write_text(proof)
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(UserError, match=r"which is of no earlier export"):
        make(find("messages"), tuned("instructions"), tmp_path, Request(check=False))
    assert set(contents(tmp_path)) == {PROOF, "a.txt"}


def test_an_export_of_another_format_takes_the_place_of_the_earlier_one_whole(
    tmp_path: Path,
) -> None:
    saved, out = tuned("instructions"), tmp_path / "out"
    for name in ("promptfoo", "messages"):
        make(find(name), saved, out, Request(check=False))
    make(find("messages"), saved, tmp_path / "new", Request(check=False))
    assert contents(out) == contents(tmp_path / "new")
    assert not (out / "prompts").exists()


def test_the_folder_one_is_in_can_be_written_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exporter, saved = find("promptfoo"), tuned("instructions")
    for _ in range(2):
        make(exporter, saved, Path(), Request(check=False))
        assert {"prompts", PROOF} < {path.name for path in Path.cwd().iterdir()}
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_store_in_the_folder_one_is_in_is_no_obstacle_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("runs")
    for _ in range(2):
        make(find("messages"), tuned("instructions"), Path(), Request(check=False))
    assert contents(tmp_path)["mlruns/mlflow.db"] == b"runs"


@pytest.mark.parametrize("target", ["earlier", "nowhere"])
def test_a_link_is_refused_before_anything_is_done(tmp_path: Path, target: str) -> None:
    exporter = find("messages")
    make(exporter, tuned("instructions"), tmp_path / "earlier", Request(check=False))
    before = contents(tmp_path / "earlier")
    (tmp_path / "link").symlink_to(tmp_path / target)
    arguments = ["--to", "messages", "--out", str(tmp_path / "link")]
    # Before the program is looked for, to say nothing of a model.
    with pytest.raises(UserError, match="link: is a link; name the folder it means"):
        main(["nowhere.json", *arguments])
    with pytest.raises(UserError, match="is a link"):
        make(exporter, tuned("demonstrations"), tmp_path / "link", Request())
    assert contents(tmp_path / "earlier") == before


def test_an_export_is_published_when_its_folder_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, out = find("messages"), tmp_path / "out"

    def failing(export: Export, folder: Path) -> list[str]:
        assert folder == out
        assert (out / PROOF).is_file()
        raise UserError("the registry is away")

    monkeypatch.setattr(exporter, "publish", failing)
    with pytest.raises(UserError, match=r"is written, but not published: the registry is away"):
        make(exporter, tuned("instructions"), out, Request(check=False))
    assert (out / PROOF).is_file()


def test_a_batch_that_lies_below_its_reports_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_program(tmp_path / "p.json", narrowed(tuned("instructions"), ["GI"]))
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a.txt").write_text("He had a fever.")
    written = []
    for _ in range(2):
        batch = ["--to", "openai-batch", "--input", "reports", "--out", "reports/batch"]
        assert main(["p.json", *batch]) == 0
        written.append(contents(tmp_path / "reports" / "batch"))
    assert written[0] == written[1]
