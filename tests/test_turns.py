"""Who has the next free slot of a server."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.models.turns import Turn, Turns


def begun(waiting: list[Turn]) -> list[str]:
    """What those who hold a slot ask about, in the order in which they came."""
    return [turn.about for turn in waiting if turn.is_set()]


def order(first: str, *others: str) -> list[str]:
    """The order in which one slot serves those who wait for it."""
    turns = Turns(1)
    held, waiting, served = turns.take(first), [turns.take(other) for other in others], []
    while waiting:
        turns.leave(held)
        (held,) = (turn for turn in waiting if turn.is_set())
        waiting.remove(held)
        served.append(held.about)
    return served


def test_a_slot_goes_to_who_asks_about_the_same_report() -> None:
    assert order("a", "b", "a", "c", "a", "b") == ["a", "a", "b", "b", "c"]


def test_then_to_a_report_that_nobody_asks_about_now() -> None:
    turns = Turns(2)
    first, second = turns.take("a"), turns.take("b")
    again, fresh = turns.take("b"), turns.take("c")
    turns.leave(first)
    assert begun([again, fresh]) == ["c"]
    turns.leave(second)
    assert begun([again, fresh]) == ["b", "c"]


def test_else_to_the_report_that_was_waited_for_first() -> None:
    turns = Turns(3)
    first, *_ = [turns.take(about) for about in "abc"]
    waiting = [turns.take("c"), turns.take("b")]
    turns.leave(first)
    assert begun(waiting) == ["c"]


def test_who_leaves_the_queue_gets_no_slot() -> None:
    turns = Turns(1)
    held, gone, last = turns.take("a"), turns.take("a"), turns.take("b")
    turns.leave(gone)
    turns.leave(held)
    assert (gone.is_set(), last.is_set()) == (False, True)


@given(st.integers(1, 4), st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_everybody_has_a_turn_and_no_slot_is_given_twice(free: int, wanted: list[str]) -> None:
    turns = Turns(free)
    waiting, served = [turns.take(about) for about in wanted], Counter[str]()
    while holding := [turn for turn in waiting if turn.is_set()]:
        assert len(holding) == min(free, len(waiting))
        waiting.remove(holding[0])
        turns.leave(holding[0])
        served[holding[0].about] += 1
    assert served == Counter(wanted)
    assert [turns.take("d").is_set() for _ in range(free + 1)] == [True] * free + [False]


def test_threads_never_hold_more_slots_than_there_are() -> None:
    turns, lock, now, most = Turns(3), threading.Lock(), 0, 0

    def ask(number: int) -> None:
        nonlocal now, most
        turn = turns.take(str(number % 5))
        assert turn.wait(60)
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        turns.leave(turn)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(500)))
    assert most <= 3
    assert now == 0
