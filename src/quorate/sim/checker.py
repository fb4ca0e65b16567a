"""Decides whether a recorded history is linearizable (Herlihy and Wing 1990).

Strategy. The search of Wing and Gong (1993) with Lowe's just-in-time order and memory ("Testing for Linearizability",
2017): walk through calls and returns in real time, and place an operation in the order only when its return, or that
of an operation that needs it, can't be explained otherwise. A configuration is the state and the set of operations that
are placed but have not returned; one that was met before at the same return is not searched again. The set is a bit
mask over slots that are reused, so it is as wide as the history is concurrent, not as long.

Unknown outcomes. An operation without a return may take effect at any time after its call, or never. Three exact rules
keep these from blowing up the search: an unanswered read constrains nothing and is dropped; of several equal ones only
the earliest called is tried; and they are placed last, fewest first. What is known by other means to have happened
gets a return and the answer UNSEEN.

A read changes no state, so a pending one that fits the state is placed at once: waiting could not help it.

Keys are independent objects, and each is checked on its own (P-compositionality, Horn and Kroening 2015).

The problem is NP-complete, so there is a bound on time, and running out of it is a failure, never a pass. A refusal
names the return that no order explains: everything up to it is the shortest prefix of the history that is wrong.
"""

from __future__ import annotations

import enum
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SECONDS_MAX = 60.0
"""Default bound on one check; a history of 20,000 operations by 8 clients takes about a second."""

CLOCK_PERIOD = 1024
"""Configurations between two looks at the clock."""

STATES_SHOWN_MAX = 8
PENDING_SHOWN_MAX = 20


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

    def is_read(self, action: Hashable) -> bool:
        """Say whether `action` leaves every state as it is."""


class Verdict(NamedTuple):
    """What a check found; `reason` is empty when the history is linearizable."""

    linearizable: bool
    reason: str


def check(history: Iterable[Operation], model: Model, seconds_max: float = SECONDS_MAX) -> Verdict:
    """Check each key of `history` on its own against `model`, all of them within `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    by_key: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key, operations in by_key.items():
        reason = Search(operations, model, lambda: time.monotonic() > deadline).refusal()
        if reason:
            return Verdict(False, f"key {key!r}: {reason}")
    return Verdict(True, "")


class Configuration(NamedTuple):
    """What an order of operations has led to: just before return number `at`, in `state`, with `placed` ahead."""

    at: int
    state: Hashable
    placed: int


class Pending(NamedTuple):
    """An operation that was called and has not returned; `bit` is its place in a mask of placed operations."""

    bit: int
    operation: Operation


class Moment(NamedTuple):
    """One return, and the operations that are pending then, the returning one included."""

    returning: Pending
    reads: tuple[Pending, ...]
    writes: tuple[Pending, ...]
    unknown: tuple[tuple[Pending, ...], ...]
    """Writes that never return, those with equal actions together, in order of their calls."""


class OutOfTime(Exception):
    """The bound on time came before a verdict."""


class Search:
    """The search over one key."""

    def __init__(self, history: Sequence[Operation], model: Model, is_late: Callable[[], bool]) -> None:
        self.model = model
        self.is_late = is_late
        self.moments = moments(history, model)
        self.met: set[Configuration] = set()
        self.looked = 0

    def refusal(self) -> str:
        """Return why no order explains the history, or an empty string when one does."""
        try:
            return "" if self.order_exists() else self.explanation()
        except OutOfTime:
            return f"no verdict in the time given, {self.furthest() + 1} of {len(self.moments)} returns explained"

    def order_exists(self) -> bool:
        """Depth first over the returns; each level of the stack offers the ways to explain one return."""
        stack: list[Iterator[Configuration]] = [iter([Configuration(0, self.model.initial, 0)])]
        while stack:
            configuration = next(stack[-1], None)
            if configuration is None:
                stack.pop()
            elif configuration.at == len(self.moments):
                return True
            elif configuration not in self.met:
                self.met.add(configuration)
                stack.append(self.ways_past(configuration))
        return False

    def ways_past(self, start: Configuration) -> Iterator[Configuration]:
        """Yield what placing the returning operation can lead to, by way of as few unknown outcomes as possible."""
        moment = self.moments[start.at]
        queue = deque([(start.state, self.with_reads(moment, start.state, start.placed))])
        seen = set(queue)
        while queue:
            self.look_at_clock()
            state, placed = queue.popleft()
            if placed & moment.returning.bit:
                yield Configuration(start.at + 1, state, placed & ~moment.returning.bit)
                continue
            for unknown, candidate in candidates(moment, placed):
                found = self.placing(moment, candidate, state, placed)
                if found is not None and found not in seen:
                    seen.add(found)
                    (queue.append if unknown else queue.appendleft)(found)

    def placing(self, moment: Moment, write: Pending, state: Hashable, placed: int) -> tuple[Hashable, int] | None:
        """Return state and mask after `write`, or None when it can't come next."""
        fits, state = self.model.step(state, write.operation.action, write.operation.answer)
        return (state, self.with_reads(moment, state, placed | write.bit)) if fits else None

    def with_reads(self, moment: Moment, state: Hashable, placed: int) -> int:
        """Add every pending read that fits `state` to the mask."""
        for bit, operation in moment.reads:
            if not placed & bit and self.model.step(state, operation.action, operation.answer)[0]:
                placed |= bit
        return placed

    def look_at_clock(self) -> None:
        """Raise OutOfTime when it is late, looking only once in a while."""
        self.looked += 1
        if self.looked % CLOCK_PERIOD == 0 and self.is_late():
            raise OutOfTime

    def furthest(self) -> int:
        """Return the number of the first return that no configuration has got past."""
        return max((configuration.at for configuration in self.met), default=0)

    def explanation(self) -> str:
        """Show the first return that no order explains, the states it could meet, and what ran beside it."""
        at = self.furthest()
        moment = self.moments[at]
        states = list(dict.fromkeys(configuration.state for configuration in self.met if configuration.at == at))
        beside = [*moment.reads, *moment.writes, *(pending for equal in moment.unknown for pending in equal)]
        lines = [f"no order explains return {at + 1} of {len(self.moments)}:", f"  {shown(moment.returning.operation)}"]
        lines.append(f"states possible before it: {', '.join(map(repr, states[:STATES_SHOWN_MAX]))}")
        lines += [f"  beside it: {shown(other.operation)}" for other in beside if other is not moment.returning]
        return "\n".join(lines[: 3 + PENDING_SHOWN_MAX])


