"""The documentation: built without a network, its links lead somewhere, its pages fetch nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crb_dspy.__main__ import COMMANDS
from tests.offline import offline

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)")
FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=[\"']?(https?:)?//")


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "docs/index.md", "docs/tutorial.md"])
def test_links_between_files_lead_to_files(name: str) -> None:
    page = ROOT / name
    made = {"settings.md", "commands.md", "python.md", "security.md", "log.md", "changelog.md"}
    links = LINK.findall(page.read_text("utf-8"))
    local = [link for link in links if "://" not in link and Path(link).name not in made]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_readme_fits_on_three_screens() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 160


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built strictly: a link to nothing, or a page in no menu, is an error."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("docs")
    site = folder / "site-out"
    build = ("-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(site))
    done, tried = offline(folder, *build, path=str(ROOT), NO_MKDOCS_2_WARNING="1")
    assert done.returncode == 0, done.stderr
    assert tried == []
    return site


@pytest.mark.slow
def test_pages_are_built_offline_and_ask_nothing_of_the_network(built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        assert FETCHED.search(page.read_text("utf-8")) is None, page


@pytest.mark.slow
def test_the_reference_is_made_of_what_the_program_says(built: Path) -> None:
    commands = (built / "reference/commands.html").read_text("utf-8")
    assert all(f"python -m crb_dspy.{name}" in commands for name in COMMANDS)
    assert "max_calls" in (built / "reference/settings.html").read_text("utf-8")
    python = (built / "reference/python.html").read_text("utf-8")
    assert "ExtractionProgram" in python and "Return" in python
