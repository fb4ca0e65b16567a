"""The replica: takes calls from the front door, has them ordered, and answers them when they were applied here.

A call that changes state becomes a `Command` and waits, by request id, until the delivery loop has applied it,
whichever replica proposed it and however often. It is proposed again under the same id when the order has moved on
without it, and when another leadership begins: the session table makes that harmless. What a client hears when its
deadline comes (P6): 503 `not_proposed` if the command never left this replica, else 504 `outcome_unknown` with the
request id.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple, Protocol

from quorate import limits
from quorate.ordering import Ordering
from quorate.protocols.problems import problem
from quorate.replica.apply import Applied, Applier
from quorate.replica.reads import Read, Reads
from quorate.replica.sessions import KEY_REUSED
from quorate.replica.tunnels import Tunnels, Upgrade
from quorate.types import Ballot, Call, Command, Index, Outcome, ReadMode, Reply, Slot
from quorate.wire import encode_batch, encode_command

ID_BYTES = 16

OVERLOADED = problem(
    503,
    "overloaded",
    "This replica holds as many requests as it may",
    "try again a little later; the request was not executed",
    retryable=True,
    retry_after=1,
)
NOT_READY = problem(
    503,
    "not_ready",
    "This replica is catching up or its service is down",
    "try again, or ask another replica; the request was not executed",
    retryable=True,
    retry_after=1,
)
DISK_FULL = problem(
    507,
    "disk_full",
    "The disk of this replica is all but full",
    "ask another replica, or try again once there is room; the request was not executed",
    retryable=True,
    retry_after=5,
)
KEY_IN_FLIGHT = problem(
    409,
    "key_in_flight",
    "The first request with this Idempotency-Key is still being executed",
    "try again a little later with the same key to get its answer",
    retry_after=1,
)


def not_proposed(request_id: bytes) -> Outcome:
    """The refusal of a command that never left this replica (P6)."""
    return problem(
        503,
        "not_proposed",
        "The request found no leader, or no room in the order, in time",
        "the request was not executed and may be sent again as it is",
        retryable=True,
        retry_after=1,
        request_id=request_id,
    )


def outcome_unknown(request_id: bytes) -> Outcome:
    """The refusal of a command that may have been or may yet be executed (P6)."""
    return problem(
        504,
        "outcome_unknown",
        "It is not known in time whether the request was executed",
        "ask /.well-known/quorate/outcomes/ for its request id, or repeat it if it bore an Idempotency-Key",
        request_id=request_id,
    )


class Readiness(Protocol):
    """Whether this copy may serve clients."""

    @property
    def ready(self) -> bool:
        """The service is up and caught up."""
        ...


class Waiter:
    """A command of one of our clients, until it was applied or its deadline came."""

    __slots__ = (
        "born_at",
        "command",
        "deadline",
        "done",
        "fingerprint",
        "horizon",
        "leadership",
        "offered_at",
        "seed",
        "size",
        "taken",
    )

    def __init__(self, command: Command, deadline: float, done: Callable[[Reply], None], now: float) -> None:
        self.command = encode_command(command)
        self.fingerprint = command.fingerprint
        self.seed = command.seed
        """Tells this submission from another one under the same key, to whichever replica it was made."""
        self.deadline = deadline
        self.done = done
        self.size = len(self.command)
        self.born_at = self.offered_at = now
        self.taken = False
        """The ordering has had it at least once: from then on its outcome is unknown until it is delivered."""
        self.leadership: Ballot | None = None
        """Under which it was offered last: under another one it may be forgotten, for it went to who led before."""
        self.horizon: Slot | None = None
        """Once applied so far without having met the command, it is proposed again."""


class ReplicaStatistics(NamedTuple):
    """A snapshot for operators; the counters run since this process began."""

    in_flight: int
    in_flight_bytes: int
    submitted: int
    proposed: int
    executed: int
    replayed: int
    sessions: int
    tunnels: int
    """Those still being opened included."""


class Replica:
    """One copy's answer desk. `readiness` says whether the service is up and caught up.

    `observe` is given the seconds from each submission to its answer.
    """

    def __init__(
        self,
        ordering: Ordering,
        applier: Applier,
        reads: Reads,
        tunnels: Tunnels,
        readiness: Readiness,
        observe: Callable[[float], None],
    ) -> None:
        self._ordering = ordering
        self._applier = applier
        self._reads = reads
        self._tunnels = tunnels
        self._readiness = readiness
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[bytes, Waiter] = {}
        self._waiting_bytes = 0
        self._outbox: dict[bytes, Waiter] = {}
        """Commands to be proposed, by request id."""
        self._flush_scheduled = False
        self._leadership: Ballot | None = None
        """The last that was seen by the sweep."""
        self._closed = False
        self._submitted = self._proposed = self._replayed = 0
        applier.on_applied = self._on_applied
        applier.on_progress = reads.release
        self._sweep()

    # --- calls -------------------------------------------------------------------------------------------------------

    def submit(
        self, call: Call, key: bytes | None, fingerprint: bytes, deadline: float, done: Callable[[Reply], None]
    ) -> None:
        """Have a call ordered and executed; `done` is called once, with its outcome or a refusal.

        `key` is the client's Idempotency-Key, `fingerprint` 16 bytes over the request it may be used for. `deadline` is
        in the event loop's time.
        """
        request_id = secrets.token_bytes(ID_BYTES) if key is None else blake2b(key, digest_size=ID_BYTES).digest()
        fingerprint = fingerprint if key is not None else b""
        refusal = self._refusal() or self._answer_of(request_id, fingerprint)
        if refusal is None and not self._ordering.writable:
            refusal = Reply(DISK_FULL, 0, request_id)
        if refusal is not None:
            done(refusal)
            return
        command = Command(
            request_id,
            self._applier.applied,
            time.time_ns() // 1_000_000,
            secrets.randbits(64),
            fingerprint,
            call.method,
            call.head,
            call.body,
        )
        waiter = Waiter(command, deadline, done, self._loop.time())
        self._waiters[request_id] = waiter
        self._waiting_bytes += waiter.size
        self._submitted += 1
        self._offer(request_id, waiter)

    def read(self, call: Call, mode: ReadMode, at_least: Index, deadline: float, done: Callable[[Reply], None]) -> None:
        """Serve a call off the log; a linearizable or stale one not before index `at_least` is applied here."""
        passing = mode is ReadMode.PASS
        refusal = self._refusal(serving=not passing)
        if passing and self._reads.passing >= limits.PASSED_MAX:
            refusal = Reply(OVERLOADED, 0)
        if refusal is not None:
            done(refusal)
        else:
            self._reads.take(Read(call, mode, at_least, deadline, done))

    def upgrade(
        self, call: Call, accept: bytes, deadline: float, done: Callable[[Outcome, Upgrade | None], None]
    ) -> None:
        """Ask the service for an upgrade, as `Tunnels.open` does, if there is room for one more."""
        if self._closed:
            done(NOT_READY, None)
        elif not self._tunnels.room:
            done(OVERLOADED, None)
        else:
            self._tunnels.open(call, accept, deadline, done)

    def outcome(self, request_id: bytes) -> Reply | None:
        """Return what came of an earlier request, if this copy has executed it and still knows."""
        session = self._applier.sessions.find(request_id)
        return None if session is None else Reply(session.outcome, session.index, request_id, replayed=True)

    def in_flight(self) -> int:
        """Return how many calls have not been answered."""
        return len(self._waiters) + len(self._reads)

    def statistics(self) -> ReplicaStatistics:
        """Return a snapshot for operators."""
        return ReplicaStatistics(
            in_flight=self.in_flight(),
            in_flight_bytes=self._waiting_bytes,
            submitted=self._submitted,
            proposed=self._proposed,
            executed=self._applier.executed,
            replayed=self._replayed,
            sessions=len(self._applier.sessions),
            tunnels=len(self._tunnels),
        )

    def close(self) -> None:
        """Take no more calls; those under way are still answered."""
        self._closed = True

    def give_up(self) -> None:
        """Answer every call that waits for the order, which this replica will hear nothing of any more."""
        self.close()
        for request_id, waiter in list(self._waiters.items()):
            self._expire(request_id, waiter)
        self._reads.give_up()

    def _refusal(self, *, serving: bool = True) -> Reply | None:
        if self._closed or (serving and not self._readiness.ready):
            return Reply(NOT_READY, 0)
        if self.in_flight() >= limits.IN_FLIGHT_MAX or self._waiting_bytes >= limits.IN_FLIGHT_BYTES_MAX:
            return Reply(OVERLOADED, 0)
        return None

    def _answer_of(self, request_id: bytes, fingerprint: bytes) -> Reply | None:
        """Return the stored answer of a request id, or the refusal of a second use while the first is under way."""
        if request_id in self._waiters:
            return Reply(KEY_IN_FLIGHT, 0, request_id)
        session = self._applier.sessions.find(request_id)
        if session is None:
            return None
        if session.fingerprint != fingerprint:
            return Reply(KEY_REUSED, session.index, request_id)
        self._replayed += 1
        return Reply(session.outcome, session.index, request_id, replayed=True)

    # --- towards the order -------------------------------------------------------------------------------------------

    def _offer(self, request_id: bytes, waiter: Waiter) -> None:
        self._outbox[request_id] = waiter
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Propose together what waits, at the end of this turn of the loop, once that is as much as is under way.

        So a lone command leaves at once, and under load the commands of half the clients share a batch, its messages
        and its fsync, while those of the other half are executed.
        """
        if not self._flush_scheduled and 2 * len(self._outbox) >= len(self._waiters):
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        while self._outbox:
            chunk = self._take_chunk()
            if not self._ordering.propose(encode_batch([waiter.command for waiter in chunk.values()])):
                self._outbox = chunk | self._outbox  # the sweep comes back to it
                return
            now = self._loop.time()
            for waiter in chunk.values():
                waiter.offered_at, waiter.horizon, waiter.taken = now, None, True
                waiter.leadership = self._leadership
            self._proposed += len(chunk)

    def _take_chunk(self) -> dict[bytes, Waiter]:
        """Take the head of the outbox, no more than fits a batch, but one command at least."""
        chunk: dict[bytes, Waiter] = {}
        size = 0
        while self._outbox:
            request_id, waiter = next(iter(self._outbox.items()))
            size += waiter.size
            if chunk and size > limits.BATCH_BYTES_MAX:
                break
            chunk[request_id] = self._outbox.pop(request_id)
        return chunk

    def _on_applied(self, applied: Applied) -> None:
        command = applied.command
        waiter = self._waiters.get(command.request_id)
        # Another request under the same key may come before ours; it is ours only if it is the same request.
        if waiter is not None and waiter.fingerprint == command.fingerprint:
            self._forget(command.request_id, waiter)
            session = self._applier.sessions.find(command.request_id) if applied.replayed else None
            index = applied.index if session is None else session.index
            self._observe(self._loop.time() - waiter.born_at)
            replayed = applied.replayed or command.seed != waiter.seed
            waiter.done(Reply(applied.outcome, index, command.request_id, replayed))
        self._reads.release()
        if self._outbox:
            self._flush_soon()

    def _forget(self, request_id: bytes, waiter: Waiter) -> None:
        del self._waiters[request_id]
        self._outbox.pop(request_id, None)
        self._waiting_bytes -= waiter.size

    # --- deadlines ---------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Look at every waiting call; one timer for all of them."""
        if self._closed and not self.in_flight():
            return
        self._loop.call_later(limits.SWEEP_SECONDS, self._sweep)
        now = self._loop.time()
        self._leadership = self._ordering.status().leadership or self._leadership
        for request_id, waiter in list(self._waiters.items()):
            waited_long = not waiter.taken and now - waiter.born_at > limits.UNPROPOSED_SECONDS_MAX
            if now >= waiter.deadline or waited_long:
                self._expire(request_id, waiter)
            elif waiter.taken and self._may_be_lost(waiter, now):
                self._propose_again(request_id, waiter)
        self._reads.sweep(serving=self._readiness.ready)
        self._flush()

    def _expire(self, request_id: bytes, waiter: Waiter) -> None:
        self._forget(request_id, waiter)
        refusal = outcome_unknown(request_id) if waiter.taken else not_proposed(request_id)
        waiter.done(Reply(refusal, 0, request_id))

    def _may_be_lost(self, waiter: Waiter, now: float) -> bool:
        return waiter.leadership != self._leadership or now - waiter.offered_at > limits.REPROPOSE_SECONDS

    def _propose_again(self, request_id: bytes, waiter: Waiter) -> None:
        """Offer a command again, but only once everything chosen since was applied: it may just be waiting its turn."""
        if waiter.horizon is None:
            waiter.horizon = self._ordering.status().point
        elif self._applier.point >= waiter.horizon:
            self._offer(request_id, waiter)
