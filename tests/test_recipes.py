"""The contract of every recipe, and what each does of its own."""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from dspy.lm15 import InvalidRequestError

from crb_dspy import recipe as seam
from crb_dspy.catalog import find_recipe, names
from crb_dspy.errors import UserError
from crb_dspy.models.budget import BudgetSpent
from crb_dspy.recipe.sampling import portions
from crb_dspy.tuning.ledger import identity, prompts
from tests.fake_model import Reply
from tests.made_search import Run, made_plan, made_split, run
from tests.scoring_reply import asks_for_findings, perfect, scoring

NAMES = names("optimizers")
SPLIT = made_split(["GI"])
BOTH = made_split(["GI", "GU"])
# What is found only by a prompt that shows an example.
LEARNT = "Examples, from other patients' reports"


@lru_cache(maxsize=64)
def tuned(name: str, *, seed: int = 0, threads: int = 1, joint: bool = False) -> Run:
    """Tune with a recipe's defaults, by parts or jointly."""
    split, keys = (BOTH, ("GI", "GU")) if joint else (SPLIT, ("GI",))
    settings = {"seed": seed, "threads": threads, "joint": joint}
    return run(made_plan(split, keys, optimizer=name, **settings))


def with_options(name: str, seed: int = 0, reply: Reply | None = None, **options: Any) -> Run:
    return run(made_plan(SPLIT, optimizer=name, options=options, seed=seed), reply)


def estimates(result: Run) -> tuple[int, int]:
    """The calls and reflections that a recipe is estimated to ask at most, all parts together."""
    sides, recipe = result.planned.sides[-1], result.planned.tuning.recipe
    sizes, parts = (len(sides.train), len(sides.choose)), len(result.planned.tuning.program.parts)
    calls = seam.calls(recipe, *sizes, {})
    assert calls is not None
    return parts * calls, parts * seam.reflections(recipe, *sizes, {})


def prose(prompt: str) -> str:
    return "I am sorry, this report is sad."


def refusing(prompt: str) -> str:
    raise InvalidRequestError("no")


@pytest.mark.parametrize("name", NAMES)
class TestEveryRecipe:
    def test_the_seed_is_left_as_it_was_and_the_result_asks_the_same(self, name: str) -> None:
        result = tuned(name)
        seed, fresh = result.planned.tuning.program, made_plan(SPLIT).tuning.program
        assert identity(seed) == identity(fresh)
        assert result.tuned.program.parts["GI"].keys == ("GI",)
        assert result.tuned.program.keys == seed.keys

    def test_the_same_seed_gives_the_same_however_many_threads(self, name: str) -> None:
        one, many = tuned(name), tuned(name, threads=4)
        assert one.prompt() == many.prompt()
        free = {"calls": 0, "tokens": 0}
        assert [r | free for r in one.candidates("GI")] == [r | free for r in many.candidates("GI")]

    def test_only_training_cases_are_shown_to_anyone(self, name: str) -> None:
        result = tuned(name)
        for row in result.candidates("GI"):
            assert "validation" not in json.dumps(row["prompt"])
        assert not [p for p in result.reflections if re.search(r"(validation|test)\d", p)]
        for prompt in result.tasks:
            report, _, told = prompt.partition("</report>")
            own = re.search(r"(validation|test)\d+", report)
            assert "-test" not in told
            # Examples chosen for a report are of annotated cases, but never of its own.
            assert name == "auto" or "-validation" not in told
            assert not own or f"-{own[0]}" not in told

    def test_demonstrations_have_the_fields_of_their_part_only(self, name: str) -> None:
        rows = tuned(name, joint=True).candidates("program")
        shown = [(p["predictor"], demo) for row in rows for p in row["prompt"]
                 for demo in p["demonstrations"]]  # fmt: skip
        assert all(set(d) <= {"case", "report", p.partition("/")[0]} for p, d in shown)
        assert all({"report", p.partition("/")[0]} <= set(d) for p, d in shown)

    @pytest.mark.parametrize("joint", [False, True])
    def test_distinct_requests_stay_within_the_estimate(self, name: str, joint: bool) -> None:
        result = tuned(name, joint=joint)
        calls, reflections = estimates(result)
        assert len(result.tasks) <= calls
        assert len(result.reflections) <= reflections

    def test_the_estimate_holds_for_a_model_that_keeps_to_no_form(self, name: str) -> None:
        model = scoring([*SPLIT.train, *SPLIT.validation])
        result = run(
            made_plan(SPLIT, optimizer=name),
            lambda prompt: (model if asks_for_findings(prompt) else prose)(prompt),
        )
        calls, reflections = estimates(result)
        assert len(result.tasks) <= calls
        assert len(result.reflections) <= reflections
        assert "sorry" not in json.dumps(result.tuned.candidates)

    def test_it_says_what_it_tunes_and_costs(self, name: str) -> None:
        text = (find_recipe(name, {}).__doc__ or "").lower()
        assert "tunes" in text or "demonstrations" in text
        assert "cost" in text

    def test_it_tunes_a_whole_program(self, name: str) -> None:
        result = tuned(name, joint=True)
        (verdict,) = result.tuned.verdicts
        assert verdict.part == "program"
        assert "broke off" not in verdict.why
        assert list(result.tuned.program.parts) == ["GI", "GU"]
        rows = result.candidates("program")
        # Every candidate is a whole program, not a part of one.
        assert all(len({p["predictor"] for p in row["prompt"]}) == 2 for row in rows)
        assert result.tuned.program.parts["GU"].keys == ("GU",)

    @pytest.mark.parametrize("calls", [3, 7, 20, 45])
    def test_a_spent_budget_leaves_the_best_so_far(self, name: str, calls: int) -> None:
        asked: list[str] = []
        model = scoring([*SPLIT.train, *SPLIT.validation])

        def rationed(prompt: str) -> str:
            if len(asked) >= calls:
                raise BudgetSpent("--max-calls reached")
            asked.append(prompt)
            return model(prompt)

        result = run(made_plan(SPLIT, optimizer=name, threads=2), rationed)
        (verdict,) = result.tuned.verdicts
        if len(asked) < calls:
            assert "stopped" not in verdict.why
            return
        rows = [row for row in result.candidates("GI") if row["validation"] is not None]
        if not rows:
            assert identity(result.tuned.program) == identity(result.planned.tuning.program)
            return
        best = max(rows, key=lambda row: row["validation"])
        if best["validation"] == rows[0]["validation"]:
            best = rows[0]
        assert prompts(result.tuned.program.parts["GI"]) == best["prompt"]

    def test_it_ends_where_there_is_no_mistake(self, name: str) -> None:
        result = run(made_plan(SPLIT, optimizer=name), perfect)
        assert "broke off" not in result.tuned.verdicts[0].why
        calls, _ = estimates(result)
        assert len(result.tasks) <= calls

    @pytest.mark.parametrize("failing", [prose, refusing])
    def test_it_ends_where_every_answer_fails(self, name: str, failing: Callable[..., str]) -> None:
        result = run(made_plan(SPLIT, optimizer=name), failing)
        assert "broke off" not in result.tuned.verdicts[0].why
        # A classifier in the model's place asks nothing that could fail.
        rows = [row for row in result.candidates("GI") if row["sent"]]
        assert {row["validation"] for row in rows} <= {0.0, None}


