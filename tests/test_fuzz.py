"""No file, answer or state of a store gives anything but a value or one line; nothing hangs.

CRB_FUZZ says how many inputs each gets in the slow tests; a campaign takes 10,000.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crb_dspy.compile import journal, resume
from crb_dspy.compile.config import read_experiment
from crb_dspy.data.benchmarks import load
from crb_dspy.data.benchmarks.predictions import read_predictions
from crb_dspy.data.readers import READERS, reports
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import CrbError
from crb_dspy.extract.findings import held
from crb_dspy.program.answers import parse
from crb_dspy.saved import load_program, write_program
from crb_dspy.sweep.grid import read_grid
from crb_dspy.tracking import database
from tests.made_run import empty_store
from tests.test_saved import tuned

# Seconds that an input may take, and what all inputs of a target may add to this process's memory.
LONGEST, MOST = 2.0, 1 << 30
FEW, MANY = 40, int(os.environ.get("CRB_FUZZ", "2000"))
# A campaign looks for new faults; a test gives the same answer each time.
SAME = "CRB_FUZZ" not in os.environ
WHOLE = load_schema("casereportbench")
KEYS = ["GI", "Neuro"]

CASE = '{"id": "c1", "sections": {"Case": "No fever."}, "gold": {"GI": ["No fever"]}, "group": "g"}'
ROW = '{"pmcid": 1, "text": "{\'Case\': \'No fever.\'}", "GI": ["No fever"]}'
ENTITY = "T1\tGI 0 8\tNo fever\nR1\tX Arg1:T1\n"
SECTION = "<sec><title>Case</title><p>No <sup>a</sup> fever.</p></sec>"
ARTICLE = f"<article><body>{SECTION}</body></article>"
TOML = '[[category]]\nkey = "GI"\ntitle = "T"\nguidance = "g"\ninstruction = "Quote."\n'
LINE = '{"id": "c1", "source": "s", "findings": {"GI": []}, "errors": {}, "mended": {}}\n'
SPENT = '{"role": "task", "minutes": 0.1, "calls": 1}\n'
NESTED = ("[" * 3000, '{"a":' * 3000, "(" * 3000, "-" * 3000, "<a>" * 3000, "'" * 3000)
NUMBERS = ("9" * 5000, "1e999", "-0", "NaN", "Infinity", "0x1", "1_0", "\\ud83d", "\\u0000", "\0")
WORDS = ("null", "true", "{}", "[]", '""', "\n", "\r\n", "\ufeff", "\u2028", '"', "\\", "'", "\t")
# What is put into sound inputs, to change them into unsound ones.
PIECES = st.sampled_from([*NESTED, *NUMBERS, *WORDS]) | st.text(max_size=6)
CHANGES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 30), PIECES), min_size=1, max_size=4
)


def changed(text: str, changes: list[tuple[int, int, str]]) -> bytes:
    """Cut pieces out of a text and put others in."""
    for at, size, piece in changes:
        at %= len(text) + 1
        text = text[:at] + piece + text[at + size :]
    return text.encode("utf-8", "surrogatepass")


def inputs(sound: str) -> st.SearchStrategy[bytes]:
    return st.builds(changed, st.just(sound), CHANGES) | st.binary(max_size=200)


Read = Callable[[bytes, Path], None]
Patch = pytest.MonkeyPatch


def case_file(data: bytes, folder: Path) -> None:
    load(str(written(folder / "cases.jsonl", data)), WHOLE)


def table_lines(data: bytes, folder: Path) -> None:
    load(str(written(folder / "table.jsonl", data)), WHOLE)


def table_csv(data: bytes, folder: Path) -> None:
    head = ",".join(["pmcid", "text", *WHOLE.keys]).encode() + b"\n1,"
    load(str(written(folder / "table.csv", head + data)), WHOLE)


def brat_notes(data: bytes, folder: Path) -> None:
    place = folder / "brat"
    written(place / "c1.txt", b"No fever.")
    written(place / "c1.ann", data)
    load(str(place), WHOLE)


def predictions(data: bytes, folder: Path) -> None:
    read_predictions(written(folder / "pred.jsonl", data), KEYS, ["c1"])


def reader(ending: str) -> Read:
    def read(data: bytes, folder: Path) -> None:
        found = reports([str(written(folder / f"report{ending}", data))], folder / "out")
        assert all(report.case.text or report.error for report in found)

    return read


def schema(data: bytes, folder: Path) -> None:
    load_schema(str(written(folder / "mine.toml", data)))


def experiment(data: bytes, folder: Path) -> None:
    read_experiment(written(folder / "experiment.toml", data), {})


def sweep(data: bytes, folder: Path) -> None:
    read_grid(written(folder / "grid.toml", data), {})


def program(data: bytes, folder: Path) -> None:
    for part in load_program(written(folder / "program.json", data)).program.parts.values():
        part.messages("No fever.")


def sealed(data: bytes, folder: Path) -> None:
    """A program of another content whose seal is right."""
    from crb_dspy.saved import _sha256

    try:
        table = json.loads(data)
        table["sha256"] = _sha256({k: v for k, v in table.items() if k != "sha256"})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return
    program(json.dumps(table).encode(), folder)


def spent(data: bytes, folder: Path) -> None:
    written(folder / "run" / journal.NAME, data)
    with journal.held(folder / "run") as kept:
        assert kept.spent.calls >= 0 or kept.usages


def state(data: bytes, folder: Path) -> None:
    written(folder / resume.NAME, data)
    resume.then(folder, {"seed": 0})


def findings(data: bytes, folder: Path) -> None:
    path = written(folder / "findings.jsonl", data)
    written(folder / "findings.jsonl.run.json", data)
    with held(path) as file:
        file.begin({"program": "x"})


def counted(data: bytes, folder: Path) -> None:
    with held(written(folder / "findings.jsonl", data)) as file:
        file.counts()


def answer(data: bytes, _: Path) -> None:
    found = parse(data.decode("utf-8", "replace"), KEYS)
    assert found.failed or set(found.findings) == set(KEYS)
    json.dumps(found.findings, ensure_ascii=False).encode("utf-8")


def store(data: bytes, folder: Path) -> None:
    place = folder / "mlflow.db"
    whole = bytearray(empty_store().read_bytes())
    at = int.from_bytes(data[:4].ljust(4, b"\0"), "big") % len(whole)
    whole[at : at + len(data)] = data
    database.ready(written(place, bytes(whole[: max(1, len(whole) - at)] if data[:1] else whole)))
    with sqlite3.connect(place) as file:
        file.execute("SELECT count(*) FROM runs")
    file.close()


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def saved_text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return write_program(Path(folder) / "program.json", tuned()).read_text()


TARGETS: dict[str, tuple[str, Read]] = {
    "case lines": (CASE, case_file),
    "table lines": (ROW, table_lines),
    "table cells": ("\"{'Case': 'No fever.'}\",\"['No fever']\"", table_csv),
    "brat": (ENTITY, brat_notes),
    "predictions": ('{"id": "c1", "findings": {"GI": ["a"]}}', predictions),
    **{f"report{e}": (ARTICLE if "x" in e[1:2] else CASE, reader(e)) for e in READERS},
    "schema": (TOML, schema),
    "experiment": ('name = "a"\nsplit = [0.4, 0.3, 0.3]\n[options]\ntrials = 3\n', experiment),
    "sweep": ('seed = [0, 1]\nsearch = "optuna"\n[points.a]\nlimit = 3\n', sweep),
    "program": ("", program),
    "sealed program": ("", sealed),
    "journal": (SPENT * 2, spent),
    "state of a run": ('{"inputs": {"seed": 0}, "mlflow": "a", "finished": true}', state),
    "file of findings": (LINE, findings),
    "lines of findings": (LINE * 2, counted),
    "answer": ('{"reasoning": "r", "GI": ["a b", "c"], "Neuro": []}', answer),
    "store": ("SQLite format 3", store),
}


def tried(
    sound: str, read: Read, examples: int, folder: Path, patch: Patch, *known: type[Exception]
) -> None:
    whole = empty_store()
    patch.setattr(database, "_make", lambda path: shutil.copy(whole, path))
    patch.setattr(database, "PATIENCE", 0.1)

    @given(inputs(sound))
    @settings(
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=SAME,
    )
    def one(data: bytes) -> None:
        started = time.process_time()
        with suppress(CrbError, *known):
            read(data, folder)
        assert time.process_time() - started < LONGEST

    before = peak()
    one()
    assert peak() - before < MOST


def peak() -> int:
    """The most bytes that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def one(target: str, examples: int, folder: Path, patch: Patch) -> None:
    sound, read = TARGETS[target]
    # A page that is damaged in a store that is whole otherwise is MLflow's error, explained.
    known = [sqlite3.DatabaseError] if target == "store" else []
    tried(sound or saved_text(), read, examples, folder, patch, *known)


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_unsound_inputs(target: str, tmp_path: Path, monkeypatch: Patch) -> None:
    one(target, FEW, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("target", TARGETS)
def test_many_unsound_inputs(target: str, tmp_path: Path, monkeypatch: Patch) -> None:
    one(target, MANY, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 64_000 + "x{",
        '{"\\"' + '\\"' * 30_000,
        "{'" + "'" * 60_000,
        "[" * 10_000_000,
        '{"GI":' + "[" * 900 + '"x"' + "]" * 900 + "}",
        '["a"' + ' "b"     ' * 6000,
        "```" * 20_000,
        "1" * 64_000 + ". x",
    ],
)
def test_a_hostile_answer_is_read_in_no_time(text: str) -> None:
    started = time.process_time()
    parse(text, KEYS)
    assert time.process_time() - started < LONGEST


