"""The models of one value: what they answer, what they become, and what counts as a read."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from tests.sim.checker.histories import MODELS, done, recorded

from quorate.sim.checker import (
    UNSEEN,
    Add,
    CompareAndSet,
    Counter,
    Delete,
    Get,
    KeyValue,
    Model,
    Put,
    Read,
    Register,
    Write,
)

STEPS: list[tuple[Model, Hashable, Hashable, Hashable, tuple[bool, Hashable]]] = [
    (Register(), 1, Read(), 1, (True, 1)),
    (Register(), 1, Read(), 2, (False, 1)),
    (Register(), 1, Write(2), "any", (True, 2)),
    (Counter(), 1, Add(2), 3, (True, 3)),
    (Counter(), 1, Add(2), 1, (False, 3)),
    (Counter(), 1, Write(0), None, (True, 0)),
    (KeyValue(), None, Get(), None, (True, None)),
    (KeyValue(), None, Put(1), None, (True, 1)),
    (KeyValue(), 1, Delete(), True, (True, None)),
    (KeyValue(), None, Delete(), True, (False, None)),
    (KeyValue(), 1, CompareAndSet(1, 2), True, (True, 2)),
    (KeyValue(), 1, CompareAndSet(1, 2), False, (False, 2)),
    (KeyValue(), 3, CompareAndSet(1, 2), False, (True, 3)),
    (KeyValue(), 3, CompareAndSet(1, 2), UNSEEN, (True, 3)),
    (KeyValue(), None, CompareAndSet(None, 2), True, (True, 2)),
    (KeyValue(), 2, CompareAndSet(2, None), True, (True, None)),
]


@pytest.mark.parametrize(("model", "state", "action", "answer", "expected"), STEPS)
def test_steps(
    model: Model, state: Hashable, action: Hashable, answer: Hashable, expected: tuple[bool, Hashable]
) -> None:
    assert model.step(state, action, answer) == expected


@pytest.mark.parametrize("name", MODELS)
def test_what_counts_as_a_read_leaves_every_state_as_it_is(name: str) -> None:
    """And what does not may change some state: else the search would be slower than need be."""
    make, value, _, _ = MODELS[name]
    model = make()
    state = model.initial
    writes, changes = set[tuple[type, Hashable]](), set[tuple[type, Hashable]]()
    for _, _, action, _, _, _ in recorded(name, 1, 300, 1, 0.0):
        answer, value = done(value, action)
        fits, after = model.step(state, action, answer)
        assert fits
        if model.is_read(action, answer):
            assert after == state
        else:
            writes.add((type(action), answer))
            changes |= {(type(action), answer)} if after != state else set()
        state = after
    assert writes == changes
