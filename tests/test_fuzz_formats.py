"""No file of an annotation tool or of a benchmark gives anything but documents or one line."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from crb_dspy.convert import formats
from crb_dspy.convert.documents import Document, Mark
from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.init.written import annotated
from tests.test_convert_formats import LIBRARIES
from tests.test_fuzz import FEW, MANY, Read, tried, written

DOCUMENTS = [Document("c1", "No fever. No cough.", (Mark(0, 8, "GI"), Mark(10, 18, "RESP")), "g")]
SHEET = "xl/worksheets/sheet1.xml"


def made(name: str) -> dict[str, bytes]:
    """Return the files that a format writes, by name."""
    form = formats.find(name)
    with TemporaryDirectory() as folder:
        place = Path(folder) / f"out{form.SUFFIX}"
        form.write(place, DOCUMENTS)
        return {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def text_of(name: str) -> str:
    """Return what is changed in a file: a sheet of a workbook, what a DocBin has compressed."""
    whole = next(data for file, data in made(name).items() if not file.startswith("TypeSystem"))
    if name == "excel":
        whole = zipfile.ZipFile(io.BytesIO(whole)).read(SHEET)
    if name == "docbin":
        whole = zlib.decompress(whole)
    return whole.decode("latin-1" if name == "docbin" else "utf-8")


def packed(name: str, data: bytes, whole: bytes) -> bytes:
    if name == "docbin":
        return zlib.compress(data.decode("utf-8", "replace").encode("latin-1", "replace"))
    if name != "excel":
        return data
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry == SHEET else old.read(entry))
    return out.getvalue()


def converted(name: str) -> Read:
    files = made(name)

    def read(data: bytes, folder: Path) -> None:
        for file, whole in files.items():
            own = whole if file.startswith("TypeSystem") else packed(name, data, whole)
            path = written(folder / file, own)
        formats.documents(name, path if len(files) == 1 else folder)

    return read


def benchmark(file: str, schema: str, **named: str) -> Read:
    whole = load_schema(schema)

    def read(data: bytes, folder: Path) -> None:
        load(str(written(folder / file, data)), whole, named=named)

    return read


SPAN = '{"start": 0, "end": 8, "text": "No fever", "polarity": "NEG"}'
GAP = '{"id": "q1", "query": "He had @placeholder .", "answers": [{"text": "fever"}]}'
SOFA = '<cas:Sofa xmi:id="1" sofaString="No fever."/><x:CLINENTITY begin="0" end="8"/>'
SOURCES: dict[str, tuple[str, Callable[[], Read]]] = {
    "e3c lines": (
        '{"id": "a", "sections": {"Case report": "No fever."}, '
        f'"annotations": {{"CLINENTITY": [{SPAN}], "EVENT": [{SPAN}], "RML": [{SPAN}]}}}}',
        lambda: benchmark("e3c.jsonl", "e3c_crf"),
    ),
    "e3c xmi": (
        f'<xmi:XMI xmlns:xmi="http://www.omg.org/XMI" xmlns:cas="c" xmlns:x="x">{SOFA}</xmi:XMI>',
        lambda: benchmark("e3c.xmi", "e3c"),
    ),
    "clicr": (
        f'{{"data": [{{"source": "s", "document": {{"context": "No fever.", "qas": [{GAP}]}}}}]}}',
        lambda: benchmark("clicr.json", "clicr"),
    ),
    "t2s2": (
        '{"id": "a", "sections": {"Case report": "No fever."}, "events": [["fever", -24.0]]}',
        lambda: benchmark("t2s2.jsonl", "t2s2"),
    ),
    "medcase": (
        'case_prompt,final_diagnosis,diagnostic_reasoning,pmcid\n"No fever.",gout,"1. pain",7\n',
        lambda: benchmark("medcase.csv", "medcasereasoning"),
    ),
    "labels": (
        'id,report,Edema,Pneumonia\nc1,"No fever.",1,-1\n',
        lambda: benchmark("labels.csv", "chexpert"),
    ),
    "columns": (
        'no;text;gi\n1;"No fever.";"[\'No fever\']"\n',
        lambda: benchmark("own.csv", "casereportbench", id="no", text="text", GI="gi"),
    ),
}
TARGETS = [*formats.NAMES, *SOURCES]


def one(target: str, examples: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
    if target in SOURCES:
        sound, read = SOURCES[target]
        tried(sound, read(), examples, folder, patch)
    else:
        pytest.importorskip(LIBRARIES.get(target, "json"))
        tried(text_of(target), converted(target), examples, folder, patch)


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_unsound_files(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one(target, FEW, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("target", TARGETS)
def test_many_unsound_files(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one(target, MANY, tmp_path, monkeypatch)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_changed_is_sound_before(target: str, tmp_path: Path) -> None:
    if target in SOURCES:
        sound, read = SOURCES[target]
        read()(sound.encode(), tmp_path)
    else:
        pytest.importorskip(LIBRARIES.get(target, "json"))
        converted(target)(text_of(target).encode(), tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "brat/c1.txt", "e3c/c1.xmi"])
def test_a_pipe_is_not_waited_for_wherever_it_lies(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    whole = path if path.parent == tmp_path else path.parent
    for read in (
        lambda: formats.documents("prodigy", path),
        lambda: formats.documents("csv", path),
        lambda: load(str(whole), load_schema("e3c")),
        lambda: annotated(path, {}),
    ):
        with pytest.raises(UserError, match="neither a file nor a folder"):
            read()
    with pytest.raises(UserError, match=r"no .xmi file|neither a file"):
        formats.documents("xmi", whole)


def test_a_passage_behind_the_end_of_its_file_takes_no_memory(tmp_path: Path) -> None:
    pytest.importorskip("bioc")
    far = [
        {"offset": 10**12, "text": "No fever.", "infons": {}, "sentences": [], "annotations": []}
    ]
    far[0]["relations"] = []
    document = {"id": "c1", "infons": {}, "passages": far, "annotations": [], "relations": []}
    whole = {"source": "", "date": "", "key": "", "infons": {}, "documents": [document]}
    path = written(tmp_path / "far.json", json.dumps(whole).encode())
    with pytest.raises(UserError, match="a passage at 1000000000000, behind the end of the file"):
        formats.documents("bioc", path)