def test_half_a_character_in_an_answer_becomes_a_whole_one() -> None:
    answer = parse('{"GI": ["a \\ud83d b"], "reasoning": "\\ud83d"}', ["GI"])
    assert answer.findings == {"GI": ["a \ufffd b"]}
    assert answer.reasoning == "\ufffd"


# What is not a file.


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path: Path) -> None:
    for name in ("cases.jsonl", "report.txt", "pred.jsonl"):
        os.mkfifo(tmp_path / name)
    for read in (
        lambda: load(str(tmp_path / "cases.jsonl"), WHOLE),
        lambda: reports([str(tmp_path / "report.txt")], tmp_path / "out"),
        lambda: read_predictions(tmp_path / "pred.jsonl", KEYS, ["c1"]),
    ):
        with pytest.raises(CrbError, match="neither a file nor a folder"):
            read()


def test_links_that_lead_nowhere_and_pipes_in_a_folder_are_counted(tmp_path: Path) -> None:
    written(tmp_path / "in/a.txt", b"No fever.")
    (tmp_path / "in/b.txt").symlink_to(tmp_path / "nowhere.txt")
    os.mkfifo(tmp_path / "in/c.txt")
    found = reports([str(tmp_path / "in")], tmp_path / "out")
    assert [report.case.id for report in found] == ["a"]
    assert found.ignored == 2
