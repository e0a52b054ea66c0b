"""A real Label Studio takes the file that is written for it, and its export comes back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crb_dspy.convert.documents import Document, Mark
from crb_dspy.convert.formats import labelstudio
from tests.label_studio import label_studio

TEXT = "## Case\nA boy of 3 had no fever 😀 but vomited twice.\n\n## Course\nHe was well."


def marked(*quotes: tuple[str, str]) -> tuple[Mark, ...]:
    return tuple(
        Mark(TEXT.index(quote), TEXT.index(quote) + len(quote), category)
        for quote, category in quotes
    )


DOCUMENTS = [
    Document("c1", TEXT, marked(("no fever", "Vitals_Hema"), ("vomited twice", "GI"))),
    Document("c2", f"{TEXT} Again.", marked(("no fever", "GI")), "family", predicted=True),
    Document("c3", f"{TEXT} Third.", None),
]


@pytest.mark.slow
def test_an_import_and_an_export_are_the_same(tmp_path: Path) -> None:
    tasks, back = tmp_path / "tasks.json", tmp_path / "back.json"
    labelstudio.write(tasks, DOCUMENTS)
    with label_studio(tmp_path) as server:
        interface = labelstudio.interface(["GI", "Vitals_Hema"])
        project = server.ask("projects", {"title": "reports", "label_config": interface})["id"]
        taken = server.ask(f"projects/{project}/import", json.loads(tasks.read_text("utf-8")))
        assert (taken["task_count"], taken["annotation_count"]) == (3, 1)
        exported = server.ask(f"projects/{project}/export?exportType=JSON&download_all_tasks=true")
    back.write_text(json.dumps(exported), "utf-8")
    annotated, predicted, bare = DOCUMENTS
    # Its export names predictions by number only: nobody has annotated that report.
    unseen = replace(predicted, marks=None, predicted=False)
    assert list(labelstudio.read(back)) == [annotated, unseen, bare]
