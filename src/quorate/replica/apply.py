"""The delivery loop: every ordered command, in index order, exactly once, on the one lane to the service.

The loop is driven by callbacks rather than a coroutine: the next call goes out from within the callback that brought
the last answer. State that all replicas share (applied index, agreed time, session table, digest) changes here and
nowhere else, and is a function of the log and of the service's answers.

At the ends of some batches, told by `due`, the loop stands still with nothing at the service, so that a snapshot can be
taken; it goes on at `resume`.

What it refuses: to decide about a call that got no proper answer. It stops there, keeps the command, and asks
`on_trouble`; the recovery then either records a refusal as the command's outcome or rebuilds the service and starts
over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from quorate.ordering import Ordering
from quorate.protocols.canonical import delivery_bytes
from quorate.protocols.problems import problem
from quorate.replica.sessions import EXECUTE, SessionTable, Verdict
from quorate.replica.upstream import Answer, CallFailed, Upstream
from quorate.storage.snapshots import Facts
from quorate.types import NO_BASE, Batch, Command, Index, Membership, Outcome, Slot, founding
from quorate.wire import decode_batch

DIGEST_BYTES = 16
NOBODY = founding({})
ORIGIN = bytes(DIGEST_BYTES)
"""The digest of the empty history."""


_INJECTED = b"\r\n".join(
    [b"Quorate-Index: %d", b"Quorate-Time: %d", b"Quorate-Seed: %d", b"Quorate-Request-Id: %b", b"log-index: %d", b""]
)

OUTCOME_FORGOTTEN = problem(
    504,
    "outcome_unknown",
    "The request was executed, but its answer is not known here any more",
    "look at its effect; it will not be executed again",
)


class Mark(NamedTuple):
    """A place in the log, counted in commands and in bytes."""

    commands: int
    log_bytes: int


class End(msgspec.Struct, frozen=True, gc=False):
    """What holds once a whole batch is applied."""

    point: Slot
    log_bytes: int
    quiet: bool
    """The service is to be left alone then, for a snapshot."""
    membership: Membership | None
    """In force from the next slot on, if the batch changed it."""


class Turn(msgspec.Struct, frozen=True, gc=False):
    """A place in the order, and its command; the last turn of a batch bears the batch's end.

    A batch without commands makes one turn that has no command and no place of its own.
    """

    index: Index
    command: Command | None
    end: End | None


class Applied(msgspec.Struct, frozen=True, gc=False):
    """A command whose turn has been: what came of it, and whether that was stored by an earlier execution."""

    index: Index
    command: Command
    outcome: Outcome
    replayed: bool


class Applier:
    """Takes entries from the ordering and applies them to the service.

    `on_applied` is told of every command, `on_trouble` of a call without a proper answer, `on_progress` of every new
    point, `on_quiet` that the service is to be left alone until `resume(stretch)`; `due` says whether it is to
    be between two marks. `founders` are the members before any change.
    """

    def __init__(self, ordering: Ordering, lane: Upstream, depth: int = 1, founders: Membership = NOBODY) -> None:
        self.on_applied: Callable[[Applied], None] = lambda applied: None
        self.on_quiet: Callable[[int], None] = self.resume
        self.due: Callable[[Mark, Mark], bool] = lambda before, after: False
        self.on_progress: Callable[[], None] = lambda: None
        self.on_trouble: Callable[[CallFailed], None] = lambda failed: None
        self.replaying = False
        """Deliveries say Quorate-Replay: what is executed now happened before, or happens elsewhere."""
        self.executed = 0
        """Calls made to the service since this process began; replays count."""
        self.alone: Index = 0
        """A command that goes to the service with no other before or behind it on the way: its failure is in question.
        """
        self.holds = 0
        """Readers that must not see a write under way; no command is taken while there are any."""
        self.stretch = 0
        """Grows with each stop and each new beginning: what was read off the service before may be another's now."""
        self._origin = Facts(NO_BASE, founders, 0, ORIGIN, True, 0)
        self._ordering = ordering
        self._lane = lane
        self._depth = depth
        self._running = False
        self._troubled = False
        """A call failed, and it is not settled yet what becomes of its command."""
        self._generation = 0
        """Grows with each reset, so that an answer to a call made before it is not taken for one made after."""
        self.forget()

    def forget(self) -> None:
        """Go back to the beginning: nothing is applied. The service must be as fresh."""
        self.load(self._origin, SessionTable())

    def load(self, facts: Facts, sessions: SessionTable) -> None:
        """Stand where a snapshot was taken. The service must hold its state."""
        self.applied: Index = facts.base.index
        self.point: Slot = facts.base.slot
        self.digest = facts.digest
        self.digest_complete = facts.digest_complete
        """False once a command was passed over whose outcome is not known: then the digest compares with nothing."""
        self.time_ms = self._sent_time_ms = facts.time_ms
        """The agreed time at `applied`."""
        self.membership = facts.membership
        """In force after `point`."""
        self.log_bytes = facts.log_bytes
        self.sessions = sessions
        self._todo: deque[Turn] = deque()
        self._fetched: Slot = facts.base.slot
        self._fetched_mark = Mark(facts.base.index, facts.log_bytes)
        self._sent: deque[Turn] = deque()
        self._sent_ids: set[bytes] = set()
        self._troubled = self._quiet = False
        self._generation += 1
        self.stretch += 1

    def facts(self) -> Facts:
        """Return what a snapshot has to tell of the present place, which must be the end of a batch."""
        base = self._ordering.base_at(self.point)
        assert base.index == self.applied, (base, self.applied)
        return Facts(base, self.membership, self.time_ms, self.digest, self.digest_complete, self.log_bytes)

    def pass_over(self, index: Index) -> None:
        """Take as applied what the service says it has applied, up to `index`, without executing it again.

        The request ids are remembered, so that a retry is not executed either; what came of them is not known any more.
        """
        while self.applied < index and (self._todo or self._refill()):
            turn = self._todo.popleft()
            if turn.command is None:
                self._reach(turn.end)
                continue
            verdict = self.sessions.judge(turn.index, turn.command)
            if verdict.outcome is not None:
                self._record(turn, turn.command, verdict.outcome, replayed=verdict.replayed)
            else:
                self.digest_complete = False
                self._finish(turn, turn.command, OUTCOME_FORGOTTEN)

    def start(self) -> None:
        """Apply from here on."""
        self._running = True
        self.advance()

    def stop(self) -> None:
        """Apply nothing more; answers under way are ignored, and their commands are taken again at the next start."""
        self._running = self._troubled = self._quiet = False
        self._generation += 1
        self.stretch += 1
        self._todo.extendleft(reversed(self._sent))
        self._sent.clear()
        self._sent_ids.clear()
        self._sent_time_ms = self.time_ms

    def resume(self, stretch: int) -> None:
        """Go on after a quiet moment, unless that moment is over for other reasons."""
        if stretch == self.stretch:
            self._quiet = False
            self.advance()

    def advance(self) -> None:
        """Apply what there is, as far as the service may have it and readers do not hold it."""
        while self._running and not (self._troubled or self._quiet) and len(self._sent) < self._depth:
            if not self._todo and not self._refill():
                return
            turn = self._todo[0]
            verdict = EXECUTE if turn.command is None else self.sessions.judge(turn.index, turn.command)
            if self.holds or (self._sent and not self._may_follow(turn, verdict)):
                return
            self._take(self._todo.popleft(), verdict)

    def settle(self, outcome: Outcome) -> None:
        """Record `outcome` for the oldest command at the service, and go on."""
        self._troubled = False
        turn = self._sent.popleft()
        assert turn.command is not None
        self._sent_ids.discard(turn.command.request_id)
        self._finish(turn, turn.command, outcome)
        self.advance()

    @property
    def current_index(self) -> Index:
        """The index of the oldest command at the service; 0 when there is none."""
        return self._sent[0].index if self._sent else 0

    @property
    def in_flight(self) -> int:
        """How many commands are at the service."""
        return len(self._sent)

    @property
    def backlog(self) -> int:
        """How many fetched turns wait."""
        return len(self._todo)

    # --- one command -------------------------------------------------------------------------------------------------

    def _refill(self) -> bool:
        """Fetch the next batches; False when there are none."""
        entries = self._ordering.entries(self._fetched)
        for entry in entries:
            self._fetched = entry.point
            end = self._end_of(entry.point, entry.batch)
            commands = decode_batch(entry.batch) if entry.batch.size else []
            for index, command in enumerate(commands, entry.first_index):
                self._todo.append(Turn(index, command, end if index == self._fetched_mark.commands else None))
            if not commands:
                self._todo.append(Turn(0, None, end))
        return bool(entries)

    def _end_of(self, point: Slot, batch: Batch) -> End:
        before = self._fetched_mark
        after = self._fetched_mark = Mark(before.commands + batch.size, before.log_bytes + len(batch.payload))
        return End(point, after.log_bytes, self.due(before, after), Membership.of(batch))

    def _may_follow(self, turn: Turn, verdict: Verdict) -> bool:
        """Say whether a turn may go out behind others; what is not executed waits, so that indices stay in order."""
        command = turn.command
        ahead = self._sent[-1].end
        if ahead is not None and ahead.quiet:
            return False
        if command is None or verdict.outcome is not None or self.alone in (self._sent[0].index, turn.index):
            return False
        return command.request_id not in self._sent_ids

    def _take(self, turn: Turn, verdict: Verdict) -> None:
        index, command = turn.index, turn.command
        if command is None:
            self._reach(turn.end)
            return
        assert index == self.applied + len(self._sent) + 1, (index, self.applied)
        if verdict.outcome is not None:
            self._record(turn, command, verdict.outcome, replayed=verdict.replayed)
            return
        self._sent.append(turn)
        self._sent_ids.add(command.request_id)
        self._sent_time_ms = max(self._sent_time_ms, self.time_ms, command.time_ms)
        self.executed += 1
        generation = self._generation
        data = delivery_bytes(command.head, self._injected(index, command), command.body)
        self._lane.call(data, command.method, lambda answer: self._on_answer(generation, answer))

    def _injected(self, index: Index, command: Command) -> bytes:
        """The agreed facts about a delivery, the same at every replica but for the replay mark."""
        facts = (index, self._sent_time_ms, command.seed, command.request_id.hex().encode(), index)
        return _INJECTED % facts + (b"Quorate-Replay: 1\r\n" if self.replaying else b"")

    def _on_answer(self, generation: int, answer: Answer) -> None:
        if generation != self._generation:
            return
        if isinstance(answer, CallFailed):
            self._troubled = True
            self._generation += 1  # what was sent behind it fails with it
            self._lane.reset()  # and what was called since its connection closed is not sent
            self.on_trouble(answer)
        else:
            self.settle(answer)

    def _finish(self, turn: Turn, command: Command, outcome: Outcome) -> None:
        self.sessions.store(turn.index, command, outcome)
        self._record(turn, command, outcome)

    def _record(self, turn: Turn, command: Command, outcome: Outcome, *, replayed: bool = False) -> None:
        self.applied = turn.index
        self.time_ms = max(self.time_ms, command.time_ms)
        self.digest = extend_digest(self.digest, turn.index, command, outcome)
        self._reach(turn.end)
        stretch = self.stretch
        quiet = self._quiet = self._running and turn.end is not None and turn.end.quiet
        self.on_applied(Applied(turn.index, command, outcome, replayed))
        if quiet:
            self.on_quiet(stretch)

    def _reach(self, end: End | None) -> None:
        if end is not None:
            self.point, self.log_bytes = end.point, end.log_bytes
            self.membership = end.membership or self.membership
            self.on_progress()


def extend_digest(digest: bytes, index: Index, command: Command, outcome: Outcome) -> bytes:
    """Chain one step of history: place, command, and the status and body of its outcome.

    Response fields stay out: a Date or a Server version may differ between copies that hold the same state.
    """
    lengths = b"%d %d %d %d " % (index, len(command.head), len(command.body), outcome.status)
    step = b"".join((digest, lengths, command.request_id, command.head, command.body, outcome.body))
    return blake2b(step, digest_size=DIGEST_BYTES).digest()
