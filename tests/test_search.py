"""The search by parts: who is searched, at whose cost, what is kept, and what judges it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.data.cases import Case
from crb_dspy.errors import RunError
from crb_dspy.program import Part
from crb_dspy.recipe import Context, estimated
from crb_dspy.tuning.ledger import identity
from tests.fake_model import keys_of
from tests.fake_server import FakeServer, serving
from tests.made_run import Home, home
from tests.made_search import Run, made_plan, made_split, run, with_recipe
from tests.scoring_reply import asks_for_findings, perfect, sample, scoring

KEYS = ("GI", "GU")
SPLIT = made_split(KEYS, 8, 16)
CASES = (*SPLIT.train, *SPLIT.validation)
MIXED = scoring(CASES)


def searched(optimizer: str = "mipro", reply: Any = MIXED, **settings: Any) -> Run:
    return run(made_plan(SPLIT, KEYS, optimizer=optimizer, **settings), reply)


def outcomes(result: Run) -> dict[str, str]:
    return {verdict.part: str(verdict) for verdict in result.tuned.verdicts}


def about(result: Run, key: str) -> list[str]:
    return [prompt for prompt in result.tasks if keys_of(prompt) == [key]]


def gi_is_perfect(prompt: str) -> str:
    return perfect(prompt) if keys_of(prompt) == ["GI"] else MIXED(prompt)


def test_a_part_at_its_ceiling_gets_nothing_and_says_so() -> None:
    result = searched(reply=gi_is_perfect, force=False)
    assert outcomes(result)["GI"] == "not searched (at its ceiling: 1.00 on validation)"
    assert outcomes(result)["GU"] == "taken (no gate)"
    assert len(about(result, "GI")) == 16
    assert len(about(result, "GU")) > 16
    assert identity(result.tuned.program.parts["GI"]) == identity(
        result.planned.tuning.program.parts["GI"]
    )


def test_force_searches_a_part_at_its_ceiling_too() -> None:
    result = searched("factors", gi_is_perfect, force=True)
    assert len(about(result, "GI")) > 16


def test_a_part_with_a_handful_of_findings_gets_nothing_and_says_so() -> None:
    def without(case: Case, keep: bool) -> Case:
        gold = dict(case.gold or {})
        return replace(case, gold=gold if keep else gold | {"GU": ()})

    rare = replace(
        SPLIT,
        train=tuple(without(c, n < 2) for n, c in enumerate(SPLIT.train)),
        validation=tuple(without(c, False) for c in SPLIT.validation),
    )
    settings = {"optimizer": "factors", "force": False}
    result = run(made_plan(rare, KEYS, **settings), scoring([*rare.train, *rare.validation]))
    assert outcomes(result)["GU"] == "not searched (only 2 cases with something to find)"
    assert len(about(result, "GU")) == 16


def constant(prompt: str) -> str:
    """Find the same whatever the prompt: half of what there is."""
    if not asks_for_findings(prompt):
        return MIXED(prompt)
    found = json.loads(perfect(prompt))
    return json.dumps({key: quotes[::2] for key, quotes in found.items()})


DEAR: dict[str, Any] = {"optimizer": "mipro", "options": {"trials": 40}, "force": False}


def test_where_strong_candidates_gain_nothing_the_large_spending_is_saved() -> None:
    result = searched(reply=constant, **DEAR)
    why = "not searched (3 strong candidates gained on none of 6 cases)"
    assert outcomes(result) == {"GI": why, "GU": why}
    assert len(about(result, "GI")) == 16 + 3 * 6
    assert result.reflections == []
    named = [row["candidate"] for row in result.candidates("GI")]
    assert named == ["seed", "headroom test 1", "headroom test 2", "headroom test 3"]
    assert outcomes(searched(reply=MIXED, **DEAR))["GI"] == "taken (no gate)"


def test_force_overrides_the_headroom_test() -> None:
    forced = searched(reply=constant, **DEAR | {"force": True})
    assert outcomes(forced)["GI"] == "no gain shown (the seed was best on validation)"
    assert len(about(forced, "GI")) > 16 + 3 * 6
    assert forced.reflections


def test_parts_are_searched_side_by_side() -> None:
    both = threading.Barrier(2, timeout=120)

    def meeting(part: Part, train: Any, validation: Any, context: Context) -> Part:
        both.wait()
        return part

    planned = with_recipe(made_plan(SPLIT, KEYS, threads=2), meeting)
    result = run(planned)
    # Both came back, with nothing but their seeds.
    told = "no gain shown (no other candidate was found)"
    assert {str(verdict) for verdict in result.tuned.verdicts} == {told}


def test_a_recipe_that_raises_costs_its_own_part_only() -> None:
    def clumsy(
        part: Part, train: Sequence[Case], validation: Sequence[Case], context: Context
    ) -> Part:
        better = part.with_instruction("Quote all.")
        assert context.trial("all", better, validation) == 1
        if part.keys == ("GU",):
            raise RuntimeError("list\nindex")
        return better

    planned = with_recipe(made_plan(SPLIT, KEYS, gate=0.1), clumsy)
    result = run(planned, scoring(CASES, better="Quote all."))
    # What was best until then is still put to the gate.
    assert all("improved" in text for text in outcomes(result).values())

    def broken_off(*_: object) -> Part:
        raise ZeroDivisionError("division by zero")

    broken = with_recipe(made_plan(SPLIT, KEYS), broken_off)
    why = "no gain shown (search broke off: ZeroDivisionError: division by zero)"
    assert set(outcomes(run(broken)).values()) == {why}


@pytest.mark.parametrize("optimizer", ["mipro", "factors", "gepa", "bootstrap", "simba", "chain"])
def test_shared_guidance_is_tried_by_every_part(optimizer: str) -> None:
    options = {"trials": 12} if optimizer in ("mipro", "factors") else {}
    result = searched(optimizer, shared=True, options=options)
    asked = [p for p in result.reflections if "[[ ## advice ## ]]" in p]
    assert len(asked) == 1
    assert '"GI"' in asked[0]
    assert '"GU"' in asked[0]
    advice = set()
    for key in KEYS:
        seed = result.planned.tuning.program.parts[key].instruction
        told = [row["prompt"][0]["instruction"] for row in result.candidates(key)]
        advice.add(frozenset(re.findall(r"style (\w{4})", " ".join(t for t in told if seed in t))))
    assert len(frozenset.intersection(*advice)) == 1
    alone = searched(optimizer, shared=False, options=options)
    assert not [p for p in alone.reflections if "[[ ## advice ## ]]" in p]


def test_joint_tunes_the_whole_program_as_one() -> None:
    result = searched("factors", joint=True)
    assert list(outcomes(result)) == ["program"]
    assert {row["part"] for row in result.tuned.candidates} == {"program"}
    changed = [p["instruction"] for p in result.candidates("program")[1]["prompt"]]
    seeds = [part.instruction for part in result.planned.tuning.program.parts.values()]
    assert len(changed) == 2
    assert changed != seeds


def test_a_failing_part_of_a_whole_program_scores_nothing() -> None:
    def gu_fails(prompt: str) -> str:
        if not asks_for_findings(prompt):
            return MIXED(prompt)
        return perfect(prompt) if keys_of(prompt) == ["GI"] else "I can't."

    for optimizer in ("gepa", "simba", "factors"):
        result = searched(optimizer, gu_fails, joint=True)
        scores = {row["validation"] for row in result.candidates("program")}
        assert scores - {None} == {0.5}


def test_what_chose_never_confirms() -> None:
    result = searched(gate=0.1)
    planned = result.planned
    sides = planned.sides[-1]
    choose, confirm = {c.id for c in sides.choose}, {c.id for c in sides.confirm}
    assert not choose & confirm
    assert choose | confirm == {c.id for c in SPLIT.validation}
    for key in KEYS:
        told: dict[str, set[str]] = {}
        for prompt in about(result, key):
            report, _, question = prompt.partition("</report>")
            told.setdefault(re.findall(r"\n(\w+) came in", report)[0], set()).add(question)
        tried = set.union(*(told[name] for name in choose))
        assert len(tried) > 2
        # The seed and the winner, and no other candidate.
        judged = set.union(*(told.get(name, set()) for name in confirm))
        assert len(judged) <= 2
        assert judged <= tried


@pytest.mark.parametrize(
    ("word", "outcome"),
    [("Quote all.", "improved: "), ("Quote naught.", "worse, kept the seed: "),
     ("Quote.", "no gain shown: ")],
)  # fmt: skip
def test_a_part_replaces_its_seed_only_if_fresh_cases_show_that_it_is_better(
    word: str, outcome: str
) -> None:
    def reply(prompt: str) -> str:
        if "naught" in prompt:
            return json.dumps({key: [] for key in keys_of(prompt)})
        return perfect(prompt) if "Quote all." in prompt else constant(prompt)

    def rewording(part: Part, train: Any, validation: Any, context: Context) -> Part:
        return part.with_instruction(word)

    planned = with_recipe(made_plan(SPLIT, KEYS, gate=0.1), rewording)
    result = run(planned, reply)
    for key in KEYS:
        assert outcomes(result)[key].startswith(outcome)
        assert "on 8 fresh cases" in outcomes(result)[key]
        kept = result.tuned.program.parts[key].instruction == word
        assert kept == (outcome == "improved: ")


def test_without_fresh_cases_nothing_is_taken_unless_the_gate_is_open() -> None:
    few = replace(SPLIT, validation=SPLIT.validation[:1])
    shut = run(made_plan(few, KEYS, optimizer="factors", gate=0.1))
    assert set(outcomes(shut).values()) <= {
        "no gain shown (no fresh validation cases to confirm it on)",
        "no gain shown (the seed was best on validation)",
    }
    opened = run(made_plan(few, KEYS, optimizer="labeled", gate=1))
    assert set(outcomes(opened).values()) == {"taken (no gate)"}


def test_a_recipe_that_does_not_choose_is_confirmed_on_all_of_validation() -> None:
    @estimated(lambda train, validation: 0, chooses=False)
    def told(part: Part, train: Any, validation: Sequence[Case], context: Context) -> Part:
        assert not validation
        return part.with_instruction("Quote all.")

    planned = with_recipe(made_plan(SPLIT, KEYS, gate=0.1), told)
    result = run(planned, scoring(CASES, better="Quote all."))
    assert "on 16 fresh cases" in outcomes(result)["GI"]
    assert len(about(result, "GI")) == 2 * 16


# Through the command, with a server.


def test_with_folds_every_case_is_judged_by_a_program_tuned_without_it(tmp_path: Path) -> None:
    few = ["--limit", 12, "--categories", "GI", "--folds", 3, "--threads", 4, "--force"]
    with serving(sample()) as server, home(tmp_path) as place:
        place.compile(server, *few, "--optimizer", "labeled", "--set", "gate=1")
        cells = place.rows("cells.jsonl")
        assert len(cells) == len({row["case"] for row in cells}) == 12
        shown = _shown(server)
        split = json.loads((place.out / "split.json").read_text())
        assert split["test"] == []
        (done,) = place.runs()
        assert done.data.params["folds"] == "3"
    # The prompt that judged a case: three folds of four cases share one each.
    judged = [names for names in shown.values() if names]
    assert len(judged) == 12
    assert all(case not in names for case, sets in shown.items() for names in sets)


def _shown(server: FakeServer) -> dict[str, set[frozenset[str]]]:
    """Which reports' sentences the demonstrations hold that a case was asked with."""
    from crb_dspy.data.benchmarks import load
    from crb_dspy.data.schema import load_schema

    cases = {c.text: c.id for c in load("sample", load_schema("casereportbench")).cases}
    shown: dict[str, set[frozenset[str]]] = {}
    for prompt in server.prompts():
        report, _, question = prompt.partition("\n</report>\n")
        if not asks_for_findings(prompt):
            continue
        excerpts = re.findall(r"<excerpt>\n(.*?)\n</excerpt>", question, re.DOTALL)
        lines = [[line for line in e.splitlines() if line != "[...]"] for e in excerpts]
        names = frozenset(n for text, n in cases.items() for own in lines
                          if all(line in text for line in own))  # fmt: skip
        if names:
            shown.setdefault(cases[report.removeprefix("<report>\n")], set()).add(names)
    return shown


LEAKY = """
def recipe(part, train, validation, context):
    words = " ".join(validation[0].text.split()[5:20])
    return part.with_instruction(f"Quote findings such as {words}.")
"""


@pytest.fixture
def leaky(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(LEAKY)
    options = ["--optimizer", "./mine.py:recipe", "--set", "gate=1", "--force"]
    with serving(sample()) as server, home(tmp_path) as place:
        yield place, lambda *more: place.compile(server, *options, *more)


def test_leaks_fail_the_run_after_everything_is_written(leaky: Any) -> None:
    place: Home = leaky[0]
    with pytest.raises(RunError, match=r"2 places of tuned prompts .* allow_leaks=true"):
        leaky[1]()
    names = {path.name for path in place.out.iterdir()}
    assert names >= {"program.json", "prompts.md", "cells.jsonl", "candidates.jsonl"}
    (done,) = place.runs()
    assert "test/score" in done.data.metrics


def test_leaks_pass_where_they_are_allowed(leaky: Any) -> None:
    assert leaky[1]("--set", "allow_leaks=true") == 0