def test_none_returns_the_part_itself() -> None:
    result = tuned("none")
    assert result.tasks == result.reflections == []
    assert identity(result.tuned.program) == identity(result.planned.tuning.program)


def test_labeled_shows_gold_and_at_most_one_case_without() -> None:
    result = with_options("labeled", demonstrations=3)
    shown = [demo["GI"] for demo in result.tuned.program.parts["GI"].predict.demos]
    assert len(shown) == 3
    assert shown.count([]) == 1
    assert result.tasks == []


def learning(prompt: str) -> str:
    """Find the right words in a report, but only after an example."""
    return perfect(prompt) if LEARNT in prompt or "train1 " in prompt else json.dumps({"GI": []})


@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_keeps_what_scores_best_on_validation(seed: int) -> None:
    assert LEARNT in with_options("bootstrap", seed, learning, candidates=2).prompt()


def test_bootstrap_notes_every_candidate() -> None:
    rows = with_options("bootstrap", 1, learning, candidates=3).candidates("GI")
    assert [row["candidate"].split(":")[0] for row in rows] == ["seed", "set 1", "set 2", "set 3"]
    assert {row["parent"] for row in rows[1:]} == {"seed"}
    assert rows[0]["validation"] < rows[1]["validation"] == 1


def test_bootstrap_shows_a_wrong_answer_as_gold() -> None:
    result = with_options("bootstrap", 0, learning, candidates=8, demonstrations=6)
    gold = {c.id: list((c.gold or {})["GI"]) for c in SPLIT.train}
    demos = result.tuned.program.parts["GI"].predict.demos
    assert demos
    assert all(demo["GI"] == gold[demo["case"]] for demo in demos)


def test_factors_begins_with_the_seed_and_takes_the_choice_that_helps() -> None:
    helps = "Quote nothing twice."
    model = scoring([*SPLIT.train, *SPLIT.validation], better=helps)
    result = with_options("factors", 0, model, trials=16, demonstrations=0)
    first = result.candidates("GI")[0]
    assert first["candidate"] == "seed"
    assert helps in result.prompt()
    assert result.reflections == []


def test_mipro_keeps_the_proposal_that_helps() -> None:
    model = scoring([*SPLIT.train, *SPLIT.validation], better="style ")
    result = with_options("mipro", 0, model, trials=6)
    assert "style " in result.prompt()
    assert LEARNT not in result.prompt()


