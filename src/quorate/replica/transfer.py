"""State transfer: snapshots from one replica to another, over a channel of their own that may lose anything.

Every replica tells the others about once a second how far it is and what snapshot it offers. One that needs a snapshot,
or would be back sooner by one than by executing what it has missed, fetches the newest: the manifest from the peer that
offers it, verified by its hash; the chunks, by their hashes, from every peer that is heard.

Checkpoints are staggered, so peers usually hold snapshots of different indices. Their chunks are the same where the
state is: a part of the service's state that did not change (and did not move), sessions that are in both tables and
whose answers agree in every field. A peer that has nothing in common is found out and left alone; then one source does
all. What was fetched is offered in turn.

Rules: no chunk is written before its hash was checked. What a peer sends wrong costs it the rest of this transfer. A
transfer that is broken off, be it by the death of this process, goes on where it was, even under a newer manifest.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import structlog

from quorate import limits
from quorate.errors import Misbehaviour, StorageBroken
from quorate.ordering import Ordering
from quorate.replica.chunk_requests import ChunkRequests
from quorate.storage.snapshots import Manifest, Partial, Snapshot, SnapshotStore, chunk_hash, unseal
from quorate.types import Index, ReplicaId, Slot
from quorate.wire import MessageCodec

log = structlog.get_logger(room="replica")

INBOX_MAX = limits.REPLICAS_MAX * limits.SNAPSHOT_REQUESTS_MAX

# --- messages --------------------------------------------------------------------------------------------------------


class Offer(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """How far a replica has applied, and its newest snapshot: `snapshot` is its manifest's hash, empty for none."""

    applied: Index
    slot: Slot
    index: Index
    size: int
    snapshot: bytes


class AskManifest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Asks for the sealed manifest with that hash, from a byte on."""

    snapshot: bytes
    offset: int


class ManifestPart(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A part of a sealed manifest of `total` bytes."""

    snapshot: bytes
    offset: int
    total: int
    data: bytes


