"""State transfer: copies in one process, over a channel that loses, repeats, delays and spoils what it likes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.replica.copies import Copy, Mesh, bodies
from tests.replica.parts import batch_of, command, until
from tests.storage.made import CLUSTER, facts, made

from quorate import limits
from quorate.replica.transfer import (
    CODEC,
    AskChunk,
    AskManifest,
    ChunkData,
    ManifestPart,
    Missing,
    Offer,
    beats_replay,
)
from quorate.storage.snapshots import Manifest, seal
from quorate.types import Batch, Membership, ReplicaId

SLICES = [random.Random(number).randbytes(40_000) for number in range(40)]
ANOTHER = seal(Manifest(CLUSTER, "http", facts(10), (), ()))
ONE, TWO, THREE = ReplicaId(1), ReplicaId(2), ReplicaId(3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEP_SECONDS", "TICK_SECONDS", "NEIGHBOUR_WATCH_SECONDS", "BACKOFF_SECONDS_MIN"):
        monkeypatch.setattr(limits, name, 0.005)
    monkeypatch.setattr(limits, "SNAPSHOT_TELL_SECONDS", 0.02)
    monkeypatch.setattr(limits, "SNAPSHOT_HEARD_SECONDS", 0.2)
    monkeypatch.setattr(limits, "SNAPSHOT_REQUEST_SECONDS_MAX", 0.3)


class Cluster:
    """Copies of one log, of which some are up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mesh = Mesh()
        self.log: list[Batch] = []
        self.up: dict[int, Copy] = {}

    def start(self, number: int, *, run: bool = True) -> Copy:
        copy = self.up[number] = Copy(number, self.directory / str(number), self.mesh, self.log)
        if run:
            copy.run()
        return copy

    async def stop(self, number: int) -> None:
        await self.up.pop(number).close()

    def order(self, first: int, last: int) -> None:
        self.log += [batch_of(command(number)) for number in range(first, last + 1)]
        for copy in self.up.values():
            copy.ordering.on_delivered()

    async def trimmed(self, *numbers: int) -> None:
        """Have copies of 60 entries, each with its snapshots, and no log before the older of them."""
        for number in numbers:
            self.start(number)
        for first in range(1, 61, 10):
            self.order(first, first + 9)
            for number in numbers:
                await self.up[number].ready(first + 9)
                await until(lambda copy=self.up[number]: copy.checkpoints._task.done())  # type: ignore[misc]
        for number in numbers:
            copy = self.up[number]
            copy.ordering.trim(copy.ordering.base_at(copy.store.held[1].slot))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    for number in tuple(cluster.up):
        await cluster.stop(number)


def behind(cluster: Cluster, number: int, heard: int = 3) -> Copy:
    """Return a copy that knows the order only so far, and that peers can't tell the rest, for it is trimmed there."""
    copy = cluster.start(number, run=False)
    copy.ordering.heard = heard
    return copy


# --- who fetches what ------------------------------------------------------------------------------------------------


async def test_a_copy_that_needs_a_snapshot_gets_it_and_goes_on_with_the_log(cluster: Cluster) -> None:
    await cluster.trimmed(1, 2)
    late = behind(cluster, 3)
    late.run()
    late.ordering.on_snapshot_needed(cluster.up[1].ordering.base.slot)
    await late.ready(60)
    assert late.keeper.kept == bodies(1, 60)
    assert late.applier.digest == cluster.up[1].applier.digest
    assert len(late.ordering.installed) == 1
    assert len(late.keeper.bodies()) < 20
    cluster.order(61, 65)
    await late.ready(65)


async def test_a_copy_without_a_log_or_a_sound_snapshot_waits_for_a_peers(cluster: Cluster) -> None:
    """Its own were damaged, and its log begins behind them."""
    await cluster.trimmed(1)
    late = cluster.start(3, run=False)
    late.ordering.base = cluster.up[1].ordering.base
    late.run()
    await late.ready(60)
    assert late.keeper.kept == bodies(1, 60)
    assert late.applied == []


