"""Where gold is of terms, single words are what is learnt and quoted."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.export._find import find
from crb_dspy.export._make import Request, make
from crb_dspy.origin import Origin
from crb_dspy.retrieval.sentences import units
from crb_dspy.retrieval.support import Learnt, Support, learn, supports
from crb_dspy.retrieval.system import Retriever, fit, sizes_for
from crb_dspy.retrieval.use import Use
from crb_dspy.retrieval.weighing import Weighing
from crb_dspy.retrieval.weighing_fit import weighed
from crb_dspy.saved import Saved, load_program, write_program
from crb_dspy.scoring.objective import score_cell
from tests.export_trial import trial
from tests.fake_server import Body, Reply, asked_keys, serving
from tests.test_support import CASES as LONG
from tests.test_support import SCHEMA

DRUGS = ("atenolol", "bisoprolol", "carvedilol", "esmolol", "nadolol", "pindolol", "sotalol")


def case(name: str, drug: str) -> Case:
    text = f"The boy slept well. He was given {drug} daily, and went home. They sang in the garden."
    return Case(name, {"Report": text}, {"GI": (drug,), "Neuro": ()})


CASES = tuple(case(f"c{n}", drug) for n, drug in enumerate(DRUGS))
NEW = Case("new", {"Report": "She came. She was given timolol, metoprolol daily. All was well."})
LEARNT = learn(CASES, SCHEMA)


def score(*cell: object) -> float:
    return score_cell(*cell).score  # type: ignore[arg-type]


def test_words_cover_each_word_of_each_sentence_once() -> None:
    words = units(NEW, "words")
    assert [NEW.text[u.start : u.end] for u in words][:6] == [
        *("She", "came", "She", "was", "given", "timolol")
    ]
    assert [u.sentence for u in words][:3] == [0, 0, 1]
    assert all(one.end <= two.start for one, two in pairwise(words))


def test_short_gold_is_learnt_by_words_and_long_gold_by_clauses() -> None:
    assert sizes_for(CASES, ["GI", "Neuro"]) == ("sentences", "words")
    assert sizes_for(LONG, ["GI", "Neuro"]) == ("sentences", "clauses")
    assert sizes_for((), ["GI"]) == ("sentences", "clauses")
    assert list(LEARNT.whole) == ["sentences", "words"]
    assert "classifier alone, words from 0.5" in supports(LEARNT)
    assert not any("clauses" in name for name in supports(LEARNT))


def test_terms_are_quoted_and_a_mark_parts_them() -> None:
    found = fit(CASES, SCHEMA, score).findings(NEW)
    assert found == {"GI": ["timolol", "metoprolol"], "Neuro": []}


def test_what_was_learnt_is_stored_whole() -> None:
    retriever = fit(CASES, SCHEMA, score)
    again = Retriever.of(json.loads(json.dumps(retriever.plain())))
    assert again.findings(NEW) == retriever.findings(NEW)
    assert again.fingerprint == retriever.fingerprint


def weighing(learnt: Learnt = LEARNT) -> Weighing:
    quoted = {c.id: {"GI": ["given", *(c.gold or {})["GI"]], "Neuro": ["slept"]} for c in CASES}
    found = weighed(CASES, SCHEMA.keys, quoted, learnt.views, score)
    assert found
    return found


def test_a_models_quotes_are_weighed_word_by_word() -> None:
    one = weighing()
    assert one.fine == "words"
    told = LEARNT.views(NEW, "GI")
    assert one.quotes(NEW, "GI", told, ["was given timolol"]) == ["timolol"]
    again = Weighing.of(json.loads(json.dumps(one.plain())))
    assert (again.fine, again.threshold) == ("words", one.threshold)
    assert again.quotes(NEW, "GI", told, ["timolol"]) == one.quotes(NEW, "GI", told, ["timolol"])


def reply(body: Body) -> Reply:
    return json.dumps({key: ["was given timolol", "slept"] for key in asked_keys(body)})


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    "use",
    [
        Use("words", Use.NEVER, 0.5),
        Use("sentences", 0.0, Use.NEVER, weighing=weighing()),
    ],
    ids=["alone", "weighed"],
)
def test_it_is_saved_and_exported_as_it_finds(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seed = build_program("category_specific", SCHEMA, {})
    parts = {n: part.with_support(Support(LEARNT, use)) for n, part in seed.parts.items()}
    origin = Origin(
        program="category_specific",
        schema="casereportbench",
        categories=list(SCHEMA.keys),
        model="openai/qwen2.5-test",
    )
    saved = Saved(seed.with_parts(parts), SCHEMA, origin)
    path = write_program(tmp_path / "program.json", saved)
    assert load_program(path).fingerprint == saved.fingerprint
    tried = (Case(NEW.id, NEW.sections, {"GI": ("timolol",), "Neuro": ()}), CASES[0])
    with serving(reply) as fake:
        proof, _ = make(find("python"), saved, tmp_path / "out", Request(trial=trial(fake, tried)))
    assert proof["cases"]["findings"] == "identical"
    assert proof["cases"]["score_program"] > 0
