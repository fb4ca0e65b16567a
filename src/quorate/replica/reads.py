"""Calls that stay off the log: held until their read barrier is applied, then sent to the local service.

One barrier serves every read that waits at that moment; the ordering sees to that. A read is sent with the index
applied at that time. In state mode `contract` the service takes a read's `log-index` for its own position, so there a
read must never cross a write: reads take turns with the applier.

A passed call may wait for reads and commands that the service makes through the front door meanwhile. So it has
connections of its own, takes no turns, and may have changed something when its answer fails to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from quorate.ordering import Ordering
from quorate.protocols.canonical import delivery_bytes
from quorate.protocols.fields import SAFE_METHODS
from quorate.protocols.problems import problem
from quorate.replica.apply import Applier
from quorate.replica.upstream import Answer, CallFailed, Fate, Upstream
from quorate.types import Call, Index, Outcome, ReadMode, Reply, Slot

NO_QUORUM = problem(
    503,
    "no_quorum",
    "No majority of the replicas confirmed that a read would be up to date",
    "try again; the request was not executed",
    retryable=True,
    retry_after=1,
)
READ_TIMEOUT = problem(
    504,
    "read_timeout",
    "The service did not answer in time, or this replica did not reach the state asked for",
    "try again, or ask another replica; a read changes nothing",
    retryable=True,
    retry_after=1,
)
SERVICE_DOWN = problem(
    503,
    "not_ready",
    "The service behind this replica is not up",
    "try again, or ask another replica; the request was not executed",
    retryable=True,
    retry_after=1,
)
PASS_UNKNOWN = problem(
    504,
    "outcome_unknown",
    "It is not known whether the service has executed the request",
    "it was passed on to the service of this replica alone; only the service can tell",
)
BAD_UPSTREAM = problem(
    502, "bad_upstream", "The service gave no valid HTTP answer", "this is a fault of the service, not of the request"
)

UNKNOWN: Slot = 1 << 62
"""The point of a read whose barrier has not come back."""


class Read:
    """One call on its way; answered once."""

    __slots__ = ("at_least", "call", "deadline", "done", "index", "mode", "point")

    def __init__(
        self, call: Call, mode: ReadMode, at_least: Index, deadline: float, done: Callable[[Reply], None]
    ) -> None:
        self.call = call
        self.mode = mode
        self.at_least = at_least
        self.deadline = deadline
        self.done = done
        self.point: Slot = UNKNOWN
        self.index: Index = 0

    @property
    def harmless(self) -> bool:
        """Say whether the call changes nothing, so that it may be sent again whatever became of it."""
        return self.mode is not ReadMode.PASS or self.call.method in SAFE_METHODS


class Reads:
    """The waiting room for reads. Callers bound how many there are (`len`)."""

    def __init__(
        self, ordering: Ordering, applier: Applier, pool: Upstream, passes: Upstream, *, exclusive: bool
    ) -> None:
        self._ordering = ordering
        self._applier = applier
        self._pool = pool
        self._passes = passes
        self._exclusive = exclusive
        self._loop = asyncio.get_running_loop()
        self._open: set[Read] = set()
        self.passing = 0
        """How many of them are passed calls."""
        self._barred: list[Read] = []
        """Reads that wait for the next barrier to be asked for."""
        self._asking = False
        """A barrier is under way, or about to be; what comes meanwhile needs the next one."""
        self._parked: list[Read] = []
        """Reads whose barrier is known and not yet applied, or that wait for their turn."""

    def __len__(self) -> int:
        return len(self._open)

    def take(self, read: Read) -> None:
        """Take a call and see to its answer."""
        self._open.add(read)
        self.passing += read.mode is ReadMode.PASS
        if read.mode is ReadMode.LINEARIZABLE:
            self._barred.append(read)
            self._ask_soon()
        else:
            read.point = 0
            self._park(read)

    def release(self) -> None:
        """Send what has become due; called whenever something was applied."""
        if not self._parked:
            return
        parked, self._parked = self._parked, []
        for read in parked:
            self._park(read)

    def sweep(self, *, serving: bool) -> None:
        """Answer those whose deadline has passed, and if the service is down, those that wait for it to apply more."""
        now = self._loop.time()
        for read in [read for read in self._open if read.deadline <= now]:
            self._answer(read, NO_QUORUM if read.point == UNKNOWN else READ_TIMEOUT if read.harmless else PASS_UNKNOWN)
        if not serving:
            for read in self._parked:
                self._answer(read, SERVICE_DOWN)
        self._parked = [read for read in self._parked if read in self._open]
        self._barred = [read for read in self._barred if read in self._open]

    def give_up(self) -> None:
        """Answer those that still wait for a barrier: none will come."""
        for read in [read for read in self._open if read.point == UNKNOWN]:
            self._answer(read, NO_QUORUM)

    def _ask_soon(self) -> None:
        """Ask for one barrier for all reads of this turn of the loop."""
        if not self._asking:
            self._asking = True
            self._loop.call_soon(self._ask)

    def _ask(self) -> None:
        barred, self._barred = self._barred, []
        self._ordering.read_barrier(lambda point: self._on_barrier(barred, point))

    def _on_barrier(self, barred: list[Read], point: Slot) -> None:
        self._asking = False
        for read in barred:
            if read in self._open:
                read.point = point
                self._park(read)
        if self._barred:
            self._ask_soon()

    def _park(self, read: Read) -> None:
        """Send a read that is due, else keep it until something more is applied."""
        applier = self._applier
        due = read.point <= applier.point and read.at_least <= applier.applied
        # A write that waits for readers to finish must not be starved by more of them.
        writing = applier.current_index or (applier.holds and applier.backlog)
        if not due or (self._exclusive and writing and read.mode is not ReadMode.PASS):
            self._parked.append(read)
        elif read.mode is ReadMode.PASS:
            self._pass(read)
        else:
            self._send(read)

    def _send(self, read: Read) -> None:
        read.index = self._applier.applied
        injected = b"Quorate-Index: %d\r\nlog-index: %d\r\n" % (read.index, read.index)
        self._applier.holds += self._exclusive
        data = delivery_bytes(read.call.head, injected, read.call.body)
        self._pool.call(data, read.call.method, lambda answer: self._on_answer(read, answer))

    def _on_answer(self, read: Read, answer: Answer) -> None:
        self._applier.holds -= self._exclusive
        if self._exclusive:
            self._applier.advance()  # first: whoever is answered may come with another read at once
        self._answer(read, _outcome(read, answer))

    def _pass(self, read: Read) -> None:
        read.index = self._applier.applied
        data = delivery_bytes(read.call.head, b"", read.call.body)
        self._passes.call(data, read.call.method, lambda answer: self._answer(read, _outcome(read, answer)))

    def _answer(self, read: Read, outcome: Outcome) -> None:
        if read in self._open:
            self._open.discard(read)
            self.passing -= read.mode is ReadMode.PASS
            read.done(Reply(outcome, read.index))


def _outcome(read: Read, answer: Answer) -> Outcome:
    """Return what a client hears of an answer, or of its failing to come."""
    if not isinstance(answer, CallFailed):
        return answer
    if answer.fate is Fate.BROKEN:
        return BAD_UPSTREAM
    return SERVICE_DOWN if read.harmless or answer.fate is Fate.REFUSED else PASS_UNKNOWN
