"""Every state has its share of the model, whatever is asked of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from s0.serve.fair_queue import FairQueue

Job = tuple[str, int]


def waiting(**tokens: Iterable[int]) -> FairQueue[Job]:
    """A queue with jobs of so many tokens for each state."""
    queue: FairQueue[Job] = FairQueue()
    for state, sizes in tokens.items():
        add(queue, state, sizes)
    return queue


def add(queue: FairQueue[Job], state: str, sizes: Iterable[int]) -> None:
    for i, size in enumerate(sizes):
        queue.add((state, i), state, size)


def taken(queue: FairQueue[Job], n: int) -> list[Job]:
    jobs = []
    for _ in range(n):
        first = queue.first()
        assert first is not None
        state, job = first
        queue.take(job, state)
        jobs.append(job)
    return jobs


def test_a_flood_on_one_state_keeps_no_other_waiting() -> None:
    queue = waiting(flood=[10] * 100)
    taken(queue, 40)
    add(queue, "late", [10] * 3)
    assert [state for state, _ in taken(queue, 6)].count("late") == 3


def test_long_requests_have_fewer_turns() -> None:
    queue = waiting(long=[100] * 50, short=[10] * 50)
    assert Counter(state for state, _ in taken(queue, 44)) == {"long": 4, "short": 40}


def test_who_has_waited_for_nothing_has_saved_nothing_up() -> None:
    queue = waiting(busy=[10] * 20)
    taken(queue, 10)
    add(queue, "idle", [10] * 10)
    assert Counter(state for state, _ in taken(queue, 10)) == {"busy": 5, "idle": 5}


def test_who_has_had_much_does_not_begin_anew_by_pausing() -> None:
    queue = waiting(greedy=[1000], modest=[10] * 200)
    assert taken(queue, 1) == [("greedy", 0)]
    add(queue, "greedy", [1000])
    assert {state for state, _ in taken(queue, 99)} == {"modest"}


def test_what_waits_no_more_is_passed_over_and_costs_its_state_nothing() -> None:
    queue = waiting(one=[1000, 5, 5], two=[10] * 5)
    queue.discard(("one", 0), "one")
    queue.discard(("one", 7), "one")
    queue.discard(("three", 0), "three")
    assert taken(queue, 3) == [("one", 1), ("two", 0), ("one", 2)]
    taken(queue, 4)
    assert queue.first() is None and queue._clocks.keys() <= {"one", "two"}


def test_what_may_not_begin_is_passed_over_and_keeps_its_turn() -> None:
    queue = waiting(late=[10] * 2, early=[10] * 2)
    taken(queue, 1)  # of the first one there is
    assert queue.first() == ("early", ("early", 0))
    assert queue.first(lambda job: job[1] == 1) == ("early", ("early", 1))
    assert queue.first(lambda job: job[0] == "late") == ("late", ("late", 1))
    assert queue.first(lambda job: False) is None and queue.first() == ("early", ("early", 0))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 50), st.booleans()), max_size=80))
def test_all_are_taken_once_and_of_a_state_in_their_order(steps: list[tuple[str, int, bool]]) -> None:
    queue: FairQueue[Job] = FairQueue()
    left: list[Job] = []
    for number, (state, n_tokens, takes) in enumerate(steps):
        queue.add((state, number), state, n_tokens)
        left.append((state, number))
        for job in taken(queue, int(takes)):
            assert job == next(other for other in left if other[0] == job[0])
            left.remove(job)
    assert sorted(taken(queue, len(left))) == sorted(left) and queue.first() is None


SIZES = st.lists(st.integers(1, 50), min_size=30, max_size=60)


@given(SIZES, SIZES)
def test_states_that_always_wait_have_had_as_much_but_for_a_request(one: list[int], two: list[int]) -> None:
    queue, sizes = waiting(one=one, two=two), {"one": one, "two": two}
    had: Counter[str] = Counter()
    n_taken: Counter[str] = Counter()
    while all(n_taken[state] < len(sizes[state]) for state in sizes):
        ((state, i),) = taken(queue, 1)
        had[state] += sizes[state][i]
        n_taken[state] += 1
        assert abs(had["one"] - had["two"]) <= 50
