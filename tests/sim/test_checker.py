"""The linearizability checker against histories that are known to be right or wrong, and against brute force."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.sim.checker import UNSEEN, Add, Counter, Model, Operation, Read, Register, Write, check


def did(client: int, action: Hashable, answer: Hashable, called: float, returned: float | None) -> Operation:
    return Operation(client, "x", action, answer, called, returned)


# --- known histories -------------------------------------------------------------------------------------------------

GOOD: dict[str, tuple[Model, list[Operation]]] = {
    "nothing": (Register(), []),
    "one after the other": (Register(0), [did(1, Write(1), None, 0, 1), did(2, Read(), 1, 2, 3)]),
    "a concurrent read sees the old value": (Register(0), [did(1, Write(1), None, 0, 9), did(2, Read(), 0, 1, 2)]),
    "old, then new, under one long write": (
        Register(0),
        [did(1, Write(1), None, 0, 9), did(2, Read(), 0, 1, 2), did(3, Read(), 1, 3, 4)],
    ),
    "a call at the instant of a return is concurrent": (
        Register(0),
        [did(1, Write(1), None, 0, 1), did(2, Read(), 0, 1, 2)],
    ),
    "answers give the order of concurrent additions": (
        Counter(),
        [did(1, Add(1), 6, 0, 9), did(2, Add(2), 5, 0, 9), did(3, Add(3), 3, 0, 9)],
    ),
    "an unknown write took effect late": (
        Register(0),
        [did(1, Write(1), UNSEEN, 0, None), did(2, Read(), 0, 1, 2), did(2, Read(), 1, 3, 4)],
    ),
    "an unknown write never took effect": (Counter(), [did(1, Add(1), UNSEEN, 0, None), did(2, Read(), 0, 1, 2)]),
    "an unknown read constrains nothing": (Register(0), [did(1, Read(), UNSEEN, 0, None), did(2, Read(), 0, 1, 2)]),
    "of equal unknown writes two took effect": (
        Counter(),
        [*(did(n, Add(1), UNSEEN, n, None) for n in range(5)), did(9, Read(), 0, 9, 10), did(9, Read(), 2, 11, 12)],
    ),
    "an unseen answer with a return": (Counter(), [did(1, Add(1), UNSEEN, 0, 1), did(2, Read(), 1, 2, 3)]),
    "a reset between additions": (
        Counter(5),
        [did(1, Add(1), 6, 0, 1), did(2, Write(0), None, 0, 9), did(3, Add(1), 1, 2, 9)],
    ),
}

BAD: dict[str, tuple[Model, list[Operation]]] = {
    "a stale read": (Register(0), [did(1, Write(1), None, 0, 1), did(2, Read(), 0, 2, 3)]),
    "a value from nowhere": (Register(0), [did(2, Read(), 7, 2, 3)]),
    "new, then old, under one long write": (
        Register(0),
        [did(1, Write(1), None, 0, 9), did(2, Read(), 1, 1, 2), did(3, Read(), 0, 3, 4)],
    ),
    "a lost addition": (Counter(), [did(1, Add(1), 1, 0, 1), did(2, Add(1), 1, 0, 1)]),
    "an addition that took effect twice": (Counter(), [did(1, Add(1), 1, 0, 1), did(2, Read(), 2, 2, 3)]),
    "an unknown write took effect before its call": (
        Register(0),
        [did(2, Read(), 1, 0, 1), did(1, Write(1), UNSEEN, 2, None)],
    ),
    "an unknown write took effect twice": (
        Register(0),
        [
            did(1, Write(1), UNSEEN, 0, None),
            did(2, Read(), 1, 1, 2),
            did(3, Write(0), None, 3, 4),
            did(2, Read(), 1, 5, 6),
        ],
    ),
    "more effects than equal unknown writes": (
        Counter(),
        [*(did(n, Add(1), UNSEEN, n, None) for n in range(5)), did(9, Read(), 6, 9, 10)],
    ),
    "Add(1) is not Write(1)": (
        Counter(1),
        [did(1, Add(1), UNSEEN, 0, None), did(1, Write(1), UNSEEN, 0, None), did(2, Read(), 3, 1, 2)],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_passes_what_is_right(name: str) -> None:
    model, history = GOOD[name]
    verdict = check(history, model)
    assert verdict.linearizable, verdict.reason


@pytest.mark.parametrize("name", BAD)
def test_it_refuses_what_is_wrong(name: str) -> None:
    model, history = BAD[name]
    assert not check(history, model).linearizable


def test_a_refusal_shows_the_shortest_wrong_prefix() -> None:
    history = [did(1, Add(1), 1, 0, 1), did(2, Add(4), 5, 2, 6), did(3, Read(), 0, 3, 4), did(1, Add(1), 6, 7, 8)]
    reason = check(history, Counter()).reason
    assert "key 'x': no order explains return 2 of 4" in reason
    assert "client 3: Read() -> 0, 3.000000 to 4.000000" in reason
    assert "states possible before it: 1" in reason
    assert "beside it: client 2: Add(amount=4) -> 5" in reason


def test_keys_are_independent() -> None:
    history = [Operation(n, f"k{n}", Write(n), None, n, n + 1) for n in range(3)]
    history += [Operation(n, f"k{n}", Read(), n, n + 2, n + 3) for n in range(3)]
    assert check(history, Register()).linearizable
    wrong = check([*history, Operation(9, "k1", Read(), 2, 9, 10)], Register())
    assert wrong.reason.startswith("key 'k1': ")


def test_running_out_of_time_is_no_pass() -> None:
    """Twenty different unknown additions have a million sums, and none of them is the odd one that was read."""
    history = [did(n, Add(2 << n), UNSEEN, 0, None) for n in range(20)] + [did(9, Read(), 1, 1, 2)]
    verdict = check(history, Counter(), seconds_max=0.05)
    assert not verdict.linearizable
    assert "no verdict in the time given, 1 of 1 returns" in verdict.reason


# --- against brute force ---------------------------------------------------------------------------------------------

ACTIONS = (Read(), Read(), Add(1), Add(2), Add(-1), Write(0))


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    """Up to five operations with any answers: about as many are right as wrong."""
    history = []
    for client in range(draw(st.integers(1, 5))):
        called = draw(st.integers(0, 8))
        returned = draw(st.one_of(st.none(), st.integers(called, 9)))
        answer = UNSEEN if returned is None else draw(st.integers(0, 3))
        history.append(did(client, draw(st.sampled_from(ACTIONS)), answer, called, returned))
    return history


def by_brute_force(history: Sequence[Operation], model: Model) -> bool:
    """Try every subset of the unknown and every order that respects real time."""
    certain = [operation for operation in history if operation.returned is not None]
    unknown = [operation for operation in history if operation.returned is None]
    subsets = itertools.chain.from_iterable(itertools.combinations(unknown, n) for n in range(len(unknown) + 1))
    return any(
        respects_real_time(order) and fits(order, model)
        for subset in subsets
        for order in itertools.permutations([*certain, *subset])
    )


def respects_real_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.called
        for earlier, later in itertools.combinations(order, 2)
    )


def fits(order: Sequence[Operation], model: Model) -> bool:
    state = model.initial
    for operation in order:
        fitting, state = model.step(state, operation.action, operation.answer)
        if not fitting:
            return False
    return True


@given(small_histories())
@settings(max_examples=1500, deadline=None)
def test_it_agrees_with_brute_force(history: list[Operation]) -> None:
    assert check(history, Counter()).linearizable == by_brute_force(history, Counter())


# --- against a real atomic counter -----------------------------------------------------------------------------------


def recorded(seed: int, operations: int, clients: int, unknown_share: float) -> list[Operation]:
    """Run clients against an atomic counter in virtual time; each takes effect once between call and return.

    An unknown outcome takes effect at any later time, or never.
    """
    random_ = random.Random(seed)
    at = [random_.random() for _ in range(clients)]
    effects: list[tuple[float, int, Operation]] = []
    for number in range(operations):
        client = random_.randrange(clients)
        called = at[client]
        at[client] = returned = called + random_.expovariate(1.0) + 0.01
        action = Read() if random_.random() < 0.4 else Add(random_.choice((-3, -1, 1, 2, 5)))
        effect = random_.uniform(called, returned)
        operation = did(client, action, None, called, returned)
        if random_.random() < unknown_share:
            operation = operation._replace(returned=None)
            effect = called + random_.expovariate(0.05) if random_.random() < 0.5 else float("inf")
        effects.append((effect, number, operation))
    return answered(sorted(effects))


def answered(effects: list[tuple[float, int, Operation]]) -> list[Operation]:
    value = 0
    history = []
    for effect, _, operation in effects:
        if effect != float("inf") and isinstance(operation.action, Add):
            value += operation.action.amount
        history.append(operation._replace(answer=UNSEEN if operation.returned is None else value))
    return history


@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 8), st.sampled_from((0.0, 0.02, 0.1)))
@settings(max_examples=150, deadline=None)
def test_it_passes_whatever_an_atomic_counter_does(seed: int, operations: int, clients: int, unknown: float) -> None:
    verdict = check(recorded(seed, operations, clients, unknown), Counter())
    assert verdict.linearizable, verdict.reason


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=150, deadline=None)
def test_it_refuses_a_read_from_the_past(seed: int, data: st.DataObject) -> None:
    """A client adds much and is answered; a read called after that answers without it."""
    history = recorded(seed, 60, 6, 0.0)
    reads = [number for number, operation in enumerate(history) if isinstance(operation.action, Read)]
    if not reads:
        return
    last = max(operation.returned or 0.0 for operation in history)
    final = next(operation.answer for operation in reversed(history))
    assert isinstance(final, int)
    history.append(did(9, Add(1000), final + 1000, last + 1, last + 2))
    stale = history[data.draw(st.sampled_from(reads))]
    verdict = check([*history, stale._replace(called=last + 3, returned=last + 4)], Counter())
    assert not verdict.linearizable


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=150, deadline=None)
def test_it_refuses_an_answer_no_order_gives(seed: int, data: st.DataObject) -> None:
    history = recorded(seed, 60, 6, 0.0)
    number = data.draw(st.integers(0, len(history) - 1))
    history[number] = history[number]._replace(answer=10_000)
    assert not check(history, Counter()).linearizable


@pytest.mark.parametrize("unknown", [0.0, 0.001])
def test_it_is_fast_enough_for_a_long_run(unknown: float) -> None:
    """Sixty seconds of eight busy clients leave about this many operations."""
    history = recorded(7, 20_000, 8, unknown)
    started = time.monotonic()
    verdict = check(history, Counter())
    assert verdict.linearizable, verdict.reason
    assert time.monotonic() - started < 30