def candidates(moment: Moment, placed: int) -> Iterator[tuple[bool, Pending]]:
    """Yield the pending writes that are not placed, and whether their outcome is unknown; of equal ones the first."""
    for write in moment.writes:
        if not placed & write.bit:
            yield False, write
    for equal in moment.unknown:
        earliest = next((write for write in equal if not placed & write.bit), None)
        if earliest is not None:
            yield True, earliest


def moments(history: Sequence[Operation], model: Model) -> list[Moment]:
    """Turn a history into its returns in order of time, each with what is pending then."""
    pending: dict[int, Pending] = {}
    unknown: dict[Hashable, tuple[Pending, ...]] = {}
    free: list[int] = []
    found = []
    for _, is_return, number in events(history, model):
        operation = history[number]
        if is_return:
            found.append(moment_of(pending[number], pending, unknown, model))
            free.append(pending.pop(number).bit)
            continue
        bit = free.pop() if free else 1 << (len(pending) + sum(map(len, unknown.values())))
        if operation.returned is None:
            unknown[operation.action] = (*unknown.get(operation.action, ()), Pending(bit, operation))
        else:
            pending[number] = Pending(bit, operation)
    return found


def events(history: Sequence[Operation], model: Model) -> list[tuple[float, bool, int]]:
    """List (time, is a return, number of the operation) in order; at one instant calls come before returns."""
    listed = []
    for number, operation in enumerate(history):
        assert operation.called <= (math.inf if operation.returned is None else operation.returned), operation
        if operation.returned is not None:
            listed.append((operation.returned, True, number))
        elif model.is_read(operation.action):
            continue
        listed.append((operation.called, False, number))
    return sorted(listed)


def moment_of(
    returning: Pending, pending: dict[int, Pending], unknown: dict[Hashable, tuple[Pending, ...]], model: Model
) -> Moment:
    """Sort what is pending at a return; the returning operation is among the reads or writes too."""
    reads = tuple(other for other in pending.values() if model.is_read(other.operation.action))
    writes = tuple(other for other in pending.values() if not model.is_read(other.operation.action))
    return Moment(returning, reads, writes, tuple(unknown.values()))


def shown(operation: Operation) -> str:
    """Return one line for a reader."""
    answer = "?" if operation.answer is UNSEEN else repr(operation.answer)
    returned = "never" if operation.returned is None else f"{operation.returned:.6f}"
    return f"client {operation.client}: {operation.action!r} -> {answer}, {operation.called:.6f} to {returned}"


# --- models ----------------------------------------------------------------------------------------------------------


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

    def is_read(self, action: Hashable) -> bool:
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

    def is_read(self, action: Hashable) -> bool:
        """See Model."""
        return isinstance(action, Read)
