"""Repair: fetching from peers what the disk has damaged in the chosen prefix.

What is chosen is the same everywhere, so any peer's record will do, and the replica may vote meanwhile as little as
any that is away: it starts its core once its log is whole. A log is never cut at a damaged record, for what lies behind
it was vouched for (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018).

Strategy: ask one peer after another by Learn, as a lagging core would, and answer the Learns of others from what is
whole here, since they may be in the same plight. A slot that no peer has whole, or that all have trimmed away while no
snapshot here covers it, is lost: the process ends and names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import structlog

from quorate import limits
from quorate.consensus import messages as m
from quorate.consensus.core import Recovered
from quorate.errors import Misbehaviour, StorageBroken
from quorate.storage import LogStore
from quorate.transport import Channel, Transport
from quorate.types import ReplicaId, Slot, Vote
from quorate.wire import MessageCodec

REJOIN = "this replica must rejoin as a new member"

log = structlog.get_logger(room="ordering")


class Repair:
    """One replica's repair, from the start of its transport until its store has no damage left."""

    def __init__(self, store: LogStore, recovered: Recovered, transport: Transport, codec: MessageCodec) -> None:
        self._store = store
        self._base = recovered.base.slot
        self._chosen = recovered.chosen
        self._transport = transport
        self._codec = codec
        self._refused: set[ReplicaId] = set()
        """Peers that do not have the first damaged slot."""
        self._told: dict[Slot, Vote] = {}
        """What peers have told of damaged slots and is not in the store yet."""
        self._moved = asyncio.Event()

    async def run(self, peers: tuple[ReplicaId, ...]) -> None:
        """Return once the store is whole. Raises StorageBroken, naming the slot that no peer can give back."""
        if not self._store.damaged:
            return
        log.warning("log is damaged, repairing from peers", slots=self._store.damaged)
        asked = itertools.cycle(peers)
        while self._store.damaged:
            damaged = self._store.damaged[0]
            if self._refused.issuperset(peers):
                raise StorageBroken(f"log record of slot {damaged} is damaged here and no peer has it", REJOIN)
            self._moved.clear()
            self._send(next(asked), m.Learn(damaged))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), limits.RESEND_TICKS * limits.TICK_SECONDS)
            while self._told:
                await asyncio.to_thread(self._store.repair, *self._told.popitem())
                self._refused.clear()
        log.info("log is repaired")

    def on_message(self, sender: ReplicaId, payload: bytes) -> None:
        """Take what a peer says; all but Learn and its answers is left to its repetition."""
        try:
            message = self._codec.decode(payload)
        except Misbehaviour as error:
            log.warning("message refused", sender=sender, why=str(error))
            return
        match message:
            case m.Learn(first):
                self._answer(sender, first)
            case m.Learned(first, votes, chosen):
                self._take(first, votes)
                if not votes and first <= chosen:
                    self._lacks(sender, first, first)
            case m.Behind(base):
                self._lacks(sender, 1, base)

    def _answer(self, asker: ReplicaId, first: Slot) -> None:
        """Tell what is whole here from `first` on; nothing, if that slot itself is damaged."""
        whole = min((slot - 1 for slot in self._store.damaged if slot >= first), default=self._chosen)
        last = min(whole, self._chosen, first + limits.LEARN_SLOTS_MAX - 1)
        votes = self._store.read(first, last, limits.LEARN_BYTES) if self._base < first <= last else []
        self._send(asker, m.Learned(first, tuple(votes), self._chosen))

    def _take(self, first: Slot, votes: tuple[Vote, ...]) -> None:
        told = dict(enumerate(votes, first))
        self._told |= {slot: told[slot] for slot in self._store.damaged if slot in told}
        if self._told:
            self._moved.set()

    def _lacks(self, sender: ReplicaId, first: Slot, last: Slot) -> None:
        """Note that a peer has no slot from `first` to `last`; it may tell late, of one that is mended by now."""
        if any(first <= slot <= last for slot in self._store.damaged[:1]):
            self._refused.add(sender)
            self._moved.set()

    def _send(self, to: ReplicaId, message: m.Message) -> None:
        self._transport.send((to,), self._codec.encode(message), Channel.ORDER)
        self._transport.flush()
