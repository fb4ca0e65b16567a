"""What clients saw of an object, and the same as a row of returns for the search to walk through.

Unknown outcomes. An operation without a return may take effect at any time after its call, or never; if it does, it
answers as recorded, or anything where the answer is UNSEEN. What is known by other means to have happened gets a
return and the answer UNSEEN. A read without a return constrains nothing and is dropped.

At one instant calls come before returns, so what touches is concurrent: the more lenient of the two readings.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol


class Answer(enum.Enum):
    """Stands where an answer would."""

    UNSEEN = "?"
    """The operation took effect, or may have, without its answer being seen."""


UNSEEN = Answer.UNSEEN


class Operation(NamedTuple):
    """One operation as its client saw it; times are seconds on one monotonic clock."""

    client: int
    key: Hashable
    action: Hashable
    answer: Hashable
    called: float
    returned: float | None
    """None where the outcome is unknown."""


class Model(Protocol):
    """A sequential object: what it may answer, and what it becomes. States are hashable values."""

    initial: Hashable

    def step(self, state: Hashable, action: Hashable, answer: Hashable) -> tuple[bool, Hashable]:
        """Say whether `action` on `state` may give `answer`, and return the state after it. UNSEEN fits any state."""

    def is_read(self, action: Hashable, answer: Hashable) -> bool:
        """Say whether `action`, so answered, leaves every state as it is."""


class Pending(NamedTuple):
    """An operation that was called and has not returned."""

    number: int
    """Its place in the history."""
    bit: int
    """Its place in a mask of placed operations; used again after its return."""
    operation: Operation


class Moment(NamedTuple):
    """One return, and the operations that are pending then, the returning one included."""

    returning: Pending
    reads: tuple[Pending, ...]
    writes: tuple[Pending, ...]
    unknown: tuple[tuple[Pending, ...], ...]
    """Writes that never return, those with equal actions and answers together, in order of their calls."""


def moments(history: Sequence[Operation], model: Model) -> list[Moment]:
    """Turn a history of one object into its returns in order of time, each with what is pending then."""
    pending: dict[int, Pending] = {}
    unknown: dict[Hashable, tuple[Pending, ...]] = {}
    free: list[int] = []
    found = []
    for _, is_return, number in events(history, model):
        operation = history[number]
        if is_return:
            found.append(_moment(pending[number], pending, unknown, model))
            free.append(pending.pop(number).bit)
            continue
        bit = free.pop() if free else 1 << (len(pending) + sum(map(len, unknown.values())))
        if operation.returned is None:
            alike = (operation.action, operation.answer)
            unknown[alike] = (*unknown.get(alike, ()), Pending(number, bit, operation))
        else:
            pending[number] = Pending(number, bit, operation)
    return found


def events(history: Sequence[Operation], model: Model) -> list[tuple[float, bool, int]]:
    """List (time, is a return, number of the operation) in order; at one instant calls come before returns."""
    listed = []
    for number, operation in enumerate(history):
        assert operation.called <= (math.inf if operation.returned is None else operation.returned), operation
        if operation.returned is not None:
            listed.append((operation.returned, True, number))
        elif model.is_read(operation.action, operation.answer):
            continue
        listed.append((operation.called, False, number))
    return sorted(listed)


def _moment(
    returning: Pending, pending: dict[int, Pending], unknown: dict[Hashable, tuple[Pending, ...]], model: Model
) -> Moment:
    """Sort what is pending at a return; the returning operation is among the reads or writes too."""
    reads: list[Pending] = []
    writes: list[Pending] = []
    for other in pending.values():
        (reads if model.is_read(other.operation.action, other.operation.answer) else writes).append(other)
    return Moment(returning, tuple(reads), tuple(writes), tuple(unknown.values()))
