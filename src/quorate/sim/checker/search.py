"""Looks for an order of operations that explains the history of one object.

Strategy. The search of Wing and Gong (1993) with Lowe's just-in-time order and memory ("Testing for Linearizability",
2017): walk through calls and returns in real time, and place an operation in the order only when its return, or that
of an operation that needs it, can't be explained otherwise. A configuration is the state and the set of operations that
are placed but have not returned; one that was met before at the same return is not searched again. The set is a bit
mask over slots that are reused, so it is as wide as the history is concurrent, not as long.

Unknown outcomes blow up the search unless kept small, by two exact rules: of several with equal actions and answers
only the earliest called is tried; and they are placed last, fewest first.

A read changes no state, so a pending one that fits the state is placed at once: waiting could not help it.

What if. To find out what a refusal rests on, operations can be set aside: such a one may be left out of the order, and
if it is in it, then before its return and with its answer. One that is barred must be left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from quorate.sim.checker.history import Model, Moment, Pending

CLOCK_PERIOD = 1024
"""Configurations between two looks at the clock."""


class Configuration(NamedTuple):
    """What an order of operations has led to: just before return number `at`, in `state`, with `placed` ahead."""

    at: int
    state: Hashable
    placed: int


class OutOfTime(Exception):
    """The bound on time came before a verdict."""


class Search:
    """The search over one object, from any of the configurations in `starts`."""

    def __init__(
        self,
        model: Model,
        moments: Sequence[Moment],
        starts: Iterable[Configuration],
        is_late: Callable[[], bool],
        set_aside: AbstractSet[int] = frozenset(),
        barred: AbstractSet[int] = frozenset(),
    ) -> None:
        assert barred <= set_aside, "what must be left out may be left out"
        self.model = model
        self.moments = moments
        self.starts = starts
        self.is_late = is_late
        self.set_aside = set_aside
        self.barred = barred
        self.met: set[Configuration] = set()
        self.looked = 0

    def order_exists(self) -> bool:
        """Go depth first over the returns; each level of the stack offers the ways to explain one. Raises OutOfTime."""
        stack: list[Iterator[Configuration]] = [iter(self.starts)]
        while stack:
            configuration = next(stack[-1], None)
            if configuration is None:
                stack.pop()
            elif configuration.at == len(self.moments):
                return True
            elif configuration not in self.met:
                self.look_at_clock()
                self.met.add(configuration)
                stack.append(self.ways_past(configuration))
        return False

    def ways_past(self, start: Configuration) -> Iterator[Configuration]:
        """Yield what comes of the next return: the operation is placed by then or, set aside, may be left out."""
        moment = self.moments[start.at]
        if moment.returning.number in self.set_aside:
            yield Configuration(start.at + 1, start.state, start.placed & ~moment.returning.bit)
            if start.placed & moment.returning.bit or moment.returning in moment.reads:
                return
        yield from self.placements(start, moment)

    def placements(self, start: Configuration, moment: Moment) -> Iterator[Configuration]:
        """Yield what placing the returning operation can lead to, by way of as few unknown outcomes as possible."""
        queue = deque([(start.state, self.with_reads(moment, start.state, start.placed))])
        seen = set(queue)
        while queue:
            self.look_at_clock()
            state, placed = queue.popleft()
            if placed & moment.returning.bit:
                yield Configuration(start.at + 1, state, placed & ~moment.returning.bit)
                continue
            for unknown, candidate in self.candidates(moment, placed):
                found = self.placing(moment, candidate, state, placed)
                if found is not None and found not in seen:
                    seen.add(found)
                    (queue.append if unknown else queue.appendleft)(found)

    def candidates(self, moment: Moment, placed: int) -> Iterator[tuple[bool, Pending]]:
        """Yield the writes that could come next, and whether their outcome is unknown; of equal ones the first."""
        for write in moment.writes:
            if not placed & write.bit and write.number not in self.barred:
                yield False, write
        for equal in moment.unknown:
            for write in equal:
                if not placed & write.bit and write.number not in self.barred:
                    yield True, write
                    break

    def placing(self, moment: Moment, write: Pending, state: Hashable, placed: int) -> tuple[Hashable, int] | None:
        """Return state and mask after `write`, or None when it can't come next."""
        fits, state = self.model.step(state, write.operation.action, write.operation.answer)
        return (state, self.with_reads(moment, state, placed | write.bit)) if fits else None

    def with_reads(self, moment: Moment, state: Hashable, placed: int) -> int:
        """Add every pending read that fits `state` to the mask."""
        for _, bit, operation in moment.reads:
            if not placed & bit and self.model.step(state, operation.action, operation.answer)[0]:
                placed |= bit
        return placed

    def look_at_clock(self) -> None:
        """Raise OutOfTime when it is late, looking only once in a while."""
        if self.looked % CLOCK_PERIOD == 0 and self.is_late():
            raise OutOfTime
        self.looked += 1

    def furthest(self) -> int:
        """Return the number of the first return that no configuration has got past."""
        return max((configuration.at for configuration in self.met), default=0)

    def states_at(self, at: int) -> tuple[Hashable, ...]:
        """Return the states possible before return number `at`, each once, in the order of their representations."""
        return tuple(sorted({configuration.state for configuration in self.met if configuration.at == at}, key=repr))
