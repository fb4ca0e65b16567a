"""Counter-examples: sound, smallest, and found in time. The claims of the module are tried against brute force."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest
from tests.sim.checker.histories import MODELS, by_brute_force, did, order_exists, recorded, spoilt

from quorate.sim.checker import (
    UNSEEN,
    Add,
    Counter,
    CounterExample,
    Model,
    Operation,
    Read,
    Register,
    Write,
    check,
)
from quorate.sim.checker.counterexample import CONTEXT_SOUGHT_MAX, WINDOWS, counterexample, fewest
from quorate.sim.checker.history import moments
from quorate.sim.checker.search import Configuration, Search

SMALL_HISTORIES = 2000


def refusal(history: Sequence[Operation], model: Model, seconds_max: float = 30) -> CounterExample:
    found = check(history, model, seconds_max).counterexample
    assert found is not None
    return found


def without(history: Sequence[Operation], *left_out: Operation) -> list[Operation]:
    """Return `history` without these very operations; equal ones stay."""
    return [one for one in history if not any(one is other for other in left_out)]


# --- any history ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_what_is_refused_is_a_smallest_contradiction(name: str) -> None:
    tried = 0
    for seed in range(SMALL_HISTORIES):
        history, model = spoilt(recorded(name, seed, 6, 3, 0.15), name, seed), MODELS[name][0]()
        found = check(history, model).counterexample
        if found is None:
            assert by_brute_force(history, model), seed
            continue
        tried += 1
        others = without(history, *found.contradiction)
        assert all(one.returned is not None for one in found.contradiction)
        assert not order_exists(found.contradiction, others, model), f"{seed}: not wrong without the others"
        for spared in found.contradiction:
            rest = without(found.contradiction, spared)
            assert order_exists(rest, [*others, spared], model), f"{seed}: wrong without {spared} too"
            assert order_exists(rest, found.context, model), f"{seed}: the context does not suffice"
    assert tried > SMALL_HISTORIES * 0.15


@pytest.mark.parametrize("name", MODELS)
def test_every_write_of_the_context_is_needed(name: str) -> None:
    for seed in range(SMALL_HISTORIES // 2):
        history, model = spoilt(recorded(name, seed, 6, 3, 0.15), name, seed), MODELS[name][0]()
        found = check(history, model).counterexample
        for write in found.context if found else ():
            assert found is not None
            rest = without(found.context, write)
            spared = (without(found.contradiction, one) for one in found.contradiction)
            assert not all(order_exists(some, rest, model) for some in spared), f"{seed}: {write} is not needed"


# --- known histories --------------------------------------------------------------------------------------------------


def test_what_came_before_and_after_is_left_out() -> None:
    history = [did(1, Add(1), n, 2 * n, 2 * n + 1) for n in range(1, 51)]
    history += [did(2, Read(), 49, 102, 103), did(2, Read(), 50, 104, 105), did(1, Add(1), 51, 106, 107)]
    found = refusal(history, Counter())
    assert found.contradiction == (history[49], history[50])
    assert (found.refused, found.states, found.before) == (history[50], (50,), 0)


def test_the_context_is_what_may_have_happened() -> None:
    write, idle = did(1, Write(1), None, 0, 9), did(4, Write(5), UNSEEN, 0, None)
    reads = [did(2, Read(), 1, 1, 2), did(3, Read(), 0, 3, 4)]
    found = refusal([write, idle, *reads], Register(0))
    assert found.contradiction == tuple(reads)
    assert found.context == (write,)


def test_a_context_of_a_long_chain_is_none() -> None:
    history = [did(1, Add(1), n, 2 * n, 2 * n + 1) for n in range(1, CONTEXT_SOUGHT_MAX + 3)]
    stale = did(2, Read(), 1, 90, 91)
    assert refusal([*history[:4], stale], Counter()).context == tuple(history[:3])
    assert refusal([*history, stale], Counter()).context == ()


def test_a_long_history_counts_up_to_its_last_returns_as_it_is() -> None:
    history = [did(1, Add(1), n, 2 * n, 2 * n + 1) for n in range(1, 5001)]
    stale = did(2, Read(), 4999, 10_002, 10_003)
    found = refusal([*history, stale], Counter())
    assert found.contradiction == (history[-1], stale)
    assert found.before == 5001 - WINDOWS[0]
    assert found.start == (5001 - WINDOWS[0],)


def test_what_a_long_history_can_lead_to_is_where_the_last_returns_begin() -> None:
    """Two concurrent writes long ago, and neither was read since: it may be either."""
    history = [did(1, Write(1), None, 0, 1), did(2, Write(2), None, 0, 1)]
    history += [did(4, Read(), UNSEEN, n, n + 1) for n in range(3, 300)]
    found = refusal([*history, did(5, Read(), 0, 400, 401)], Register(0))
    assert found.start == (1, 2)
    assert len(found.contradiction) == 1


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_contradiction_holds_from_every_state_that_the_last_returns_may_begin_with(first: int, second: int) -> None:
    history = [did(1, Write(1), None, 0, 1), did(2, Write(2), None, 0, 1)]
    history += [did(4, Read(), UNSEEN, n, n + 1) for n in range(3, 300)]
    reads = (did(5, Read(), first, 400, 401), did(5, Read(), second, 402, 403))
    assert refusal([*history, *reads], Register(0)).contradiction == reads


# --- time -------------------------------------------------------------------------------------------------------------


def test_what_takes_too_long_to_decide_is_looked_at_less_far_back() -> None:
    """The refusal itself is quick; what if these additions had been left out is a question of a billion sums."""
    history = [did(1, Add(2 << n), UNSEEN, 2 * n, 2 * n + 1) for n in range(30)]
    found = refusal([*history, did(2, Read(), 1, 90, 91)], Counter(), seconds_max=1)
    assert found.before in {31 - window for window in WINDOWS[1:]}
    assert len(found.contradiction) == 1
    assert len(found.start) == 1


def test_without_time_it_is_the_refused_operation_alone() -> None:
    history = [did(1, Write(1), None, 0, 1), did(2, Read(), 0, 2, 3)]
    search = Search(Register(0), moments(history, Register(0)), [Configuration(0, 0, 0)], lambda: False)
    assert not search.order_exists()
    found = counterexample(history, search, deadline=time.monotonic())
    assert (found.contradiction, found.context) == ((history[1],), ())
    assert (found.start, found.before) == ((1,), 1)


@pytest.mark.parametrize("needed", [{0}, {7}, {2, 3}, {0, 5, 7}, set(range(8))])
def test_fewest_finds_what_is_needed(needed: set[int]) -> None:
    assert fewest(range(8), lambda some: some >= needed) == needed
    assert fewest(range(8), lambda some: some >= needed | {9}, {9}) == needed


def test_fewest_prefers_the_earlier_of_what_would_do() -> None:
    assert fewest(range(8), lambda some: len(some) >= 2) == {0, 1}


def test_fewest_asks_few_questions() -> None:
    asked = itertools.count()
    assert fewest(range(1024), lambda some: next(asked) >= 0 and some >= {400, 900}) == {400, 900}
    assert next(asked) < 70
