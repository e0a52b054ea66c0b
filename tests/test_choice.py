"""Choosing among candidates of all parts at once: the frontier, the shrinking, the claims."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.scoring.halves import Halves, harmonic, total
from crb_dspy.tuning.choice import PRICE, Option, chosen, kind_of
from crb_dspy.tuning.shrinkage import shrunk


def cells(filled: float, empty: float, count: int = 40) -> tuple[Halves, ...]:
    """So many cells of both kinds that all gain as much: nothing is left to doubt."""
    return (Halves(filled, 1),) * count + (Halves(empty=empty, n_empty=1),) * count


@pytest.mark.parametrize("seed", [(0.4, 0.0), (0.0, 0.6), (0.3, 0.3), (0.5, 0.1)])
@pytest.mark.parametrize("draw", range(5))
def test_the_frontier_reaches_the_best_score_of_all_programs(
    seed: tuple[float, float], draw: int
) -> None:
    chance = random.Random(f"{seed}/{draw}")
    parts = {
        f"p{n}": [
            (chance.uniform(-seed[0], 1 - seed[0]) / 2, chance.uniform(-seed[1], 1 - seed[1]) / 2)
            for _ in range(4)
        ]
        for n in range(6)
    }
    options = [
        Option(part, f"{part} {n}", f"{part}/{n}", cells(*gain))
        for part, gains in parts.items()
        for n, gain in enumerate(gains)
    ]
    seeds = {part: [*(Halves(seed[0], 1), Halves(empty=seed[1], n_empty=1)) * 40] for part in parts}
    choice = chosen(options, seeds)

    def score(gains: list[tuple[float, float]]) -> float:
        filled, empty = (seed[half] + sum(g[half] for g in gains) / len(parts) for half in (0, 1))
        return harmonic(filled, empty)

    picked = [
        parts[part][int(choice.picks[part].option.name[-1])] if part in choice.picks else (0.0, 0.0)
        for part in parts
    ]
    best = max(
        score(list(own)) for own in itertools.product(*([(0.0, 0.0), *g] for g in parts.values()))
    )
    assert score(picked) >= best - 0.01
    assert choice.expected == pytest.approx(score(picked), abs=0.02)


def test_one_lucky_part_is_not_believed_and_a_kind_that_gains_everywhere_is() -> None:
    chance = np.random.default_rng(0)
    options = []
    for part in range(14):
        for kind, truth in (("good", 0.15), *((f"useless {k}", 0.0) for k in "abcdef")):
            gains = [Halves(g, 1) for g in chance.normal(truth, 0.35, 6)]
            gains += [Halves(empty=g, n_empty=1) for g in chance.normal(truth, 0.35, 6)]
            options.append(Option(f"p{part}", kind, kind, tuple(gains)))
    seeds = {f"p{n}": [Halves(0.4, 1), Halves(empty=0.4, n_empty=1)] * 6 for n in range(14)}
    choice = chosen(options, seeds)
    kinds = [pick.option.kind for pick in choice.picks.values()]
    assert kinds.count("good") >= 12
    assert choice.seed == pytest.approx(0.4)
    assert 0.45 < choice.expected < 0.65
    assert all(0.5 < pick.chance <= 1 for pick in choice.picks.values())


def test_candidates_that_all_harm_leave_the_seed() -> None:
    chance = np.random.default_rng(1)
    options = [
        Option(f"p{part}", f"k{kind}", f"k{kind}", tuple(Halves(g, 1) for g in gains))
        for part in range(14)
        for kind in range(8)
        for gains in [chance.normal(-0.2, 0.35, 12)]
    ]
    choice = chosen(options, {f"p{n}": [Halves(0.4, 1)] * 12 for n in range(14)})
    assert not choice.picks
    assert choice.expected == choice.seed == pytest.approx(0.4)


@pytest.mark.parametrize("more", [-0.01, 0.0, 0.01, 0.2])
def test_a_model_is_asked_where_it_is_expected_to_gain_on_what_asks_none(more: float) -> None:
    parts = [f"p{n}" for n in range(3)]
    free = [Option(part, "alone", "alone", cells(0.3, 0.3), asks=False) for part in parts]
    asking = [Option(part, "model", "model", cells(0.3 + more, 0.3 + more)) for part in parts]
    seeds = {
        part: [*(Halves(0.2, 1),) * 40, *(Halves(empty=0.2, n_empty=1),) * 40] for part in parts
    }
    choice = chosen([*free, *asking], seeds)
    assert {pick.option.name for pick in choice.picks.values()} == {
        "model" if more > PRICE else "alone"
    }
    assert choice.expected == pytest.approx(0.5 + (more if more > PRICE else 0), abs=0.02)
    assert choice.seed == pytest.approx(0.2)
    # Where what asks none loses, what asks has only the seed to beat.
    bad = [Option(part, "alone", "alone", cells(-0.2, -0.1), asks=False) for part in parts]
    assert len(chosen([*bad, *asking], seeds).picks) == len(parts)


def test_what_was_given_up_informs_others_and_is_not_taken() -> None:
    gave_up = Option("a", "x", "x", cells(0.3, 0.3, 4), whole=False)
    seeds = {"a": [Halves(0.4, 1), Halves(empty=0.4, n_empty=1)] * 4}
    assert not chosen([gave_up], seeds).picks
    assert chosen([gave_up, Option("a", "y", "x", ())], seeds).picks["a"].option.name == "y"


def test_what_was_chosen_earlier_is_told_by_what_is_known_now() -> None:
    chance = np.random.default_rng(2)
    seeds = {f"p{n}": [Halves(0.4, 1), Halves(empty=0.4, n_empty=1)] * 6 for n in range(4)}

    def tried(kind: str, truth: float) -> list[Option]:
        draws = chance.normal(truth, 0.3, (len(seeds), 6, 2))
        gains = [
            [g for a, b in own for g in (Halves(a, 1), Halves(empty=b, n_empty=1))] for own in draws
        ]
        return [Option(p, kind, kind, tuple(own)) for p, own in zip(seeds, gains, strict=True)]

    first = tried("first", 0.2)
    everything = [*first, *tried("worse", -0.1), *tried("worst", -0.2)]
    then, now = chosen(first, seeds), chosen(first, seeds, everything)
    assert [p.option for p in now.picks.values()] == [p.option for p in then.picks.values()]
    assert now.expected != pytest.approx(then.expected, abs=0.001)
    assert now.expected == pytest.approx(chosen(everything, seeds).expected)


def test_silence_is_not_taken_where_it_costs_all_there_is_to_find() -> None:
    options = [Option(f"p{n}", "silent", "silent", cells(-0.4, 1.0)) for n in range(3)]
    seeds = {f"p{n}": [Halves(0.4, 1), Halves(empty=0.0, n_empty=1)] * 40 for n in range(3)}
    choice = chosen(options, seeds)
    # One or two parts may be silent; all three would score nothing.
    assert len(choice.picks) == 1
    assert choice.expected > 0.2


def test_a_gain_on_silence_is_told_as_likely_as_the_whole_makes_it() -> None:
    """Though a model beside it, which is not taken, would have the halves weigh otherwise."""
    chance = np.random.default_rng(3)
    options = []
    for part in range(4):
        gains = [Halves(g, 1) for g in chance.normal(0.45, 0.3, 20)]
        gains += [Halves(empty=-float(g < 0.5), n_empty=1) for g in chance.uniform(0, 1, 20)]
        options.append(Option(f"p{part}", "classifier", "classifier", tuple(gains), asks=False))
        less = (Halves(0.2, 1),) * 20 + (Halves(empty=-1, n_empty=1),) * 20
        options.append(Option(f"p{part}", "model", "model", less))
    silent = {f"p{n}": [Halves(0.0, 1)] * 20 + [Halves(empty=1, n_empty=1)] * 20 for n in range(4)}
    picks = chosen(options, silent).picks
    assert {pick.option.name for pick in picks.values()} == {"classifier"}
    assert all(pick.gain > 0 and pick.chance > 0.5 for pick in picks.values())


def test_where_nothing_is_to_be_found_a_chance_is_told_too() -> None:
    gains = tuple(Halves(empty=g, n_empty=1) for g in (0.5, 0.4, 0.6, 0.5))
    seed = [Halves(empty=0.2, n_empty=1)] * 4
    (pick,) = chosen([Option("p", "silent", "silent", gains)], {"p": seed}).picks.values()
    assert 0.5 < pick.chance <= 1


@given(
    st.lists(
        st.tuples(
            st.lists(st.one_of(st.just(math.nan), st.floats(-1, 1)), min_size=5, max_size=5),
            st.sampled_from("abc"),
            st.sampled_from("xy"),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_beliefs_are_finite_and_within_reach(
    rows: list[tuple[list[float], str, str]],
) -> None:
    samples = np.array([own for own, _, _ in rows])
    values, variances = shrunk(samples, [k for _, k, _ in rows], [p for _, _, p in rows])
    assert np.isfinite(values).all()
    assert np.isfinite(variances).all()
    assert (variances >= 0).all()
    assert (np.abs(values) <= 3).all()


def test_a_part_whose_seed_is_bad_does_not_make_its_candidates_differ() -> None:
    chance = np.random.default_rng(3)
    options = []
    for part in range(14):
        lift = 0.5 if part % 2 else 0.1
        for kind in range(6):
            noise = chance.normal(0, 0.2, 10)
            gains = tuple(Halves(lift + (kind == 0) * 0.12 + own, 1) for own in noise)
            options.append(Option(f"p{part}", f"k{kind}", f"k{kind}", gains))
    seeds = {f"p{n}": [Halves(0.3, 1)] * 10 for n in range(14)}
    kinds = [pick.option.kind for pick in chosen(options, seeds).picks.values()]
    assert len(kinds) == 14
    assert kinds.count("k0") >= 11


def test_the_order_of_candidates_does_not_matter() -> None:
    chance = np.random.default_rng(2)
    options = [
        Option(f"p{p}", f"k{k}", f"k{k}", tuple(Halves(g, 1) for g in chance.normal(0.05, 0.3, 9)))
        for p in range(5)
        for k in range(4)
    ]
    seeds = {f"p{n}": [Halves(0.4, 1)] * 9 for n in range(5)}
    first, second = chosen(options, seeds), chosen(options[::-1], seeds)
    assert {p: pick.option.name for p, pick in first.picks.items()} == {
        p: pick.option.name for p, pick in second.picks.items()
    }
    assert total(seeds["p0"]).score == pytest.approx(0.4)


def test_draws_of_several_parts_are_of_one_kind_by_their_name() -> None:
    assert kind_of("3: length=term, care=once") == "length=term, care=once"
    assert kind_of("proposal 12") == "proposal"
    assert kind_of("shared advice") == "shared advice"


def test_a_doubtful_gain_is_taken_only_where_the_whole_is_sure_to_gain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = {f"p{part}": [Halves(0.4, 1)] * 12 for part in range(4)}

    def picks(draw: int, mean: float) -> dict[str, float]:
        chance = np.random.default_rng(draw)
        options = [
            Option(
                f"p{p}",
                f"k{k}",
                f"k{k}",
                tuple(Halves(g, 1) for g in chance.normal(mean, 0.35, 12)),
            )
            for p in range(4)
            for k in range(6)
        ]
        return {part: pick.chance for part, pick in chosen(options, seeds).picks.items()}

    strict = [picks(draw, -0.05) for draw in range(30)]
    # None is taken on a doubtful chance, unless what is taken with it is sure.
    assert all(min(own.values()) >= 0.6 for own in strict if own and max(own.values()) < 0.95)
    helpful = [picks(draw, 0.1) for draw in range(30)]
    monkeypatch.setattr("crb_dspy.tuning.choice.SURE", 0.0)
    lax = [picks(draw, -0.05) for draw in range(30)]
    assert sum(map(len, lax)) > sum(map(len, strict))
    assert [picks(draw, 0.1) for draw in range(30)] == helpful
