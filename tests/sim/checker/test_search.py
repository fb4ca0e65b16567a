"""The search against brute force, and against plain objects that are linearizable by construction."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.checker.histories import MODELS, by_brute_force, did, order_exists, recorded, spoilt

from quorate.sim.checker import UNSEEN, Add, Counter, Model, Operation, Read, Register, Write
from quorate.sim.checker.history import moments
from quorate.sim.checker.search import Configuration, OutOfTime, Search

SMALL_HISTORIES = 3000


def searched(history: list[Operation], model: Model, set_aside: set[int], barred: set[int]) -> bool:
    start = Configuration(0, model.initial, 0)
    return Search(model, moments(history, model), [start], lambda: False, set_aside, barred).order_exists()


def small(name: str, seed: int) -> list[Operation]:
    """Up to six operations, some of unknown outcome, and some answers wrong."""
    return spoilt(recorded(name, seed, 1 + seed % 6, 3, 0.2), name, seed)


@pytest.mark.parametrize("name", MODELS)
def test_it_agrees_with_brute_force(name: str) -> None:
    right = 0
    for seed in range(SMALL_HISTORIES):
        history, model = small(name, seed), MODELS[name][0]()
        expected = by_brute_force(history, model)
        assert searched(history, model, set(), set()) == expected, (seed, history)
        right += expected
    assert SMALL_HISTORIES * 0.15 < right < SMALL_HISTORIES * 0.85, "too few of one kind to prove anything"


@pytest.mark.parametrize("name", MODELS)
def test_it_agrees_with_brute_force_when_operations_are_set_aside_or_barred(name: str) -> None:
    for seed in range(SMALL_HISTORIES):
        history, model = small(name, seed), MODELS[name][0]()
        set_aside = {number for number in range(len(history)) if (seed >> number) % 2}
        barred = {number for number in set_aside if (seed >> number) % 3 == 0}
        required = [one for number, one in enumerate(history) if one.returned is not None and number not in set_aside]
        possible = [one for number, one in enumerate(history) if one not in required and number not in barred]
        expected = order_exists(required, possible, model)
        assert searched(history, model, set_aside, barred) == expected, (seed, history)


@pytest.mark.parametrize("name", MODELS)
@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 6), st.sampled_from((0.0, 0.02, 0.1)))
@settings(max_examples=60, deadline=None)
def test_it_passes_whatever_an_atomic_object_does(
    name: str, seed: int, operations: int, clients: int, unknown: float
) -> None:
    history = recorded(name, seed, operations, clients, unknown)
    assert searched(history, MODELS[name][0](), set(), set())


def test_it_stops_when_it_is_late() -> None:
    """Twenty different unknown additions have a million sums, and none of them is the odd one that was read."""
    history = [did(n, Add(2 << n), UNSEEN, 0, None) for n in range(20)] + [did(9, Read(), 1, 1, 2)]
    model, late = Counter(), time.monotonic() + 0.05
    start = Configuration(0, model.initial, 0)
    search = Search(model, moments(history, model), [start], lambda: time.monotonic() > late)
    with pytest.raises(OutOfTime):
        search.order_exists()


def test_it_tells_how_far_it_came_and_in_which_states() -> None:
    history = [did(1, Write(1), None, 0, 1), did(2, Write(2), None, 0, 1), did(3, Read(), 0, 2, 3)]
    search = Search(Register(0), moments(history, Register(0)), [Configuration(0, 0, 0)], lambda: False)
    assert not search.order_exists()
    assert search.furthest() == 2
    assert search.states_at(2) == (1, 2)