@pytest.mark.parametrize("seed", range(4))
def test_mipro_tries_something_new_in_every_trial(seed: int) -> None:
    few = with_options("mipro", seed, trials=2, candidates=3)
    assert len(few.candidates("GI")) == 3
    all_there_are = with_options("mipro", seed, trials=50, candidates=3)
    assert len(all_there_are.candidates("GI")) == 4


def test_mipro_with_demonstrations_tries_sets_of_them() -> None:
    model = scoring([*SPLIT.train, *SPLIT.validation], better=LEARNT)
    assert LEARNT in with_options("mipro", 0, model, demonstrations=2).prompt()


def test_gepa_keeps_the_proposal_that_helps() -> None:
    model = scoring([*SPLIT.train, *SPLIT.validation], better="style ")
    result = with_options("gepa", 0, model)
    assert "style " in result.prompt()
    rows = result.candidates("GI")
    names = [row["candidate"] for row in rows]
    assert names[:2] == ["seed", "proposal 1"]
    assert {row["parent"] for row in rows[1:]} <= set(names)
    assert rows[1]["parent"] == "seed"


def test_simba_keeps_what_helps_on_validation() -> None:
    model = scoring([*SPLIT.train, *SPLIT.validation], better=LEARNT)
    assert LEARNT in with_options("simba", 0, model).prompt()


def test_chain_starts_each_recipe_from_the_best_so_far() -> None:
    model = scoring([*SPLIT.train, *SPLIT.validation], better=LEARNT)
    result = with_options("chain", 0, model, recipes=["labeled", "factors"])
    assert LEARNT in result.prompt()
    seed, shown, *later = result.candidates("GI")
    assert (seed["candidate"], shown["parent"]) == ("seed", "seed")
    assert len(later) > 3
    for row in later:
        assert row["candidate"].startswith("factors ")
        assert row["parent"] == shown["candidate"]
        assert row["prompt"][0]["demonstrations"]


@pytest.mark.parametrize("recipes", [["labelled"], ["chain"]])
def test_chain_refuses_what_is_no_other_recipe(recipes: list[str]) -> None:
    with pytest.raises(UserError, match=r"options\.recipes: unknown optimizer"):
        seam.calls(find_recipe("chain", {}), 6, 4, {"recipes": recipes})


def test_the_share_of_a_part_bounds_its_candidates() -> None:
    context = seam.Context(lambda *_: [], random.Random(0), lambda *_: "")
    shares = {0.0: 1, 0.5: 3, 0.99: 5, 1.0: 6, 1.5: 9}
    assert {share: replace(context, share=share).rounds(6) for share in shares} == shares


def raced(mine: Callable[[int], float], cases: int = 30) -> tuple[float, int]:
    """What a trial against a rival that scores 0.8 gives, and how many cases it took."""
    many = made_split(["GI"], 1, cases).validation
    seed, asked, seeds = made_plan(SPLIT).tuning.program.parts["GI"], list[str](), 0

    def answers(part: Any, about: Any) -> list[seam.Answer]:
        nonlocal seeds
        if part is seed:
            seeds += len(about)
            return [seam.Answer(0.8, {}) for _ in about]
        asked.extend(c.id for c in about)
        return [seam.Answer(mine(many.index(c)), {}) for c in about]

    context = seam.Context(answers, random.Random(0), lambda *_: "")
    other = seed.with_instruction("Quote naught.")
    context.trial("seed", seed, many)
    score = context.trial("other", other, many, "seed", seed)
    assert len(set(asked)) == len(asked)
    assert seeds == len(many)
    return score, len(asked)


def test_no_more_is_spent_on_a_candidate_that_is_far_behind_its_rival() -> None:
    score, asked = raced(lambda _: 0.1)
    assert score == pytest.approx(0.1)
    assert asked == 5


def test_a_candidate_is_given_up_at_a_later_look_too() -> None:
    many = made_split(["GI"], 1, 30).validation
    early = {c.id for c in next(iter(portions(many, ["GI"])))}
    score, asked = raced(lambda n: 0.8 if many[n].id in early else 0.2)
    assert asked == 10
    assert score == pytest.approx(0.5)


@pytest.mark.parametrize("score", [0.8, 0.9])
def test_a_candidate_that_keeps_up_meets_every_case(score: float) -> None:
    mean, asked = raced(lambda _: score)
    # Not a last digit off: an equal of the best so far must not replace it.
    assert mean == statistics.fmean([score] * 30)
    assert asked == 30


def test_a_candidate_that_varies_more_than_it_is_behind_meets_every_case() -> None:
    mean, asked = raced(lambda n: (n * 7 % 10) / 6)
    assert asked == 30
    assert mean == pytest.approx(sum((n * 7 % 10) / 6 for n in range(30)) / 30)


def test_few_cases_are_all_met() -> None:
    score, asked = raced(lambda _: 0.1, 4)
    assert score == pytest.approx(0.1)
    assert asked == 4