class AskChunk(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Asks for a chunk, whichever snapshot it is in; `snapshot` is the one it is for."""

    snapshot: bytes
    hash: bytes


class ChunkData(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A chunk; its hash says which."""

    data: bytes


class Missing(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The manifest or chunk with that hash is not here."""

    hash: bytes


Ask = AskManifest | AskChunk
Answer = ManifestPart | ChunkData | Missing
CODEC = MessageCodec(Offer | Ask | Answer)


class StateChannel(Protocol):
    """The way to the other replicas; lossy, and not to be trusted with more than authenticity."""

    def peers(self) -> tuple[ReplicaId, ...]:
        """Return whom there is a way to, this replica not among them."""
        ...

    def send(self, to: tuple[ReplicaId, ...], payload: bytes) -> None:
        """Send, or drop."""
        ...


class TransferStatistics(NamedTuple):
    """What operators want to see; counters run since this process began."""

    fetching: Index
    """Of the snapshot under way; 0 if there is none."""
    chunks_missing: int
    fetched: dict[ReplicaId, int]
    """Chunks taken from each peer."""
    served: int
    """Chunks given to peers."""
    refused: int
    """Messages that were not what they should be."""


def beats_replay(index: Index, size: int, applied: Index) -> bool:
    """Say whether a snapshot of `size` bytes at `index` brings a copy back sooner than executing what lies between."""
    return index - applied > limits.SNAPSHOT_LEAD_ENTRIES + size // limits.REPLAYED_ENTRY_BYTES


class _Heard(NamedTuple):
    offer: Offer
    at: float


class Transfer:
    """One replica's part in all this. `on_overtaken` is told, until it helps, that a snapshot here leads further."""

    def __init__(
        self,
        channel: StateChannel,
        store: SnapshotStore,
        ordering: Ordering,
        applied: Callable[[], Index],
        rng: random.Random,
    ) -> None:
        self.on_overtaken: Callable[[], None] = lambda: None
        self._channel = channel
        self._store = store
        self._ordering = ordering
        self._applied = applied
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._heard: dict[ReplicaId, _Heard] = {}
        self._needed: Slot = 0
        """A snapshot of this slot or later is asked for."""
        self._news = asyncio.Event()
        """It may be time to fetch something."""
        self._came = asyncio.Event()
        """A snapshot was fetched."""
        self._failed_at: dict[ReplicaId, float] = {}
        self._asks: deque[tuple[ReplicaId, Ask]] = deque()
        self._asked = asyncio.Event()
        self._inbox: asyncio.Queue[tuple[ReplicaId, Answer]] = asyncio.Queue(INBOX_MAX)
        self._partial: Partial | None = None
        self._fetched: Counter[ReplicaId] = Counter()
        self._served = self._refused = 0
        ordering.on_snapshot_needed = self.want

    async def run(self) -> None:
        """Tell, serve and fetch for ever; ends by being cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_for_ever())
            tasks.create_task(self._serve_for_ever())
            tasks.create_task(self._fetch_for_ever())

    def want(self, slot: Slot) -> None:
        """Get a snapshot of `slot` or later: nothing else leads on from here."""
        self._needed = max(self._needed, slot)
        self._look()

    async def obtain(self, slot: Slot) -> None:
        """Return once a snapshot of `slot` or later is here."""
        self.want(slot)
        while self._newest_slot() < slot:
            self._came.clear()
            await self._came.wait()

    def live(self) -> dict[ReplicaId, Slot]:
        """Return the slot of the newest snapshot of every peer that was heard lately; 0 where it has none."""
        return {peer: heard.offer.slot for peer, heard in self._heard.items() if self._lately(heard)}

    def statistics(self) -> TransferStatistics:
        """Return a snapshot for operators."""
        fetching, missing = (0, 0) if self._partial is None else (self._partial.index, len(self._partial.missing))
        return TransferStatistics(fetching, missing, dict(self._fetched), self._served, self._refused)

    def on_message(self, sender: ReplicaId, payload: bytes) -> None:
        """Take what came over the channel."""
        try:
            message = CODEC.decode(payload)
        except Misbehaviour as error:
            self._refused += 1
            log.warning("message refused", sender=sender, why=str(error))
            return
        if isinstance(message, Offer):
            self._on_offer(sender, message)
        elif isinstance(message, Ask):
            if len(self._asks) < limits.SNAPSHOT_SERVED_MAX:
                self._asks.append((sender, message))
                self._asked.set()
        elif not self._inbox.full():
            self._inbox.put_nowait((sender, message))

    # --- telling -----------------------------------------------------------------------------------------------------

    async def _tell_for_ever(self) -> None:
        while True:
            self._tell(self._channel.peers())
            self._look()
            await asyncio.sleep(limits.SNAPSHOT_TELL_SECONDS)

    def _tell(self, to: tuple[ReplicaId, ...]) -> None:
        held = self._store.held
        offered = (held[0].slot, held[0].index, held[0].size, held[0].hash) if held else (0, 0, 0, b"")
        self._channel.send(to, CODEC.encode(Offer(self._applied(), *offered)))

    def _on_offer(self, sender: ReplicaId, offer: Offer) -> None:
        before = self._heard.get(sender)
        self._heard[sender] = _Heard(offer, self._loop.time())
        if before is None or not self._lately(before):
            self._tell((sender,))  # it has just come, and may be in need
        self._news.set()

    def _lately(self, heard: _Heard) -> bool:
        return self._loop.time() - heard.at < limits.SNAPSHOT_HEARD_SECONDS

    def _look(self) -> None:
        """See whether a snapshot that is here leads further, or one that is not should be fetched."""
        held = self._store.held
        beyond = held and held[0].slot > self._ordering.status().point
        if held and (beyond or beats_replay(held[0].index, held[0].size, self._applied())):
            self.on_overtaken()
        self._news.set()

    def _newest_slot(self) -> Slot:
        held = self._store.held
        return held[0].slot if held else 0

    # --- serving -----------------------------------------------------------------------------------------------------

    async def _serve_for_ever(self) -> None:
        while True:
            while self._asks:
                peer, ask = self._asks.popleft()
                answer = await asyncio.to_thread(self._answer, ask)
                self._served += isinstance(answer, ChunkData)
                self._channel.send((peer,), CODEC.encode(answer))
            self._asked.clear()
            await self._asked.wait()

    def _answer(self, ask: Ask) -> Answer:
        """Look it up; runs in a thread."""
        if isinstance(ask, AskManifest):
            data = self._store.sealed(ask.snapshot)
            if data is None:
                return Missing(ask.snapshot)
            part = data[ask.offset : ask.offset + limits.SNAPSHOT_CHUNK_BYTES]
            return ManifestPart(ask.snapshot, ask.offset, len(data), part)
        self._store.pin(ask.snapshot)
        chunk = self._store.chunk(ask.hash)
        return Missing(ask.hash) if chunk is None else ChunkData(chunk)

    # --- fetching ----------------------------------------------------------------------------------------------------

    async def _fetch_for_ever(self) -> None:
        while True:
            self._news.clear()
            source = self._source()
            if source is None:
                await self._news.wait()
                continue
            offer = self._heard[source].offer
            try:
                snapshot = await self._fetch(source, offer)
            except (Misbehaviour, StorageBroken, OSError) as error:
                log.warning("snapshot not fetched", source=source, index=offer.index, why=str(error))
                self._failed_at[source] = self._loop.time()
            else:
                log.info("snapshot fetched", index=snapshot.index, bytes=snapshot.size, chunks=dict(self._fetched))
                self._came.set()
                self._look()
            finally:
                self._partial = None

    def _source(self) -> ReplicaId | None:
        """Return the peer whose snapshot is to be fetched now, if any."""
        now = self._loop.time()
        worth = [
            (heard.offer.slot, peer)
            for peer, heard in self._heard.items()
            if self._lately(heard)
            and now - self._failed_at.get(peer, -limits.SNAPSHOT_HEARD_SECONDS) >= limits.SNAPSHOT_HEARD_SECONDS
            and self._worth(heard.offer)
        ]
        return max(worth, default=(0, None))[1]

    def _worth(self, offer: Offer) -> bool:
        held = self._store.held
        newest, reached = (held[0].slot, max(held[0].index, self._applied())) if held else (0, self._applied())
        if not offer.snapshot or offer.slot <= newest:
            return False
        return newest < self._needed <= offer.slot or beats_replay(offer.index, offer.size, reached)

    async def _fetch(self, source: ReplicaId, offer: Offer) -> Snapshot:
        while not self._inbox.empty():
            self._inbox.get_nowait()  # answers to an earlier transfer
        sealed = await self._manifest(source, offer)
        self._check(await asyncio.to_thread(unseal, sealed), offer)
        self._partial = partial = await asyncio.to_thread(self._store.begin, sealed)
        order = dict.fromkeys(chunk.hash for chunk in partial.manifest.chunks if chunk.hash in partial.missing)
        requests = ChunkRequests(order, self._rng)
        log.info("fetching snapshot", index=partial.index, chunks=len(partial.places), missing=len(order))
        while partial.missing:
            self._ask(requests, partial.hash)
            try:
                async with asyncio.timeout(limits.SNAPSHOT_TELL_SECONDS):
                    sender, answer = await self._inbox.get()
            except TimeoutError:
                self._wait_no_longer(requests)
            else:
                await self._take(requests, partial, sender, answer)
        return await asyncio.to_thread(self._store.finish, partial)

    async def _manifest(self, source: ReplicaId, offer: Offer) -> bytes:
        """Fetch a sealed manifest, part by part."""
        data, total = b"", 1
        while len(data) < total:
            part = await self._manifest_part(source, AskManifest(offer.snapshot, len(data)))
            data, total = data + part.data, part.total
            if not part.data or max(total, len(data)) > limits.MANIFEST_BYTES_MAX:
                raise Misbehaviour(f"replica {source} sends a manifest of a wrong length")
        if chunk_hash(data) != offer.snapshot:
            raise Misbehaviour(f"replica {source} sends another manifest than it offers")
        return data

    async def _manifest_part(self, source: ReplicaId, ask: AskManifest) -> ManifestPart:
        """Ask until it comes: the channel may lose the question, above all while it is only being opened."""
        deadline = self._loop.time() + limits.SNAPSHOT_REQUEST_SECONDS_MAX
        while self._loop.time() < deadline:
            self._channel.send((source,), CODEC.encode(ask))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.SNAPSHOT_TELL_SECONDS):
                    return await self._part_from_inbox(source, ask)
        raise Misbehaviour(f"replica {source} does not send its manifest")

    async def _part_from_inbox(self, source: ReplicaId, ask: AskManifest) -> ManifestPart:
        while True:
            sender, answer = await self._inbox.get()
            match answer:
                case Missing(hash=missing) if sender == source and missing == ask.snapshot:
                    raise Misbehaviour(f"replica {source} has replaced the snapshot it offered")
                case ManifestPart(snapshot=snapshot, offset=offset) if sender == source:
                    if (snapshot, offset) == (ask.snapshot, ask.offset):
                        return answer

    def _check(self, manifest: Manifest, offer: Offer) -> None:
        """Refuse what can't be a snapshot of this cluster's log; that it is of this cluster is the store's to see."""
        base, membership = manifest.facts.base, manifest.facts.membership
        if (base.slot, base.index) != (offer.slot, offer.index) or not membership.voters:
            raise Misbehaviour("the manifest contradicts its offer, or names no voters")
        if base.slot > self._ordering.status().point and membership.version < self._ordering.membership.version:
            raise Misbehaviour("the snapshot is newer than the log here, but knows an older membership")

    def _ask(self, requests: ChunkRequests, snapshot: bytes) -> None:
        now = self._loop.time()
        for peer, heard in self._heard.items():
            if not self._lately(heard):
                continue
            while (hash_ := requests.next(peer, now, whole=heard.offer.snapshot == snapshot)) is not None:
                self._channel.send((peer,), CODEC.encode(AskChunk(snapshot, hash_)))

    async def _take(self, requests: ChunkRequests, partial: Partial, sender: ReplicaId, answer: Answer) -> None:
        if isinstance(answer, ChunkData):
            hash_ = await asyncio.to_thread(partial.put, answer.data)
            if hash_ in partial.places:
                self._fetched[sender] += 1
                requests.arrived(sender, hash_)
            else:
                self._refused += 1
                log.warning("chunk refused", sender=sender)
                requests.shun(sender)
        elif isinstance(answer, Missing):
            requests.missing(sender, answer.hash)
            self._wait_no_longer(requests)

    def _wait_no_longer(self, requests: ChunkRequests) -> None:
        requests.expire(self._loop.time())
        if self.live() and requests.hopeless(self.live().keys()):
            raise Misbehaviour("no peer has what is left of the snapshot")