async def test_a_copy_far_behind_fetches_a_snapshot_though_it_has_the_log(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_LEAD_ENTRIES", 30)
    await cluster.trimmed(1)
    late = cluster.start(3, run=False)
    late.applier.holds = 1
    late.run()
    await late.has_snapshot(60)
    late.applier.holds = 0
    await late.ready(60)
    assert late.ordering.installed == []
    assert late.keeper.bodies() == []
    assert late.keeper.kept == bodies(1, 60)


async def test_a_copy_a_little_behind_does_not(cluster: Cluster) -> None:
    await cluster.trimmed(1)
    late = cluster.start(3)
    await late.ready(60)
    assert late.keeper.bodies() == bodies(1, 60)
    assert late.keeper.puts == 0
    assert late.transfer.statistics().fetched == {}


def test_a_large_snapshot_must_save_more() -> None:
    lead = limits.SNAPSHOT_LEAD_ENTRIES
    assert not beats_replay(lead, 0, 0)
    assert beats_replay(lead + 1, 0, 0)
    assert not beats_replay(lead + 100, limits.REPLAYED_ENTRY_BYTES * 100, 0)
    assert beats_replay(lead + 101, limits.REPLAYED_ENTRY_BYTES * 100, 0)


async def test_peers_know_at_once_of_who_has_just_come(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_TELL_SECONDS", 1000)
    monkeypatch.setattr(limits, "SNAPSHOT_HEARD_SECONDS", 10_000)
    one = cluster.start(1)
    await one.ready()
    two = cluster.start(2)
    await until(lambda: two.transfer.live() == {ONE: 0})


# --- several sources -------------------------------------------------------------------------------------------------


async def fetched(cluster: Cluster, *made_by: Callable[[Copy], object]) -> Copy:
    """Return copy 3 after it fetched the newest of the snapshots made at 1, 2, …"""
    for number, make in enumerate(made_by, 1):
        make(cluster.start(number, run=False))
        cluster.up[number].run_transfer()
    late = behind(cluster, 3)
    late.run_transfer()
    late.transfer.want(1)
    await until(lambda: late.store.held)
    return late


async def test_peers_with_the_same_snapshot_share_the_work(cluster: Cluster) -> None:
    late = await fetched(cluster, *(lambda copy: made(copy.store, 9, b"9", SLICES),) * 2)
    counts = late.transfer.statistics().fetched
    assert sum(counts.values()) == 41
    assert min(counts[ONE], counts[TWO]) > 10


async def test_peers_with_different_snapshots_share_what_these_have_in_common(cluster: Cluster) -> None:
    late = await fetched(
        cluster,
        lambda copy: made(copy.store, 9, b"9", SLICES[5:]),
        lambda copy: made(copy.store, 7, b"7", SLICES[:35]),
    )
    counts = late.transfer.statistics().fetched
    assert late.store.held[0].hash == cluster.up[1].store.held[0].hash
    assert sum(counts.values()) == 36
    assert counts[TWO] > 5


async def test_a_peer_with_nothing_in_common_is_soon_left_alone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_MISSES_MAX", 8)
    late = await fetched(
        cluster,
        lambda copy: made(copy.store, 9, b"9", SLICES),
        lambda copy: made(copy.store, 7, b"7", [one[::-1] for one in SLICES]),
    )
    assert late.transfer.statistics().fetched == {ONE: 41}
    asked = [size for sender, receiver, size in cluster.mesh.sent if (sender, receiver) == (THREE, TWO)]
    assert sum(size > 60 for size in asked) <= 8 + limits.SNAPSHOT_REQUESTS_MAX


async def test_what_was_fetched_is_offered_in_turn(cluster: Cluster) -> None:
    late = await fetched(cluster, lambda copy: made(copy.store, 9, b"9", SLICES))
    await cluster.stop(1)
    other = behind(cluster, 2)
    other.run_transfer()
    other.transfer.want(9)
    await until(lambda: other.store.held)
    assert other.store.held[0].hash == late.store.held[0].hash


# --- a bad channel and bad peers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_it_comes_whole_over_a_channel_that_loses_and_repeats(cluster: Cluster, seed: int) -> None:
    rng = random.Random(seed)

    def bend(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> bytes | None:
        if rng.random() < 0.2:
            asyncio.get_running_loop().call_later(0.03, again, sender, receiver, payload)
        return None if rng.random() < 0.1 else payload

    def again(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> None:
        if receiver in cluster.mesh.ends:
            cluster.mesh.ends[receiver].on_message(sender, payload)

    cluster.mesh.bend = bend
    late = await fetched(cluster, *(lambda copy: made(copy.store, 9, b"9", SLICES),) * 2)
    late.store.held[0].verify()


async def test_a_peer_that_sends_spoiled_chunks_is_not_asked_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_REQUEST_SECONDS_MAX", 1000)

    def bend(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> bytes | None:
        if sender == TWO and isinstance(CODEC.decode(payload), ChunkData):
            return CODEC.encode(ChunkData(b"spoiled"))
        return payload

    cluster.mesh.bend = bend
    late = await fetched(cluster, *(lambda copy: made(copy.store, 9, b"9", SLICES),) * 2)
    late.store.held[0].verify()
    assert late.transfer.statistics().fetched == {ONE: 41}
    assert 1 <= late.transfer.statistics().refused <= limits.SNAPSHOT_REQUESTS_MAX


@pytest.mark.parametrize(
    "spoil",
    [
        lambda part: ManifestPart(part.snapshot, part.offset, part.total, part.data[:-1] + b"?"),
        lambda part: ManifestPart(part.snapshot, part.offset, part.total, b""),
        lambda part: ManifestPart(part.snapshot, part.offset, 1 << 40, part.data),
        lambda part: ManifestPart(part.snapshot, part.offset, len(ANOTHER), ANOTHER),
        lambda part: Missing(part.snapshot),
        lambda part: None,
    ],
)
async def test_a_spoiled_manifest_is_got_from_another_peer(
    cluster: Cluster, spoil: Callable[[ManifestPart], object]
) -> None:
    def bend(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> bytes | None:
        message = CODEC.decode(payload)
        if sender == TWO and isinstance(message, ManifestPart):
            spoiled = spoil(message)
            return None if spoiled is None else CODEC.encode(spoiled)
        return payload

    cluster.mesh.bend = bend
    late = await fetched(
        cluster, lambda copy: made(copy.store, 9, b"9", SLICES), lambda copy: made(copy.store, 10, b"10", SLICES)
    )
    assert late.store.held[0].slot == 9


async def test_another_clusters_snapshot_is_refused(cluster: Cluster) -> None:
    late = await fetched(
        cluster,
        lambda copy: made(copy.store, 9),
        lambda copy: made(copy.store, 10, cluster="other"),
    )
    assert late.store.held[0].slot == 9


async def test_a_snapshot_that_knows_fewer_changes_than_the_log_is_refused(cluster: Cluster) -> None:
    newer = Membership(2, (ONE, TWO, THREE), (), (), THREE)
    for number in (1, 2):
        cluster.start(number, run=False)
    made(cluster.up[1].store, 9, membership=newer)
    made(cluster.up[2].store, 10)
    late = behind(cluster, 3)
    late.ordering.membership = newer
    for copy in cluster.up.values():
        copy.run_transfer()
    late.transfer.want(1)
    await until(lambda: late.store.held)
    assert late.store.held[0].slot == 9


async def test_a_peer_that_falls_silent_half_way_is_made_up_for(cluster: Cluster) -> None:
    given = [0]

    def bend(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> bytes | None:
        given[0] += sender == TWO and isinstance(CODEC.decode(payload), ChunkData)
        return None if sender == TWO and given[0] > 5 else payload

    cluster.mesh.bend = bend
    late = await fetched(cluster, *(lambda copy: made(copy.store, 9, b"9", SLICES),) * 2)
    assert late.transfer.statistics().fetched == {ONE: 36, TWO: 5}


async def test_damage_at_the_source_is_found_there_and_another_snapshot_is_fetched(cluster: Cluster) -> None:
    def spoilt(copy: Copy) -> None:
        made(copy.store, 8, b"8", SLICES[1:])
        newer = made(copy.store, 9, b"9", SLICES)
        data = bytearray(newer.path.read_bytes())
        data[5] ^= 1
        newer.path.write_bytes(data)

    late = await fetched(cluster, spoilt)
    assert late.store.held[0].slot == 8
    assert [snapshot.slot for snapshot in cluster.up[1].store.held] == [8]


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"\xc1", b"\x92\x07\x01", b"\x95\x00\xff\x01\x01\x01\xc4\x00"])
async def test_nonsense_is_refused(cluster: Cluster, payload: bytes) -> None:
    copy = cluster.start(1, run=False)
    copy.run_transfer()
    copy.transfer.on_message(TWO, payload)
    assert copy.transfer.statistics().refused == 1


async def test_more_requests_than_may_wait_are_dropped(cluster: Cluster) -> None:
    copy = cluster.start(1, run=False)
    for _ in range(limits.SNAPSHOT_SERVED_MAX + 50):
        copy.transfer.on_message(TWO, CODEC.encode(AskChunk(b"s", b"h")))
    assert len(copy.transfer._asks) == limits.SNAPSHOT_SERVED_MAX


async def test_answers_nobody_asked_for_are_bounded(cluster: Cluster) -> None:
    copy = cluster.start(1, run=False)
    copy.run_transfer()
    for _ in range(1000):
        copy.transfer.on_message(TWO, CODEC.encode(ChunkData(b"unasked")))
    assert copy.transfer._inbox.qsize() <= 100
    assert copy.store.held == ()


async def test_a_request_past_the_end_of_a_manifest_is_answered_with_nothing(cluster: Cluster) -> None:
    got: list[object] = []
    copy = cluster.start(1, run=False)
    copy.run_transfer()
    snapshot = made(copy.store, 9)
    cluster.mesh.bend = lambda sender, receiver, payload: got.append(CODEC.decode(payload))
    copy.transfer.on_message(TWO, CODEC.encode(AskManifest(snapshot.hash, 1 << 40)))
    await until(lambda: any(isinstance(one, ManifestPart) and one.data == b"" for one in got))


# --- breaks ----------------------------------------------------------------------------------------------------------


async def test_a_transfer_goes_on_after_the_receivers_death(cluster: Cluster) -> None:
    given: list[int] = []

    def bend(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> bytes | None:
        if sender == ONE and isinstance(CODEC.decode(payload), ChunkData):
            given.append(len(payload))
            return payload if len(given) <= 20 else None
        return payload

    cluster.mesh.bend = bend
    made(cluster.start(1, run=False).store, 9, b"9", SLICES)
    cluster.up[1].run_transfer()
    late = behind(cluster, 3)
    late.run_transfer()
    late.transfer.want(9)
    await until(lambda: late.transfer.statistics().chunks_missing == 21)
    await cluster.stop(3)
    cluster.mesh.bend = lambda sender, receiver, payload: payload
    again = behind(cluster, 3)
    again.run_transfer()
    again.transfer.want(9)
    await until(lambda: again.store.held)
    assert again.transfer.statistics().fetched == {ONE: 21}


async def test_a_transfer_waits_while_nobody_is_there_and_goes_on(cluster: Cluster) -> None:
    cut = [True]
    cluster.mesh.bend = lambda sender, receiver, payload: (
        None if cut[0] and isinstance(CODEC.decode(payload), ChunkData) else payload
    )
    made(cluster.start(1, run=False).store, 9, b"9", SLICES)
    cluster.up[1].run_transfer()
    late = behind(cluster, 3)
    late.run_transfer()
    late.transfer.want(9)
    await until(lambda: late.transfer.statistics().fetching == 9)
    await cluster.stop(1)
    await until(lambda: late.transfer.live() == {})
    cut[0] = False
    cluster.start(1, run=False).run_transfer()
    await until(lambda: late.store.held)


async def test_a_source_keeps_what_is_being_fetched_from_it(cluster: Cluster) -> None:
    """It takes checkpoints faster than the transfer goes."""
    one = cluster.start(1, run=False)
    first = made(one.store, 9, b"9", SLICES)
    slots = iter(range(10, 1000))

    def bend(sender: ReplicaId, receiver: ReplicaId, payload: bytes) -> bytes | None:
        if isinstance(CODEC.decode(payload), AskChunk):
            made(one.store, next(slots))
        return payload

    cluster.mesh.bend = bend
    one.run_transfer()
    late = behind(cluster, 3)
    late.run_transfer()
    late.transfer.want(9)
    await until(lambda: late.store.held)
    assert late.store.held[-1].hash == first.hash
    assert isinstance(CODEC.decode(CODEC.encode(Offer(1, 2, 3, 4, b""))), Offer)
