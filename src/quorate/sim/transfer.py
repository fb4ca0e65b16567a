"""Snapshots of one replica: when they are taken, what they let go of the log, and how one comes from a peer.

Checkpoints are staggered, so that replicas do not stop all at once. The log is trimmed up to the older of two snapshots
at most; a careful replica keeps it until the newest snapshot of each live member covers it. What a peer offers is
fetched in chunks from whoever has the same snapshot, each chunk checked by its sum; the whole is made durable before
the core hears of it. Everything here dies with the process but the snapshots that were saved.
"""

from __future__ import annotations

import random
from typing import Protocol
from zlib import crc32

import msgspec

from quorate.consensus.messages import Message
from quorate.sim.app import App, Snapshot
from quorate.sim.disk import SNAPSHOTS_KEPT, Disk
from quorate.sim.swarm import Fault, Faults, Swarm
from quorate.types import Base, Membership, ReplicaId, Slot

OFFER_TICKS = 20
LIVE_TICKS = 100
"""A peer that offered nothing for so long counts as dead."""

ASK_TICKS = 6
"""A chunk that has not come by then is asked for again."""

ASKED_MAX = 2
"""Chunks asked for at once."""


class Offer(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """My newest snapshot is of `slot`; 0 if I have none."""

    slot: Slot


class Ask(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Send me chunk `number` of your snapshot of `slot`."""

    slot: Slot
    number: int


class Chunk(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Chunk `number` of `count`."""

    slot: Slot
    number: int
    count: int
    data: bytes
    checksum: int


StateMessage = Offer | Ask | Chunk

_snapshot_decoder = msgspec.msgpack.Decoder(Snapshot)


class Host(Protocol):
    """The process around it."""

    me: ReplicaId
    app: App
    delivered: Slot
    membership: Membership

    def tell(self, receiver: ReplicaId, message: StateMessage) -> None:
        """Send to a peer."""

    def snapshot(self) -> Snapshot:
        """Return the state as it is now."""

    def trim(self, base: Base) -> None:
        """Let go of the log up to `base`."""

    def install(self, snapshot: Snapshot) -> None:
        """Go on behind a snapshot from elsewhere."""

    def fetched_chunk(self) -> None:
        """Note that a transfer is under way."""


class Transfer:
    """The snapshot that is being fetched."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.count = 1
        """Chunks in all, once the first is here."""
        self.chunks: dict[int, bytes] = {}
        self.asked: dict[int, int] = {}
        """Ticks since each chunk was asked for."""

    def due(self) -> list[int]:
        """Let a tick pass; return the chunks to ask for."""
        self.asked = {number: ticks + 1 for number, ticks in self.asked.items() if ticks < ASK_TICKS}
        missing = [number for number in range(self.count) if number not in self.chunks and number not in self.asked]
        due = missing[: ASKED_MAX - len(self.asked)]
        self.asked |= dict.fromkeys(due, 0)
        return due

    def take(self, chunk: Chunk) -> None:
        """Keep a chunk that is whole."""
        self.count = chunk.count
        self.chunks[chunk.number] = chunk.data
        self.asked.pop(chunk.number, None)

    def complete(self) -> bytes | None:
        """Return the whole, once it is here."""
        if len(self.chunks) < self.count:
            return None
        return b"".join(self.chunks[number] for number in range(self.count))


class SnapshotRoom:
    """Takes, keeps, offers and fetches the snapshots of one process."""

    def __init__(self, host: Host, disk: Disk, rng: random.Random, faults: Faults, swarm: Swarm) -> None:
        self._host = host
        self._disk = disk
        self._rng = rng
        self._faults = faults
        self._swarm = swarm
        self._ticks = 0
        self._offers: dict[ReplicaId, tuple[Slot, int]] = {}
        """The newest snapshot of each peer, and when it was last offered."""
        self._needed: Slot = 0
        """A snapshot of this slot or later is needed, unless the log gets there first."""
        self._transfer: Transfer | None = None
        self._mark = self._next_mark()

    # --- own snapshots -----------------------------------------------------------------------------------------------

    def _next_mark(self) -> int:
        distance = self._swarm.checkpoint_commands
        return (self._host.app.index + self._host.me * distance // 3) // distance

    def maybe_take(self) -> None:
        """Take a snapshot, if one is due; a joiner that does not know yet who the members are has nothing to keep."""
        busy = self._disk.saving() or self._transfer is not None
        if self._next_mark() == self._mark or busy or not self._host.membership.members:
            return
        self._mark = self._next_mark()
        self._disk.save(self._host.snapshot(), self._maybe_trim)

    def _maybe_trim(self) -> None:
        snapshots = self._disk.image.snapshots
        if len(snapshots) == SNAPSHOTS_KEPT and (self._swarm.eager_trim or self._covered(snapshots[0].base.slot)):
            self._host.trim(snapshots[0].base)

    def _covered(self, slot: Slot) -> bool:
        """Say whether every live member has a snapshot of `slot` or later."""
        return all(offered >= slot for offered in self._live().values())

    def _live(self) -> dict[ReplicaId, Slot]:
        """Return the newest snapshot of each live peer."""
        return {peer: slot for peer, (slot, ticks) in sorted(self._offers.items()) if self._ticks - ticks < LIVE_TICKS}

    def tick(self) -> None:
        """Let a tick pass."""
        self._ticks += 1
        if self._ticks % OFFER_TICKS == 1:
            for peer in self._host.membership.members:
                if peer != self._host.me:
                    self._host.tell(peer, Offer(self._disk.image.ends()))
            self._maybe_trim()
        if self._transfer is None:
            self._maybe_begin()
        else:
            self._go_on(self._transfer)

    # --- a peer's ----------------------------------------------------------------------------------------------------

    def need(self, slot: Slot) -> None:
        """Fetch a snapshot of `slot` or later, now or when one is offered: the core says so only once."""
        self._needed = slot

    def _maybe_begin(self) -> None:
        offered = max(self._live().values(), default=0)
        if offered >= self._needed > self._host.delivered:
            self._transfer = Transfer(offered)

    def _go_on(self, transfer: Transfer) -> None:
        holders = [peer for peer, offered in self._live().items() if offered == transfer.slot]
        if transfer.slot <= self._host.delivered or not holders:
            self._transfer = None
            return
        for number in transfer.due():
            self._host.tell(self._rng.choice(holders), Ask(transfer.slot, number))

    def receive(self, sender: ReplicaId, message: StateMessage) -> None:
        """Take what a peer says."""
        if isinstance(message, Offer):
            self._offers[sender] = (message.slot, self._ticks)
        elif isinstance(message, Ask):
            self._answer(sender, message)
        else:
            self._take(message)

    def _answer(self, sender: ReplicaId, message: Ask) -> None:
        snapshot = next((kept for kept in self._disk.image.snapshots if kept.base.slot == message.slot), None)
        if snapshot is None:
            self._host.tell(sender, Offer(self._disk.image.ends()))
            return
        whole = msgspec.msgpack.encode(snapshot)
        size = -(-len(whole) // self._swarm.chunks)
        data = whole[message.number * size :][:size]
        checksum = crc32(data)
        if self._faults.strikes(Fault.CHUNK_DAMAGED):
            data = data[:-1] + bytes((data[-1] ^ 1 << self._rng.randrange(8),))
        self._host.tell(sender, Chunk(message.slot, message.number, self._swarm.chunks, data, checksum))

    def _take(self, chunk: Chunk) -> None:
        transfer = self._transfer
        if transfer is None or transfer.slot != chunk.slot or crc32(chunk.data) != chunk.checksum:
            return
        transfer.take(chunk)
        self._host.fetched_chunk()
        whole = transfer.complete()
        if whole is not None and not self._disk.saving():
            snapshot = _snapshot_decoder.decode(whole)
            self._disk.save(snapshot, lambda: self._install(snapshot))

    def _install(self, snapshot: Snapshot) -> None:
        self._transfer = None
        self._host.install(snapshot)
        self._mark = self._next_mark()
