"""The wheel alone runs the quickstart, in an empty folder, without a network."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import crb_dspy
from crb_dspy.__main__ import COMMANDS
from crb_dspy.errors import UserError
from crb_dspy.files import QUICKSTART, experiment
from tests.fake_server import serving
from tests.offline import offline

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as pip installs it; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wanted = ["install", "--no-deps", "--target", str(folder), str(ROOT)]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=500)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("setuptools cannot be fetched to build the wheel")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_wheel_alone_runs_the_quickstart_without_a_network(
    installed: Path, tmp_path: Path
) -> None:
    where = "import crb_dspy, crb_dspy.programs; print(crb_dspy.__file__)"
    done, _ = offline(tmp_path, "-c", where, path=str(installed))
    assert Path(done.stdout.strip()).is_relative_to(installed), done.stderr
    where = "from crb_dspy.compare.published import load_published; print(len(load_published()))"
    done, _ = offline(tmp_path, "-c", where, path=str(installed))
    assert int(done.stdout) > 500, done.stderr
    with serving() as server:
        own = ["--model", "openai/fake", "--api-base", server.address]
        done, tried = offline(tmp_path, "-m", "crb_dspy", "compile", *own, path=str(installed))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quickstart: category_specific, ")
    assert tried == []
    (report,) = (tmp_path / "empty").glob("mlruns/out/*/report.html")
    assert report.stat().st_size


def test_a_cut_network_is_told_of(tmp_path: Path) -> None:
    reach = "import urllib.request as r; r.urlopen('http://example.org', timeout=5)"
    done, tried = offline(tmp_path, "-c", reach)
    assert done.returncode == 1
    assert tried == ["example.org"]


def test_an_experiment_of_the_package_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tomllib.loads(experiment(QUICKSTART).read_text("utf-8"))["name"] == "quickstart"
    own = tmp_path / QUICKSTART
    own.parent.mkdir()
    own.write_text("")
    assert experiment(QUICKSTART) == QUICKSTART
    assert experiment(Path("mine.toml")) == Path("mine.toml")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_and_flags(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from crb_dspy.__main__ import main

    assert main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "--api-base" in script


def test_an_unknown_shell_says_how_to_ask() -> None:
    from crb_dspy.__main__ import main

    with pytest.raises(UserError, match="--completion bash or zsh"):
        main(["--completion", "fish"])


def test_the_citation_names_the_version_of_the_package() -> None:
    assert f"version: {crb_dspy.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
