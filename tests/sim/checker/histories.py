"""Histories for the tests: of plain objects behind an unsteady clock, and an obvious judge that tries every order."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from quorate.sim.checker import (
    UNSEEN,
    Add,
    Append,
    CompareAndSet,
    Counter,
    Delete,
    Get,
    KeyValue,
    Log,
    Model,
    Operation,
    Put,
    Read,
    ReadEntries,
    ReadEntry,
    ReadLength,
    Register,
    Write,
)

Draw = Callable[[random.Random], Hashable]

MODELS: dict[str, tuple[Callable[[], Model], Any, Draw, Draw]] = {
    "register": (
        lambda: Register(0),
        0,
        lambda draw: draw.choice((Read(), Read(), Write(0), Write(1), Write(2))),
        lambda draw: draw.choice((0, 1, 2)),
    ),
    "counter": (
        Counter,
        0,
        lambda draw: draw.choice((Read(), Read(), Add(1), Add(2), Add(-1), Write(0))),
        lambda draw: draw.choice((0, 1, 2, 3)),
    ),
    "key-value": (
        KeyValue,
        None,
        lambda draw: draw.choice((Get(), Put(1), Put(2), Delete(), CompareAndSet(None, 1), CompareAndSet(1, 2))),
        lambda draw: draw.choice((None, 1, 2, True, False)),
    ),
    "log": (
        lambda: Log(("z",)),
        ("z",),
        lambda draw: draw.choice(
            (Append("a"), Append("b"), Append("c"), ReadEntry(draw.randrange(4)), ReadEntries(), ReadLength())
        ),
        lambda draw: draw.choice((None, "a", "b", 1, 2, 3, ("z", "a"), ("z", "b", "a"))),
    ),
}
"""For each: the model, what a plain object starts from, and how to draw an action and some answer."""


def did(client: int, action: Hashable, answer: Hashable, called: float, returned: float | None) -> Operation:
    return Operation(client, "x", action, answer, called, returned)


# --- a plain object that answers right --------------------------------------------------------------------------------


def done(value: Any, action: Hashable) -> tuple[Hashable, Any]:
    """Return the answer and the value after it, by code that shares nothing with the models."""
    match action:
        case Read() | Get() | ReadEntries():
            return value, value
        case Write(new) | Put(new):
            return None, new
        case Add(amount):
            return value + amount, value + amount
        case Delete():
            return value is not None, None
        case CompareAndSet(expected, new):
            return value == expected, new if value == expected else value
        case Append(entry):
            return len(value) + 1, (*value, entry)
        case ReadEntry(position):
            return dict(enumerate(value, start=1)).get(position or len(value)), value
        case ReadLength():
            return len(value), value
    raise AssertionError(action)


def recorded(name: str, seed: int, operations: int, clients: int, unknown_share: float) -> list[Operation]:
    """Run clients against an atomic object in virtual time; each takes effect once between call and return.

    An unknown outcome takes effect at any later time, or never.
    """
    random_ = random.Random(f"{name} {seed}")
    draw_action = MODELS[name][2]
    at = [random_.random() for _ in range(clients)]
    effects: list[tuple[float, int, Operation]] = []
    for number in range(operations):
        client = random_.randrange(clients)
        called = at[client]
        at[client] = returned = called + random_.expovariate(1.0) + 0.01
        effect = random_.uniform(called, returned)
        operation = did(client, draw_action(random_), UNSEEN, called, returned)
        if random_.random() < unknown_share:
            operation = operation._replace(returned=None)
            effect = called + random_.expovariate(0.2) if random_.random() < 0.5 else math.inf
        effects.append((effect, number, operation))
    return answered(sorted(effects), MODELS[name][1])


def answered(effects: Iterable[tuple[float, int, Operation]], value: Any) -> list[Operation]:
    history = []
    for effect, _, operation in effects:
        answer = None
        if effect != math.inf:
            answer, value = done(value, operation.action)
        history.append(operation if operation.returned is None else operation._replace(answer=answer))
    return history


def spoilt(history: Sequence[Operation], name: str, seed: int) -> list[Operation]:
    """Replace a few answers by others, seen or unseen, so that about as many histories are right as wrong."""
    random_ = random.Random(f"{name} {seed} spoilt")
    spoilt = list(history)
    for _ in range(random_.randrange(6)):
        number = random_.randrange(len(spoilt))
        answer = UNSEEN if random_.random() < 0.2 else MODELS[name][3](random_)
        spoilt[number] = spoilt[number]._replace(answer=answer)
    return spoilt


# --- every order ------------------------------------------------------------------------------------------------------


def by_brute_force(history: Sequence[Operation], model: Model) -> bool:
    """Say whether some order explains every operation that returned, and any of the others."""
    required = [operation for operation in history if operation.returned is not None]
    return order_exists(required, [operation for operation in history if operation.returned is None], model)


def order_exists(required: Sequence[Operation], possible: Sequence[Operation], model: Model) -> bool:
    """Try every part of `possible`, and every order that respects real time."""
    parts = itertools.chain.from_iterable(itertools.combinations(possible, n) for n in range(len(possible) + 1))
    return any(
        fits(order, model) and respects_real_time(order)
        for part in parts
        for order in itertools.permutations([*required, *part])
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
