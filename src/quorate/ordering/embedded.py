"""The driver of an embedded consensus core: step, persist, send, deliver. It decides nothing.

Effects are carried out in the order in which the core lists them (the rules stand in `consensus/core.py`). A send
that vouches for state is held until the persistence thread has said that the state is durable; any other leaves at
once, so the leader's Accept is on its way while its own disk works. Calls from within an effect (a delivery that
leads to a proposal) queue up as events and are taken once the present step is done.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from quorate import limits
from quorate.consensus.core import (
    Core,
    Deliver,
    Effect,
    Event,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Send,
    SendChosen,
    Tick,
    Trace,
)
from quorate.errors import Broken, Misbehaviour
from quorate.ordering import Delivered, OrderingStatus
from quorate.ordering.persister import Persister
from quorate.storage import LogStore
from quorate.transport import Transport
from quorate.types import Batch, ReplicaId, Slot
from quorate.wire import MessageCodec

log = structlog.get_logger(room="ordering")


class EmbeddedOrdering:
    """A consensus core with a store, a transport and a clock around it, as an `Ordering`.

    `recovered_chosen` is the prefix the store recovered; `on_broken` is called once when state can no longer be vouched
    for, and nothing leaves this replica after that.
    """

    def __init__(
        self,
        core: Core,
        codec: MessageCodec,
        store: LogStore,
        transport: Transport,
        recovered_chosen: Slot,
        on_broken: Callable[[Broken], None],
    ) -> None:
        self.on_delivered: Callable[[], None] = lambda: None
        self._core = core
        self._codec = codec
        self._store = store
        self._transport = transport
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._ends = array("Q", [0])
        """`_ends[slot]` is the index of the last command up to and in `slot`."""
        for size in store.counts(1, recovered_chosen):
            self._ends.append(self._ends[-1] + size)
        self._cache: dict[Slot, Batch] = {}
        """The newest delivered batches, without a gap, from `_cache_first` on."""
        self._cache_first = len(self._ends)
        self._cache_bytes = 0
        self._stored_chosen = recovered_chosen
        self._events: deque[Event] = deque()
        self._stepping = False
        self._running = False
        self._durable_seq = 0
        self._held: deque[Send] = deque()
        self._persister = Persister(store, self._durable, self._break) if store.blocks else None
        self._barrier_token = 0
        self._barriers_asked: list[Callable[[Slot], None]] = []
        self._barriers_waiting: list[Callable[[Slot], None]] = []
        self.dropped_messages = 0
        """Messages from peers not taken, for the backlog of the disk or for being nonsense."""

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen to peers and let time run."""
        self._transport.on_message = self._on_message
        await self._transport.start()
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

    def _break(self, error: Broken) -> None:
        self._running = False
        self._held.clear()
        self._on_broken(error)

    # --- the Ordering contract ---------------------------------------------------------------------------------------

    def propose(self, batch: Batch) -> bool:
        """Offer commands; False when they were not taken and never left this replica."""
        if not self._running or self._overloaded() or not self._core.accepts_proposals():
            return False
        self._step(Proposed(batch))
        return True

    def read_barrier(self, done: Callable[[Slot], None]) -> None:
        """Ask for a barrier. Whoever asks while one is under way shares the next one."""
        self._barriers_waiting.append(done)
        self._ask_barrier()

    def entries(self, after: Slot) -> list[Delivered]:
        """Return what follows slot `after`: from memory if it is recent, else a stretch of it from the store."""
        first = after + 1
        if first >= self._cache_first:
            last = min(len(self._ends) - 1, after + limits.DELIVERY_SLOTS_MAX)
            batches = [self._cache[slot] for slot in range(first, last + 1)]
        else:
            last = min(self._cache_first - 1, after + limits.DELIVERY_SLOTS_MAX)
            batches = [vote.batch for vote in self._store.read(first, last, limits.LEARN_BYTES)]
        return [Delivered(slot, self._ends[slot - 1] + 1, batch) for slot, batch in enumerate(batches, first)]

    def status(self) -> OrderingStatus:
        """Return a snapshot for operators."""
        core = self._core.status()
        leader = None if core.leader is None else f"r{core.leader}"
        return OrderingStatus(core.role, leader, core.chosen, core.chosen_known, self._ends[-1])

    # --- events ------------------------------------------------------------------------------------------------------

    def _on_message(self, sender: ReplicaId, payload: bytes) -> None:
        if not self._running or self._overloaded():
            self.dropped_messages += 1
            return
        try:
            message = self._codec.decode(payload)
        except Misbehaviour as error:
            self.dropped_messages += 1
            log.warning("message refused", sender=sender, why=str(error))
            return
        self._step(Received(sender, message))

    def _overloaded(self) -> bool:
        return self._persister is not None and self._persister.backlog_bytes > limits.PERSIST_BACKLOG_BYTES_MAX

    def _step(self, event: Event) -> None:
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        last = len(self._ends)
        while self._events:
            for effect in self._core.step(self._events.popleft()):
                _CARRY_OUT[type(effect)](self, effect)
        self._stepping = False
        self._transport.flush()
        if len(self._ends) > last:
            self.on_delivered()

    def _ask_barrier(self) -> None:
        if self._running and self._barriers_waiting and not self._barriers_asked:
            self._barriers_asked, self._barriers_waiting = self._barriers_waiting, []
            self._barrier_token += 1
            self._step(ReadRequested(self._barrier_token))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _persist(self, effect: Persist) -> None:
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
        assert effect.slot == len(self._ends), (effect.slot, len(self._ends))
        self._ends.append(self._ends[-1] + effect.batch.size)
        self._cache[effect.slot] = effect.batch
        self._cache_bytes += len(effect.batch.payload)
        # What the store does not hold yet must stay: it can be read nowhere else.
        while self._cache_bytes > limits.DELIVERY_CACHE_BYTES and self._cache_first <= self._stored_chosen:
            self._cache_bytes -= len(self._cache.pop(self._cache_first).payload)
            self._cache_first += 1

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
    Trace: EmbeddedOrdering._trace,
}
