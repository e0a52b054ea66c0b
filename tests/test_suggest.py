"""Which reports to annotate next: a pure choice, and the command around it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.errors import UserError
from crb_dspy.saved import write_program
from crb_dspy.suggest import __main__ as command
from crb_dspy.suggest.choice import Candidate, choose, words
from tests.fake_server import Body, Reply, asked_keys, empty, serving
from tests.made_data import save
from tests.test_saved import tuned

WORDS = st.frozensets(st.sampled_from(["fever", "cough", "rash", "boy", "girl"]), max_size=4)
KEYS = st.frozensets(st.sampled_from(["GI", "Neuro"]))
CANDIDATES = st.lists(
    st.builds(Candidate, st.text("abcdef", min_size=1), WORDS, KEYS, st.floats(0, 1)),
    max_size=6,
    unique_by=lambda one: one.id,
)
KNOWN = st.lists(WORDS, max_size=3)


@given(CANDIDATES, st.integers(0, 8), KNOWN, st.randoms())
def test_a_choice_is_of_the_candidates_whatever_their_order(
    candidates: list[Candidate], n: int, known: list[frozenset[str]], rng: Random
) -> None:
    chosen = choose(candidates, n, known)
    names = [choice.id for choice in chosen]
    assert len(names) == len(set(names)) == min(n, len(candidates))
    assert set(names) <= {one.id for one in candidates}
    for choice in chosen:
        assert all(0 <= share <= 1 for share in (choice.need, choice.novelty, choice.doubt))
    mixed = candidates[:]
    rng.shuffle(mixed)
    assert choose(mixed, n, known) == chosen


@given(CANDIDATES.filter(bool), KNOWN)
def test_more_doubt_never_puts_a_report_further_back(
    candidates: list[Candidate], known: list[frozenset[str]]
) -> None:
    first, *rest = candidates
    order = [choice.id for choice in choose(candidates, 9, known)]
    again = [choice.id for choice in choose([replace(first, doubt=1.0), *rest], 9, known)]
    assert again.index(first.id) <= order.index(first.id)


def candidate(name: str, text: str, *keys: str) -> Candidate:
    return Candidate(name, words(text), frozenset(keys))


def test_a_copy_of_what_is_chosen_comes_last() -> None:
    pool = [
        candidate("a", "fever and cough"),
        candidate("b", "fever and cough"),
        candidate("c", "a rash on both legs"),
    ]
    assert [choice.id for choice in choose(pool, 3)] == ["a", "c", "b"]


def test_a_category_short_of_examples_comes_first() -> None:
    pool = [candidate("a", "fever", "GI"), candidate("b", "cough", "Neuro")]
    (first, _) = choose(pool, 2, have={"GI": 9, "Neuro": 0})
    assert first.id == "b"


def quoting(body: Body) -> Reply:
    prompt = body["messages"][-1]["content"]
    if "Task:" not in prompt:
        return empty(body)
    (key,) = asked_keys(body)
    return json.dumps({key: ["cough"] if key == "GI" and "cough" in prompt else []})


def test_the_command_writes_what_to_annotate_with_findings_to_correct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_program(tmp_path / "program.json", tuned())
    known = {"id": "k", "sections": {"Report": "He had a rash."}, "gold": {"Neuro": ["rash"]}}
    data = save(tmp_path / "known.jsonl", known)
    (tmp_path / "in").mkdir()
    texts = {"x": "She had a cough today.", "k": "He had a rash.", "y": "She had a rash."}
    for name, text in texts.items():
        (tmp_path / "in" / f"{name}.txt").write_text(text)
    with serving(quoting) as server:
        flags = ["program.json", "--input", "in", "--api-base", server.address, "--data", data]
        assert command.main([*flags, "--n", "1", "--out", "tasks.json"]) == 0
        asked = len(server.bodies)
        assert command.main([*flags, "--n", "5", "--out", "tasks.json"]) == 0
        assert len(server.bodies) == asked
        with pytest.raises(UserError, match="--n 0"):
            command.main([*flags, "--n", "0", "--out", "tasks.json"])
    first, second = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["case"] for task in (first, second)] == ["x", "y"]
    (region,) = first["predictions"][0]["result"]
    assert region["value"]["text"] == "cough"
    assert "1 of 3, the most useful first" in capsys.readouterr().out
