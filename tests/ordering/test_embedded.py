"""The driver: a replica of its own between two peers played by the test, and whole clusters."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.ordering.cluster import Cluster, Host, batch, command, in_memory, on_disk, until
from tests.ordering.test_persister import DyingStore, SlowStore

from quorate import limits
from quorate.consensus.paxos import messages as m
from quorate.storage import LogStore
from quorate.transport.tcp import TcpMesh
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote
from quorate.wire import MessageCodec, encode_batch

ONE, TWO, THREE = (ReplicaId(number) for number in (1, 2, 3))
FIRST = Ballot(1, TWO)


def never(_: Slot) -> None:
    raise AssertionError("a barrier was answered")


class Stage:
    """Replica 1 in earnest; 2 is played by the test over a real mesh, 3 is down."""

    def __init__(self, store: LogStore) -> None:
        self._cluster = Cluster(lambda _: store)
        self._codec = MessageCodec(m.PaxosMessage)
        self.mesh = TcpMesh(TWO, self._cluster.peers, "bank", 1, random.Random(2))
        self.heard: list[Any] = []
        self.mesh.on_message = lambda _, payload: self.heard.append(self._codec.decode(payload))

    async def start(self) -> Host:
        await self.mesh.start()
        await self._cluster.start(ONE)
        host = self._cluster.hosts[ONE]
        await until(lambda: self.mesh.connected() and host.mesh.connected())
        return host

    def say(self, *messages: m.Message) -> None:
        for message in messages:
            self.mesh.send((ONE,), self._codec.encode(message))
        self.mesh.flush()

    def say_bytes(self, payload: bytes) -> None:
        self.mesh.send((ONE,), payload)
        self.mesh.flush()

    async def hears(self, kind: type[m.Message]) -> Any:
        await until(lambda: any(isinstance(message, kind) for message in self.heard))
        return next(message for message in self.heard if isinstance(message, kind))

    async def round_trip(self) -> None:
        """Return once the replica has answered something that vouches for nothing: all before it has been taken."""
        before = sum(isinstance(message, m.Preempted) for message in self.heard)
        self.say(m.Canvass(Ballot(0, TWO), 0))
        await until(lambda: sum(isinstance(message, m.Preempted) for message in self.heard) > before)

    def vouched(self) -> list[Any]:
        return [one for one in self.heard if isinstance(one, m.Promise | m.Accepted | m.HeartbeatAck)]

    def queries(self) -> list[int]:
        """Return the names of the read queries heard, each once however often it was sent."""
        return list(dict.fromkeys(one.query for one in self.heard if isinstance(one, m.ReadQuery)))

    async def close(self) -> None:
        await self._cluster.stop()
        await self.mesh.close()


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Stage, SlowStore]]:
    store = SlowStore()
    stage = Stage(store)
    yield stage, store
    store.disk.release(1000)
    await stage.close()


# --- durability ------------------------------------------------------------------------------------------------------


async def test_what_vouches_for_state_is_held_until_the_disk_has_it(slow: tuple[Stage, SlowStore]) -> None:
    stage, store = slow
    await stage.start()
    stage.say(m.Prepare(FIRST, 1), m.Accept(FIRST, 1, batch("a"), 0))
    await stage.round_trip()
    assert stage.vouched() == []
    store.disk.release()
    assert (await stage.hears(m.Promise)).ballot == FIRST
    store.disk.release()
    assert await stage.hears(m.Accepted) == m.Accepted(FIRST, 1)


async def test_a_value_is_delivered_though_the_own_disk_is_behind(slow: tuple[Stage, SlowStore]) -> None:
    stage, _ = slow
    host = await stage.start()
    stage.say(m.Accept(FIRST, 1, batch("a"), 0), m.Accept(FIRST, 2, batch("b"), 1))
    await until(lambda: host.names() == ["a"])
    assert host.ordering.entries(0)[0].batch == batch("a")


async def test_messages_are_dropped_while_the_disk_is_far_behind(
    slow: tuple[Stage, SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PERSIST_BACKLOG_BYTES_MAX", 1000)
    stage, store = slow
    host = await stage.start()
    stage.say(m.Accept(FIRST, 1, encode_batch([command("x" * 2000)]), 0))
    stage.say(m.Heartbeat(FIRST, 0, 0))
    await until(lambda: host.ordering.dropped_messages == 1)
    assert not host.ordering.propose(batch("a"))
    store.disk.release(1000)
    await until(lambda: host.ordering.propose(batch("a")))


@pytest.mark.parametrize("good", [0, 1])
async def test_after_a_failed_commit_nothing_leaves(good: int) -> None:
    stage = Stage(DyingStore(good))
    host = await stage.start()
    if good:
        stage.say(m.Prepare(FIRST, 1))
        await stage.hears(m.Promise)
    before = len(stage.heard)
    stage.say(m.Prepare(Ballot(2, TWO), 1))
    await until(lambda: host.broken)
    sent = host.mesh.statistics().sent_frames
    dropped = host.ordering.dropped_messages
    stage.say(m.Canvass(Ballot(0, TWO), 0), m.Prepare(Ballot(3, TWO), 1))
    await until(lambda: host.ordering.dropped_messages == dropped + 2)
    assert not host.ordering.propose(batch("a"))
    assert host.mesh.statistics().sent_frames == sent
    assert not any(isinstance(message, m.Promise) for message in stage.heard[before:])
    assert len(host.broken) == 1
    await stage.close()


async def test_after_a_failed_commit_no_barrier_is_asked_for() -> None:
    stage = Stage(DyingStore(0))
    host = await stage.start()
    stage.say(m.Heartbeat(FIRST, 0, 0))
    await until(lambda: host.ordering.status().leader == "r2")
    stage.say(m.Accept(FIRST, 1, batch("a"), 0))
    await until(lambda: host.broken)
    sent = host.mesh.statistics().sent_frames
    host.ordering.read_barrier(never)
    await asyncio.sleep(0)
    assert host.mesh.statistics().sent_frames == sent
    await stage.close()


async def test_nonsense_from_a_peer_is_counted_and_forgotten() -> None:
    stage = Stage(in_memory(ONE))
    host = await stage.start()
    stage.say_bytes(b"\xc1 nonsense")
    stage.say(m.Prepare(FIRST, 1))
    await stage.hears(m.Promise)
    assert host.ordering.dropped_messages == 1
    await stage.close()


async def test_catch_up_is_answered_from_the_store_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEARN_SLOTS_MAX", 2)
    stage = Stage(in_memory(ONE))
    host = await stage.start()
    votes = tuple(Vote(FIRST, batch(str(slot))) for slot in range(1, 6))
    stage.say(m.Learned(1, votes, 5))
    await until(lambda: len(host.names()) == 5)
    stage.say(m.Learn(2))
    assert await stage.hears(m.Learned) == m.Learned(2, votes[1:3], 5)
    await stage.close()


# --- entries ---------------------------------------------------------------------------------------------------------


async def test_entries_come_from_the_store_where_memory_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELIVERY_CACHE_BYTES", 300)
    cluster = Cluster(on_disk(tmp_path), size=1)
    await cluster.start()
    host = await cluster.leader()
    names = [f"command {n}" for n in range(100)]
    for name in names:
        await until(lambda: host.ordering.propose(batch(name)))  # noqa: B023
        await asyncio.sleep(0)
    await cluster.all_read(len(names))
    seen, host.read = host.read, []
    host.pull()
    assert host.read == seen
    assert host.names() == names
    await cluster.stop()


async def test_entries_come_a_few_at_a_time(cluster: Cluster) -> None:
    await cluster.start()
    leader = await cluster.leader()
    for number in range(limits.DELIVERY_SLOTS_MAX + 5):
        leader.ordering.propose(batch(str(number)))
        await cluster.all_read(number + 1)
    assert len(leader.ordering.entries(0)) == limits.DELIVERY_SLOTS_MAX
    assert leader.ordering.entries(leader.read[-1].point) == []


async def test_a_restarted_replica_has_its_log_at_once(tmp_path: Path) -> None:
    cluster = Cluster(on_disk(tmp_path), size=1)
    await cluster.start()
    host = await cluster.leader()
    host.ordering.propose(batch("a", "b"))
    await cluster.all_read(2)
    host.ordering.propose(batch("c"))
    await cluster.all_read(3)
    await cluster.stop()
    await cluster.start()
    (host,) = cluster.hosts.values()
    assert host.names()[:2] == ["a", "b"]
    await cluster.leader()
    await cluster.all_read(3)
    assert [entry.first_index for entry in host.read if entry.batch.size] == [1, 3]
    await cluster.stop()


# --- barriers --------------------------------------------------------------------------------------------------------


async def test_the_first_asks_at_once_and_all_who_ask_meanwhile_share_the_next() -> None:
    stage = Stage(in_memory(ONE))
    host = await stage.start()
    answers: list[tuple[str, Slot]] = []
    stage.say(m.Heartbeat(FIRST, 0, 0))
    await until(lambda: host.ordering.status().leader == "r2")
    host.ordering.read_barrier(lambda slot: answers.append(("first", slot)))
    for _ in range(100):
        host.ordering.read_barrier(lambda slot: answers.append(("later", slot)))
    for asked in (1, 2):
        await until(lambda: len(stage.queries()) == asked)  # noqa: B023
        stage.say(m.ReadAnswer(stage.queries()[-1], asked))
    await until(lambda: len(answers) == 101)
    assert answers == [("first", 1)] + [("later", 2)] * 100
    assert len(stage.queries()) == 2
    await stage.close()


async def test_a_barrier_asked_for_while_one_is_under_way_is_a_later_one(cluster: Cluster) -> None:
    await cluster.start()
    follower = await cluster.follower()
    answers: list[str] = []
    follower.ordering.read_barrier(lambda _: answers.append("first"))
    await asyncio.sleep(0)
    follower.ordering.read_barrier(lambda _: answers.append("second"))
    await until(lambda: len(answers) == 2)
    assert answers == ["first", "second"]


async def test_a_barrier_may_be_asked_for_from_within_another(cluster: Cluster) -> None:
    await cluster.start()
    leader = await cluster.leader()
    answers: list[int] = []
    leader.ordering.read_barrier(lambda _: leader.ordering.read_barrier(answers.append))
    await until(lambda: answers)


# --- reentrance ------------------------------------------------------------------------------------------------------


async def test_a_delivery_may_lead_to_a_proposal(cluster: Cluster) -> None:
    await cluster.start()
    leader = await cluster.leader()

    def propose_next() -> None:
        leader.pull()
        if len(leader.names()) < 20:
            leader.ordering.propose(batch(str(len(leader.names()))))

    leader.ordering.on_delivered = propose_next
    leader.ordering.propose(batch("first"))
    await cluster.all_read(20)
    assert leader.names() == ["first", *map(str, range(1, 20))]


async def test_a_closed_replica_takes_and_says_nothing() -> None:
    cluster = Cluster(size=1)
    await cluster.start()
    host = await cluster.leader()
    await cluster.stop()
    assert not host.ordering.propose(Batch(1, command("a")))
    assert host.names() == []
