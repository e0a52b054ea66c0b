"""Vectors of a model of sentence-transformers: where they are used, and that they are an extra."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.kind import made
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.export._find import find
from crb_dspy.export._make import Request, make
from crb_dspy.files import as_json
from crb_dspy.retrieval import embeddings
from crb_dspy.retrieval.classifier import Classifier, see
from crb_dspy.retrieval.embeddings import vectors
from crb_dspy.retrieval.training import train
from crb_dspy.saved import load_program
from tests.export_trial import trial
from tests.fake_server import serving
from tests.made_run import home
from tests.scoring_reply import sample

# A module in place of the real one, for this process and for others: texts are alike that have
# a "q", or begin alike.
STAND_IN = """\
import numpy as np

class SentenceTransformer:
    def __init__(self, name, model_kwargs):
        assert model_kwargs == {"use_safetensors": True}
        if name == "missing":
            raise OSError("no file named model.safetensors")
        self.asked = []

    def encode(self, texts, normalize_embeddings):
        assert normalize_embeddings
        self.asked += texts
        rows = [[float("q" in t), float(t[0] == "f"), 0.1] for t in texts]
        return np.array([np.array(row) / np.linalg.norm(row) for row in rows])
"""
TERMS = {"Neuro": ()}


@pytest.fixture(autouse=True)
def _known_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_known", {})
    embeddings._encoder.cache_clear()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    exec(STAND_IN, names)
    module = SimpleNamespace(SentenceTransformer=names["SentenceTransformer"])
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


def case(name: str, text: str, gold: dict[str, tuple[str, ...]] | None = None) -> Case:
    return Case(name, {"Case": text}, gold)


def test_it_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"pip install 'crb_dspy\[embeddings\]'"):
        vectors("any-model", ["fever"])


@pytest.mark.usefixtures("stand_in")
def test_a_model_that_is_not_there_or_has_pickled_weights_only_is_one_line() -> None:
    with pytest.raises(UserError, match="'missing': .* cannot load it: .*no file named model"):
        vectors("missing", ["fever"])


@pytest.mark.usefixtures("stand_in")
def test_a_text_is_asked_about_once_and_what_is_kept_has_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embeddings, "_KEPT", 3)
    one = vectors("m", ["fever", "rash", "fever"])
    assert one[0] == one[2] != one[1]
    assert embeddings._encoder("m").asked == ["fever", "rash"]
    assert vectors("m", ["fits", "fever", "qi"])[1] == one[0]
    assert len(embeddings._known) == 3
    assert vectors("m", []) == []


@pytest.mark.usefixtures("stand_in")
def test_threads_take_nothing_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_KEPT", 2)
    texts = [[f"f{n}", f"q{n}"] for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda own: vectors("m", own), texts))
    assert {tuple(own) for own in found} == {tuple(vectors("m", ["f", "q"]))}


@pytest.mark.usefixtures("stand_in")
def test_events_are_matched_by_them() -> None:
    kind = made("events", "K", (), {"embeddings": "m", "threshold": 0.9})
    gold, found = kind.gold([["fever", 0]]), kind.gold([["febrile", 0]])
    assert kind.score("x", gold, found).score == 1
    assert made("events", "K", (), {}).score("x", gold, found).score == 0


@pytest.mark.usefixtures("stand_in")
def test_they_are_features_like_others_and_go_with_the_classifier() -> None:
    cases = [
        case("a", "Azqa. Bobo. Czqc. Dodo.", {"Neuro": ("Azqa", "Czqc")}),
        case("b", "Ezqe. Fofo.", {"Neuro": ("Ezqe",)}),
    ]
    tables = [see(one, "sentences", TERMS, "m") for one in cases]
    classifier = train(tables, "sentences", TERMS, embeddings="m")
    again = Classifier.of(json.loads(as_json(classifier.plain())))
    assert again == classifier
    new = case("n", "Ugug. Vzqv.")
    found = again.probabilities(again.see(new))[:, 0]
    assert found[1] > 0.6 > 0.4 > found[0]
    plain = train([see(one, "sentences", TERMS) for one in cases], "sentences", TERMS)
    assert "embeddings" not in plain.plain()
    assert np.ptp(plain.probabilities(plain.see(new))[:, 0]) < np.ptp(found)
    assert not any("embedding:" in name for name in see(new, "words", TERMS, "m").features[0])


FEW = ("--data", "sample", "--limit", 16, "--set", "categories=['GI','GU']", "--threads", 4)


@pytest.mark.usefixtures("stand_in")
def test_a_program_tuned_with_them_names_their_model_and_is_opened_with_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(sample()) as server, home(tmp_path) as place:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "here"))
        place.compile(server, *FEW, "--set", "embeddings=m", "--set", "options.candidates=0")
        (path,) = Path("mlruns/out").glob("*/program.json")
        used = [part.support for part in load_program(path).program.parts.values() if part.support]
        assert used and all(own.learnt.whole["sentences"].embeddings == "m" for own in used)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(UserError, match=r"program\.json: .* embeddings of m, .*--trust"):
            load_program(path)
        load_program(path, trust=True)
        load_program(path)


@pytest.mark.usefixtures("stand_in")
def test_the_exported_script_finds_the_same_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sentence_transformers.py").write_text(STAND_IN, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *FEW, "--set", "embeddings=m", "--set", "options.candidates=0")
        (path,) = Path("mlruns/out").glob("*/program.json")
        cases = load("sample", load_schema("casereportbench")).cases[:3]
        asked = Request(trial=trial(server, cases))
        proof, _ = make(find("python"), load_program(path), tmp_path / "out", asked)
    assert proof["cases"]["findings"] == "identical"
    (table,) = (tmp_path / "out").rglob("classifier.json")
    known = json.loads(table.read_text("utf-8"))["classifiers"]
    assert {own["embeddings"] for own in known.values()} == {"m"}


def test_what_cannot_be_had_is_said_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with serving(sample()) as server, home(tmp_path) as place:
        with pytest.raises(UserError, match="need sentence-transformers"):
            place.compile(server, *FEW, "--set", "embeddings=m")
        with pytest.raises(UserError, match="optimizer 'auto' or program 'retrieve'"):
            place.compile(server, *FEW, "--set", "embeddings=m", "--set", "optimizer=none")
        assert not server.bodies
