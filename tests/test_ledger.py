"""The record of a search: what is best, in which order candidates stand, and what they cost."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from crb_dspy.program import Part
from crb_dspy.scoring.halves import Halves
from crb_dspy.tuning.ledger import Ledger, Record, identity, prompts, series
from tests.made_search import FULL, case

KEYS = ["GI"]
CASES = [case(f"validation{n}", KEYS) for n in range(3)]
SEED = Part(FULL.select(KEYS).categories)


def worded(text: str) -> Part:
    return SEED.with_instruction(text)


def entered(ledger: Ledger, part: Part, *scores: float) -> None:
    for validation, score in zip(CASES, scores, strict=False):
        ledger.saw(part, validation.id, Halves(score, 1))


def test_a_candidate_has_a_score_only_when_it_met_every_validation_case() -> None:
    ledger = Ledger("GI", SEED, CASES)
    entered(ledger, SEED, 0.5, 0.5)
    ledger.saw(SEED, "a training case", Halves(0.0, 1))
    assert ledger.score(SEED) is None
    entered(ledger, SEED, 0.5, 0.5, 0.8)
    assert ledger.score(SEED) == pytest.approx(0.6)


def test_the_best_is_the_earliest_of_equals_and_at_first_the_seed() -> None:
    ledger = Ledger("GI", SEED, CASES)
    assert ledger.best() is SEED
    one, two, partial = worded("One."), worded("Two."), worded("Partial.")
    entered(ledger, one, 0.6, 0.6, 0.6)
    assert ledger.best() is one
    entered(ledger, two, 0.6, 0.6, 0.6)
    entered(ledger, partial, 1.0, 1.0)
    entered(ledger, SEED, 0.6, 0.6, 0.6)
    assert ledger.best() is SEED


def test_without_validation_cases_the_seed_is_best() -> None:
    ledger = Ledger("GI", SEED, [])
    ledger.note("three demonstrations", worded("Other."), "seed")
    assert ledger.best() is SEED
    assert [row["validation"] for row in ledger.rows()] == [None, None]


def test_rows_name_candidates_their_parents_prompts_scores_and_costs() -> None:
    ledger = Ledger("GI", SEED, CASES)
    other = worded("Other.")
    ledger.note("0", SEED)
    ledger.note("shorter", other, "seed")
    entered(ledger, other, 1.0, 0.5, 0.0)
    ledger.spent(other, 3, 100)
    ledger.spent(other, 1, 10)
    first, second = ledger.rows()
    assert (first["candidate"], first["number"], first["calls"]) == ("seed", 0, 0)
    expected = {"part": "GI", "candidate": "shorter", "parent": "seed", "validation": 0.5}
    expected |= {"cases": 3, "calls": 4, "tokens": 110, "prompt": prompts(other)}
    assert {name: second[name] for name in expected} == expected
    assert second["prompt"][0]["instruction"] == "Other."  # type: ignore[index]
    assert ledger.tried == 2


def test_candidates_that_are_tried_at_once_stand_in_an_order_that_chance_does_not_change() -> None:
    parts = [worded(f"Say {n}.") for n in range(12)]
    orders = set()
    for seed in range(5):
        ledger = Ledger("GI", SEED, CASES)
        mixed = random.Random(seed).sample(parts, len(parts))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda part, book=ledger: entered(book, part, 0.5), mixed))
        ledger.note("winner", parts[3], "seed")
        rows = ledger.rows()
        assert [row["candidate"] for row in rows[:3]] == ["seed", "winner", "candidate 2"]
        orders.add(str(rows))
    assert len(orders) == 1


def test_what_is_chosen_from_does_not_tell_which_thread_was_first() -> None:
    parts = [worded(f"Say {n}.") for n in range(3)]

    def seen(chance: random.Random) -> str:
        ledger = Ledger("GI", SEED, CASES)
        pairs = [(part, one, n / 7) for part in [SEED, *parts] for n, one in enumerate(CASES)]
        for part, one, score in chance.sample(pairs, len(pairs)):
            ledger.saw(part, one.id, Halves(score, 1))
        for n, part in enumerate(parts):
            ledger.note(f"proposal {n}", part, "seed")
        return str([(c.name, c.scores) for c in ledger.candidates()])

    assert len({seen(random.Random(seed)) for seed in range(5)}) == 1


def test_an_identity_changes_with_instruction_and_demonstrations_and_nothing_else() -> None:
    shown = SEED.with_demonstrations([SEED.demonstration(CASES[0], {"GI": ["had-colic"]})])
    names = [identity(part) for part in (SEED, worded("Other."), shown)]
    assert len(set(names)) == 3
    assert identity(SEED.deepcopy()) == identity(SEED)


def test_a_series_is_the_best_so_far_of_those_that_were_scored() -> None:
    rows: list[Record] = [{"validation": score} for score in (0.2, None, 0.1, 0.5, 0.4)]
    assert series(rows) == [0.2, 0.2, 0.5, 0.5]
