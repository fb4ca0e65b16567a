"""The sequential objects of one value: a register, a counter, and one key of a key-value store.

The keys of a store are independent, so its model is that of one key; the key itself is in the operation.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from quorate.sim.checker.history import UNSEEN


@dataclass(frozen=True)
class Read:
    """Answers the value."""


@dataclass(frozen=True)
class Write:
    """Sets the value; answers nothing that matters."""

    value: Hashable


@dataclass(frozen=True)
class Add:
    """Adds to the value, and answers the new one."""

    amount: int


class Register:
    """One value: Read answers it, Write sets it."""

    def __init__(self, initial: Hashable = None) -> None:
        self.initial = initial

    def step(self, state: Hashable, action: Hashable, answer: Hashable) -> tuple[bool, Hashable]:
        """See Model."""
        if isinstance(action, Write):
            return True, action.value
        return answer in (state, UNSEEN), state

    def is_read(self, action: Hashable, answer: Hashable) -> bool:
        """See Model."""
        return isinstance(action, Read)


class Counter:
    """One integer: Read answers it, Add changes it and answers the new value, Write sets it."""

    def __init__(self, initial: int = 0) -> None:
        self.initial: Hashable = initial

    def step(self, state: Hashable, action: Hashable, answer: Hashable) -> tuple[bool, Hashable]:
        """See Model."""
        assert isinstance(state, int)
        if isinstance(action, Write):
            return True, action.value
        value = state + action.amount if isinstance(action, Add) else state
        return answer in (value, UNSEEN), value

    def is_read(self, action: Hashable, answer: Hashable) -> bool:
        """See Model."""
        return isinstance(action, Read)


@dataclass(frozen=True)
class Get:
    """Answers the value, or None where there is none."""


@dataclass(frozen=True)
class Put:
    """Sets the value; answers nothing that matters."""

    value: Hashable


@dataclass(frozen=True)
class Delete:
    """Removes the value, and answers whether there was one."""


@dataclass(frozen=True)
class CompareAndSet:
    """Replaces the value where it is as expected, None standing for no value, and answers whether it was."""

    expected: Hashable
    value: Hashable


class KeyValue:
    """One key of a store; its state is the value, or None where there is none."""

    def __init__(self, initial: Hashable = None) -> None:
        self.initial = initial

    def step(self, state: Hashable, action: Hashable, answer: Hashable) -> tuple[bool, Hashable]:
        """See Model."""
        if isinstance(action, Put):
            return True, action.value
        if isinstance(action, Delete):
            return answer in (state is not None, UNSEEN), None
        if isinstance(action, CompareAndSet):
            equal = state == action.expected
            return answer in (equal, UNSEEN), action.value if equal else state
        return answer in (state, UNSEEN), state

    def is_read(self, action: Hashable, answer: Hashable) -> bool:
        """See Model; a Delete or CompareAndSet that was refused is a read in effect."""
        return isinstance(action, Get) or (isinstance(action, Delete | CompareAndSet) and answer is False)
