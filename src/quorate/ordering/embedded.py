"""The driver of an embedded consensus core: step, persist, send, deliver. It decides nothing.

Effects are carried out in the order in which the core lists them (the rules stand in `consensus/core.py`). A send
that vouches for state is held until the persistence thread has said that the state is durable; any other leaves at
once, so the leader's Accept is on its way while its own disk works. Calls from within an effect (a delivery that
leads to a proposal) queue up as events and are taken once the present step is done.

A disk that fills up takes no more commands from clients while there is still room to finish what others order, and
nothing from peers either before a commit could fail; one that has become slow keeps no leader (FAULTS.md §2, rows 25
and 34).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from quorate import limits
from quorate.consensus.core import (
    Change,
    ChangeAnswered,
    ChangeRequested,
    Core,
    Deliver,
    Effect,
    Event,
    HandOverRequested,
    Installed,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Reconfigured,
    Recovered,
    Send,
    SendChosen,
    SnapshotNeeded,
    Tick,
    Trace,
    Trimmed,
)
from quorate.errors import Broken, Misbehaviour
from quorate.ordering import Delivered, OrderingStatus
from quorate.ordering.history import History
from quorate.ordering.persister import Persister
from quorate.ordering.repair import Repair
from quorate.storage import LogStore
from quorate.storage.room import Room
from quorate.transport import Channel, Transport
from quorate.types import Base, Batch, Membership, ReplicaId, Slot
from quorate.wire import MessageCodec

log = structlog.get_logger(room="ordering")


class EmbeddedOrdering:
    """A consensus core with a store, a transport and a clock around it, as an `Ordering`.

    `recovered` is what the store gave the core; `on_broken` is called once when state can no longer be vouched for, and
    nothing leaves this replica after that.
    """

    def __init__(
        self,
        me: ReplicaId,
        core: Core,
        codec: MessageCodec,
        store: LogStore,
        transport: Transport,
        recovered: Recovered,
        on_broken: Callable[[Broken], None],
    ) -> None:
        self.on_delivered: Callable[[], None] = lambda: None
        self.on_snapshot_needed: Callable[[Slot], None] = lambda slot: None
        self._me = me
        self._core = core
        self._codec = codec
        self._store = store
        self._transport = transport
        self._recovered = recovered
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._history = History(store, recovered.base, recovered.base.slot)
        """Empty until `start`, since the store may have to be repaired before it can be read."""
        self._stored_chosen = recovered.chosen
        self._events: deque[Event] = deque()
        self._stepping = False
        self._running = False
        self._durable_seq = 0
        self._held: deque[Send] = deque()
        self._unstored: deque[Persist] = deque()
        """Persists on their way to the disk."""
        self._room = Room.OK
        self._room_ticks = 0
        self._changes: dict[int, Callable[[str], None]] = {}
        self._change_token = 0
        self._persister = Persister(store, self._durable, self._break) if store.blocks else None
        self._barrier_token = 0
        self._barriers_asked: list[Callable[[Slot], None]] = []
        self._barriers_waiting: list[Callable[[Slot], None]] = []
        self.dropped_messages = 0
        """Messages from peers not taken, for the backlog of the disk or for being nonsense."""

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen to peers, mend what the disk has damaged, and let time run. Raises Broken if that is beyond repair."""
        repair = Repair(self._store, self._recovered, self._transport, self._codec)
        self._transport.on_refused = self._break
        hear = repair.on_message
        self._transport.subscribe(Channel.ORDER, lambda sender, payload: hear(sender, payload))
        await self._transport.start()
        await repair.run(tuple(member for member in self.membership.members if member != self._me))
        hear = self.on_message
        self._history = History(self._store, self._recovered.base, self._recovered.chosen)
        self._running = True
        self._tick()

    async def close(self) -> None:
        """Stop: nothing is proposed, sent or delivered any more, and the store is closed."""
        self._running = False
        await self._transport.close()
        if self._persister is not None:
            self._persister.close()
        self._store.close()

    def _tick(self) -> None:
        if self._running:
            self._loop.call_later(limits.TICK_SECONDS, self._tick)
            self._step(Tick())
            self._watch_disk()

    def _watch_disk(self) -> None:
        self._room_ticks += 1
        if self._room_ticks < limits.ROOM_TICKS:
            return
        self._room_ticks = 0
        before, self._room = self._room, self._store.room()
        if self._room is not before:
            log.warning("room on disk", room=self._room.value, before=before.value)
        # Once, and not for as long as it lasts: where all are full, none is better than another.
        filled = before is Room.OK and self._room is not Room.OK
        slow = self._persister is not None and self._persister.stalled_seconds() > limits.DISK_STALL_SECONDS_MAX
        if filled or slow:
            self.hand_over()

    def _break(self, error: Broken) -> None:
        self._running = False
        self._held.clear()
        self._on_broken(error)

    # --- the Ordering contract ---------------------------------------------------------------------------------------

    def propose(self, batch: Batch) -> bool:
        """Offer commands; False when they were not taken and never left this replica."""
        if not self.writable or self._deaf() or not self._core.accepts_proposals():
            return False
        self._step(Proposed(batch))
        return True

    def read_barrier(self, done: Callable[[Slot], None]) -> None:
        """Ask for a barrier. Whoever asks while one is under way shares the next one."""
        self._barriers_waiting.append(done)
        self._ask_barrier()

    def entries(self, after: Slot) -> list[Delivered]:
        """Return what follows slot `after`. Raises LogTrimmed."""
        return self._history.entries(after)

    @property
    def writable(self) -> bool:
        """Whether there is room on the disk for commands of clients."""
        return self._room is Room.OK

    @property
    def membership(self) -> Membership:
        """Who takes part, as far as it is known here."""
        return self._core.status().membership

    @property
    def base(self) -> Base:
        """Where the log begins."""
        return self._history.base

    def base_at(self, point: Slot) -> Base:
        """Return what a snapshot of the state as of slot `point` is based on."""
        if point == self.base.slot:
            return self.base
        unstored = [vote for persist in self._unstored for slot, vote in persist.votes if slot == point]
        vote = unstored[-1] if unstored else self._store.read(point, point, 0)[0]
        return Base(point, self._history.index_at(point), vote.ballot)

    def trim(self, base: Base) -> None:
        """Drop the log up to `base`."""
        if self._running and base.slot > self.base.slot:
            self._history.trim(base)
            self._step(Trimmed(base))

    def install(self, base: Base, membership: Membership) -> None:
        """Go on behind a durable snapshot, unless the log has got past it meanwhile."""
        assert not self._stepping
        if self._running and base.slot > self._history.last:
            self._history.restart(base)
            self._step(Installed(base, membership))
            self.on_delivered()

    def change(self, change: Change, done: Callable[[str], None]) -> None:
        """Ask for a change of membership. One is asked for at a time: a later one takes its place."""
        if not self._running:
            done("this replica is only starting; ask again")
            return
        self._change_token += 1
        self._changes = {self._change_token: done}
        self._step(ChangeRequested(self._change_token, change))

    def hand_over(self) -> None:
        """Let another replica lead, if this one does."""
        if self._running:
            self._step(HandOverRequested())

    def status(self) -> OrderingStatus:
        """Return a snapshot for operators."""
        core = self._core.status()
        return OrderingStatus(
            role=core.role,
            leader=None if core.leader is None else f"r{core.leader}",
            leadership=core.leadership,
            point=core.chosen,
            point_known=core.chosen_known,
            last_index=self._history.last_index,
            reached=core.reached,
        )

    # --- events ------------------------------------------------------------------------------------------------------

    def on_message(self, sender: ReplicaId, payload: bytes) -> None:
        """Take what a peer says."""
        if self._deaf() or self._room is Room.FULL:
            self.dropped_messages += 1
            return
        try:
            message = self._codec.decode(payload)
        except Misbehaviour as error:
            self.dropped_messages += 1
            log.warning("message refused", sender=sender, why=str(error))
            return
        self._step(Received(sender, message))

    def _deaf(self) -> bool:
        """Say whether nothing can be taken: not running, or the disk has fallen too far behind."""
        backlog = 0 if self._persister is None else self._persister.backlog_bytes
        return not self._running or backlog > limits.PERSIST_BACKLOG_BYTES_MAX

    def _step(self, event: Event) -> None:
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        last = self._history.last
        while self._events:
            for effect in self._core.step(self._events.popleft()):
                _CARRY_OUT[type(effect)](self, effect)
        self._stepping = False
        self._transport.flush()
        if self._history.last > last:
            self.on_delivered()

    def _ask_barrier(self) -> None:
        if self._running and self._barriers_waiting and not self._barriers_asked:
            self._barriers_asked, self._barriers_waiting = self._barriers_waiting, []
            self._barrier_token += 1
            self._step(ReadRequested(self._barrier_token))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _persist(self, effect: Persist) -> None:
        self._unstored.append(effect)
        if self._persister is not None:
            self._persister.submit(effect)
        else:
            self._store.commit([effect])
            self._durable(effect)

    def _durable(self, persist: Persist) -> None:
        """Everything up to `persist` survives a power cut: release what waited for it."""
        if not self._running:
            return
        self._durable_seq = persist.seq
        self._stored_chosen = persist.chosen
        while self._unstored and self._unstored[0].seq <= persist.seq:
            membership = self._unstored.popleft().membership
            if membership is not None:
                # No sooner: who leaves must not be let go while its vote may still be needed for its leaving.
                self._transport.reconfigure(membership)
        while self._held and self._held[0].after <= persist.seq:
            self._transmit(self._held.popleft())
        self._step(Persisted(persist.seq))

    def _send(self, effect: Send) -> None:
        if effect.after > self._durable_seq:
            self._held.append(effect)
        else:
            self._transmit(effect)

    def _transmit(self, effect: Send) -> None:
        self._transport.send(effect.to, self._codec.encode(effect.message))

    def _send_chosen(self, effect: SendChosen) -> None:
        last = min(effect.last, effect.first + limits.LEARN_SLOTS_MAX - 1)
        votes = self._store.read(effect.first, last, limits.LEARN_BYTES)
        if votes:
            message = self._core.chosen_message(effect.first, votes)
            self._transport.send((effect.to,), self._codec.encode(message))

    def _deliver(self, effect: Deliver) -> None:
        self._history.append(effect.slot, effect.batch, self._stored_chosen)

    def _reconfigured(self, effect: Reconfigured) -> None:
        membership = effect.membership
        log.info("membership", version=membership.version, voters=membership.voters, learners=membership.learners)

    def _change_answered(self, effect: ChangeAnswered) -> None:
        done = self._changes.pop(effect.token, None)
        if done is not None:
            done(effect.refusal)

    def _snapshot_needed(self, effect: SnapshotNeeded) -> None:
        self.on_snapshot_needed(effect.slot)

    def _read_ready(self, effect: ReadReady) -> None:
        if effect.token != self._barrier_token:
            return
        asked, self._barriers_asked = self._barriers_asked, []
        for done in asked:
            done(effect.slot)
        self._ask_barrier()

    def _trace(self, effect: Trace) -> None:
        log.info(effect.what, **effect.detail)


_CARRY_OUT: dict[type[Effect], Callable[[EmbeddedOrdering, Any], None]] = {
    Persist: EmbeddedOrdering._persist,
    Send: EmbeddedOrdering._send,
    SendChosen: EmbeddedOrdering._send_chosen,
    Deliver: EmbeddedOrdering._deliver,
    ReadReady: EmbeddedOrdering._read_ready,
    Reconfigured: EmbeddedOrdering._reconfigured,
    ChangeAnswered: EmbeddedOrdering._change_answered,
    SnapshotNeeded: EmbeddedOrdering._snapshot_needed,
    Trace: EmbeddedOrdering._trace,
}
