"""The driver: a replica of its own between two peers played by the test, and whole clusters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.ordering.cluster import Cluster, Host, Peer, batch, command, free_addresses, on_disk, until
from tests.ordering.test_persister import DyingStore, SlowStore

from quorate import limits
from quorate.consensus.core import Persist
from quorate.consensus.messages import Learn, Learned, ReadAnswer, ReadQuery
from quorate.consensus.paxos import messages as m
from quorate.errors import IdentityRefused, LogTrimmed
from quorate.storage import LogStore
from quorate.storage.memory import MemoryStore
from quorate.storage.room import Room
from quorate.types import NO_BASE, Ballot, Base, Batch, ReplicaId, Slot, Vote
from quorate.wire import encode_batch

ONE, TWO, THREE, FOUR = (ReplicaId(number) for number in (1, 2, 3, 4))
FIRST = Ballot(1, TWO)


class Stage(Peer):
    """Replica 1 in earnest, with the Paxos core; 2 is played by the test, 3 is down."""

    def __init__(self, directory: Path, store: LogStore) -> None:
        self.cluster = Cluster(directory, lambda _, __: store)
        super().__init__(self.cluster, TWO)

    async def start(self) -> Host:
        await self.mesh.start()
        await self.cluster.start(ONE)
        host = self.cluster.hosts[ONE]
        await until(lambda: self.mesh.connected() and host.mesh.connected())
        return host

    async def round_trip(self) -> None:
        """Return once the replica has answered something that vouches for nothing: all before it has been taken."""
        before = self.count(m.Preempted)
        self.say(ONE, m.Canvass(Ballot(0, TWO), 0))
        await until(lambda: self.count(m.Preempted) > before)

    def vouched(self) -> list[Any]:
        return [one for one in self.heard if isinstance(one, m.Promise | m.Accepted | m.HeartbeatAck)]

    def queries(self) -> list[int]:
        """Return the names of the read queries heard, each once however often it was sent."""
        return list(dict.fromkeys(one.query for one in self.heard if isinstance(one, ReadQuery)))

    async def close(self) -> None:
        await self.cluster.stop()
        await self.mesh.close()


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Stage, SlowStore]]:
    store = SlowStore()
    stage = Stage(tmp_path, store)
    yield stage, store
    store.disk.release(1000)
    await stage.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, MemoryStore())
    yield stage
    await stage.close()


# --- durability ------------------------------------------------------------------------------------------------------


async def test_what_vouches_for_state_is_held_until_the_disk_has_it(slow: tuple[Stage, SlowStore]) -> None:
    stage, store = slow
    await stage.start()
    stage.say(ONE, m.Prepare(FIRST, 1), m.Accept(FIRST, 1, batch("a"), 0))
    await stage.round_trip()
    assert stage.vouched() == []
    store.disk.release()
    assert (await stage.hears(m.Promise)).ballot == FIRST
    store.disk.release()
    assert await stage.hears(m.Accepted) == m.Accepted(FIRST, 1)


async def test_a_value_is_delivered_though_the_own_disk_is_behind(slow: tuple[Stage, SlowStore]) -> None:
    stage, _ = slow
    host = await stage.start()
    stage.say(ONE, m.Accept(FIRST, 1, batch("a"), 0), m.Accept(FIRST, 2, batch("b"), 1))
    await until(lambda: host.names() == ["a"])
    assert host.ordering.entries(0)[0].batch == batch("a")


async def test_messages_are_dropped_while_the_disk_is_far_behind(
    slow: tuple[Stage, SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PERSIST_BACKLOG_BYTES_MAX", 1000)
    stage, store = slow
    host = await stage.start()
    stage.say(ONE, m.Accept(FIRST, 1, encode_batch([command("x" * 2000)]), 0))
    stage.say(ONE, m.Heartbeat(FIRST, 0, 0))
    await until(lambda: host.ordering.dropped_messages == 1)
    assert not host.ordering.propose(batch("a"))
    store.disk.release(1000)
    await until(lambda: host.ordering.propose(batch("a")))


@pytest.mark.parametrize("good", [0, 1])
async def test_after_a_failed_commit_nothing_leaves(tmp_path: Path, good: int) -> None:
    stage = Stage(tmp_path, DyingStore(good))
    host = await stage.start()
    if good:
        stage.say(ONE, m.Prepare(FIRST, 1))
        await stage.hears(m.Promise)
    before = len(stage.heard)
    stage.say(ONE, m.Prepare(Ballot(2, TWO), 1))
    await until(lambda: host.broken)
    sent = host.mesh.statistics().sent_frames
    dropped = host.ordering.dropped_messages
    stage.say(ONE, m.Canvass(Ballot(0, TWO), 0), m.Prepare(Ballot(3, TWO), 1))
    await until(lambda: host.ordering.dropped_messages == dropped + 2)
    assert not host.ordering.propose(batch("a"))
    assert host.mesh.statistics().sent_frames == sent
    assert not any(isinstance(message, m.Promise) for message in stage.heard[before:])
    assert len(host.broken) == 1
    await stage.close()


async def test_after_a_failed_commit_no_barrier_is_asked_for(tmp_path: Path) -> None:
    stage = Stage(tmp_path, DyingStore(0))
    host = await stage.start()
    stage.say(ONE, m.Heartbeat(FIRST, 0, 0))
    await until(lambda: host.ordering.status().leader == "r2")
    stage.say(ONE, m.Accept(FIRST, 1, batch("a"), 0))
    await until(lambda: host.broken)
    sent = host.mesh.statistics().sent_frames
    answers: list[Slot] = []
    host.ordering.read_barrier(answers.append)
    await asyncio.sleep(0)
    assert answers == []
    assert host.mesh.statistics().sent_frames == sent
    await stage.close()


async def test_nonsense_from_a_peer_is_counted_and_forgotten(stage: Stage) -> None:
    host = await stage.start()
    stage.say_bytes(ONE, b"\xc1 nonsense")
    stage.say(ONE, m.Prepare(FIRST, 1))
    await stage.hears(m.Promise)
    assert host.ordering.dropped_messages == 1


async def test_catch_up_is_answered_from_the_store_in_pieces(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEARN_SLOTS_MAX", 2)
    host = await stage.start()
    votes = tuple(Vote(FIRST, batch(str(slot))) for slot in range(1, 6))
    stage.say(ONE, Learned(1, votes, 5))
    await until(lambda: len(host.names()) == 5)
    stage.say(ONE, Learn(2))
    assert await stage.hears(Learned) == Learned(2, votes[1:3], 5)


# --- entries ---------------------------------------------------------------------------------------------------------


async def test_entries_come_from_the_store_where_memory_has_forgotten(
    tmp_path: Path, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELIVERY_CACHE_BYTES", 300)
    cluster = Cluster(tmp_path, on_disk, 1, core=core)
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


async def test_a_restarted_replica_has_its_log_at_once(tmp_path: Path, core: str) -> None:
    cluster = Cluster(tmp_path, on_disk, 1, core=core)
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


async def test_the_first_asks_at_once_and_all_who_ask_meanwhile_share_the_next(stage: Stage) -> None:
    host = await stage.start()
    answers: list[tuple[str, Slot]] = []
    stage.say(ONE, m.Heartbeat(FIRST, 0, 0))
    await until(lambda: host.ordering.status().leader == "r2")
    host.ordering.read_barrier(lambda slot: answers.append(("first", slot)))
    for _ in range(100):
        host.ordering.read_barrier(lambda slot: answers.append(("later", slot)))
    for asked in (1, 2):
        await until(lambda: len(stage.queries()) == asked)  # noqa: B023
        stage.say(ONE, ReadAnswer(stage.queries()[-1], asked))
    await until(lambda: len(answers) == 101)
    assert answers == [("first", 1)] + [("later", 2)] * 100
    assert len(stage.queries()) == 2


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
        if 0 < len(leader.names()) < 20:
            leader.ordering.propose(batch(str(len(leader.names()))))

    leader.ordering.on_delivered = propose_next
    leader.ordering.propose(batch("first"))
    await cluster.all_read(20)
    assert leader.names() == ["first", *map(str, range(1, 20))]


async def test_a_closed_replica_takes_and_says_nothing(tmp_path: Path, core: str) -> None:
    cluster = Cluster(tmp_path, size=1, core=core)
    await cluster.start()
    host = await cluster.leader()
    await cluster.stop()
    assert not host.ordering.propose(Batch(1, command("a")))
    assert host.names() == []


# --- trimming and snapshots ------------------------------------------------------------------------------------------


async def write(cluster: Cluster, *names: str) -> None:
    """Have commands ordered and read by all that run, one at a time."""
    leader = await cluster.leader()
    for name in names:
        assert leader.ordering.propose(batch(name))
        await until(lambda: name in leader.names())  # noqa: B023
    last = leader.read[-1].point
    await until(lambda: all(host.read and host.read[-1].point >= last for host in cluster.hosts.values()))


async def test_a_log_begins_where_it_was_trimmed_even_after_a_restart(durable: Cluster) -> None:
    await durable.start()
    await write(durable, *"abcdef")
    host = await durable.follower()
    at = next(entry for entry in host.read if entry.batch == batch("c"))
    base = host.ordering.base_at(at.point)
    assert (base.slot, base.index) == (at.point, 3)
    host.ordering.trim(base)
    for _ in range(2):
        assert host.ordering.base == host.ordering.base_at(base.slot) == base
        with pytest.raises(LogTrimmed):
            host.ordering.entries(base.slot - 1)
        (first, *_) = host.ordering.entries(base.slot)
        assert (first.first_index, first.batch) == (4, batch("d"))
        await durable.stop()
        await durable.start()
        host = durable.hosts[host.me]
    await write(durable, "g")
    assert host.names() == list("defg")
    assert host.ordering.status().last_index == 7
    host.ordering.trim(base)
    assert host.ordering.base == base, "it never goes back"


async def test_a_base_is_known_though_the_own_disk_is_behind(slow: tuple[Stage, SlowStore]) -> None:
    stage, _ = slow
    host = await stage.start()
    stage.say(ONE, m.Accept(FIRST, 1, batch("a", "b"), 0), m.Accept(FIRST, 2, batch("c"), 1))
    await until(lambda: host.read)
    assert host.ordering.base_at(0) == NO_BASE
    assert host.ordering.base_at(1) == Base(1, 2, FIRST)


async def test_who_lacks_what_all_peers_have_trimmed_goes_on_behind_a_snapshot(durable: Cluster) -> None:
    await durable.start()
    await write(durable, *"ab")
    away = (await durable.follower()).me
    await durable.stop(away)
    await write(durable, *"cdef")
    leader = await durable.leader()
    point = next(entry.point for entry in leader.read if entry.batch == batch("e"))
    for host in durable.hosts.values():
        host.ordering.trim(host.ordering.base_at(point))
    await durable.start(away)
    lagging = durable.hosts[away]
    await until(lambda: lagging.wants_snapshot)
    assert lagging.wants_snapshot[0] == point
    assert "".join(lagging.names()) in ("a", "ab"), "how far its disk knew"

    lagging.read.clear()
    lagging.ordering.install(leader.ordering.base, leader.ordering.membership)
    await until(lambda: lagging.names() == ["f"])
    assert lagging.read[0].first_index == 6
    await write(durable, "g")
    lagging.ordering.install(leader.ordering.base, leader.ordering.membership)
    assert lagging.names() == list("fg"), "a snapshot of what the log has got past is no use"

    await durable.stop(away)
    await durable.start(away)
    assert durable.hosts[away].ordering.base == leader.ordering.base
    await until(lambda: durable.hosts[away].names() == list("fg"))


# --- members ---------------------------------------------------------------------------------------------------------


async def make_change(cluster: Cluster, replica: ReplicaId, address: str | None) -> None:
    """Ask any replica that stays for a change, until it is made."""
    asked = next(host for host in cluster.hosts.values() if host.me != replica)
    while refusal := await asked.change(replica, address):
        assert refusal.endswith(("ask again", "no leader is known")), refusal
        await asyncio.sleep(limits.TICK_SECONDS)


async def add(cluster: Cluster, replica: ReplicaId) -> Host:
    (address,) = free_addresses(1)
    await make_change(cluster, replica, address)
    cluster.addresses[replica] = address
    await cluster.start(replica)
    await until(lambda: all(replica in host.ordering.membership.voters for host in cluster.hosts.values()))
    return cluster.hosts[replica]


@pytest.mark.parametrize("leaving", ["leader", "follower"])
async def test_a_replica_comes_and_another_goes(durable: Cluster, leaving: str) -> None:
    await durable.start()
    await write(durable, *"abc")
    newcomer = await add(durable, FOUR)
    await write(durable, "d")
    assert newcomer.names() == list("abcd")

    gone = await (durable.leader() if leaving == "leader" else durable.follower())
    await make_change(durable, gone.me, None)
    await until(lambda: gone.broken)
    assert isinstance(gone.broken[0], IdentityRefused)
    assert len(gone.broken) == 1
    assert not gone.ordering.propose(batch("refused"))
    await durable.stop(gone.me)
    await write(durable, "e")
    left = tuple(sorted({ONE, TWO, THREE, FOUR} - {gone.me}))
    assert {host.ordering.membership.voters for host in durable.hosts.values()} == {left}

    again = durable.make(gone.me)
    await again.ordering.start()
    await until(lambda: again.broken)
    assert isinstance(again.broken[0], IdentityRefused)
    await durable.stop()
    await durable.start(*left)
    await write(durable, "f")
    assert all(host.names() == list("abcdef") for host in durable.hosts.values())


async def test_a_refused_change_says_why(cluster: Cluster) -> None:
    await cluster.start()
    follower = await cluster.follower()
    await write(cluster, "a")
    assert "id 3 was given before" in await follower.change(THREE, "127.0.0.1:1")
    assert await follower.change(FOUR, None) == "replica 4 is no member"


async def test_a_change_without_a_leader_is_answered(stage: Stage) -> None:
    host = await stage.start()
    assert await host.change(FOUR, "127.0.0.1:1") == "no leader is known"


# --- a leader that should not lead -----------------------------------------------------------------------------------


async def successor(cluster: Cluster, before: Host) -> Host:
    await until(lambda: any(host.leads() for host in cluster.hosts.values() if host is not before))
    return await cluster.leader()


async def test_leadership_is_handed_over_and_nothing_gets_lost(cluster: Cluster) -> None:
    await cluster.start()
    leader = await cluster.leader()
    names = [str(number) for number in range(40)]
    for name in names[:20]:
        assert leader.ordering.propose(batch(name))
    leader.ordering.hand_over()
    for name in names[20:]:
        assert leader.ordering.propose(batch(name))
    assert await successor(cluster, leader) is not leader
    await cluster.all_read(len(names))
    assert all(sorted(host.names()) == sorted(names) for host in cluster.hosts.values())


async def test_a_follower_has_nothing_to_hand_over(cluster: Cluster) -> None:
    await cluster.start()
    leader, follower = await cluster.leader(), await cluster.follower()
    follower.ordering.hand_over()
    await write(cluster, "a")
    assert await cluster.leader() is leader


class Disk(MemoryStore):
    """A store whose room, and whose speed, the test sets."""

    blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.level = Room.OK
        self.moving = threading.Event()
        self.moving.set()

    def room(self) -> Room:
        return self.level

    def commit(self, persists: Sequence[Persist]) -> None:
        self.moving.wait()
        super().commit(persists)


@pytest.fixture
def disks() -> dict[ReplicaId, Disk]:
    """The disks of `on_disks`."""
    return {replica: Disk() for replica in (ONE, TWO, THREE)}


@pytest.fixture
async def on_disks(
    tmp_path: Path, core: str, disks: dict[ReplicaId, Disk], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cluster]:
    """Three running replicas."""
    monkeypatch.setattr(limits, "ROOM_TICKS", 2)
    monkeypatch.setattr(limits, "DISK_STALL_SECONDS_MAX", 0.1)
    cluster = Cluster(tmp_path, lambda me, _: disks[me], core=core)
    await cluster.start()
    await write(cluster, "a")
    yield cluster
    for disk in disks.values():
        disk.moving.set()
    await cluster.stop()


async def test_a_disk_with_little_room_takes_no_commands_and_keeps_no_leader(
    on_disks: Cluster, disks: dict[ReplicaId, Disk]
) -> None:
    leader = await on_disks.leader()
    disks[leader.me].level = Room.LOW
    await until(lambda: not leader.ordering.writable)
    assert not leader.ordering.propose(batch("refused"))
    assert await successor(on_disks, leader) is not leader
    await write(on_disks, "b")
    assert leader.names() == ["a", "b"], "what others order it still stores"
    disks[leader.me].level = Room.OK
    await until(lambda: leader.ordering.propose(batch("c")))
    await on_disks.all_read(3)


async def test_a_full_disk_stops_a_replica_until_there_is_room_again(
    on_disks: Cluster, disks: dict[ReplicaId, Disk]
) -> None:
    follower = await on_disks.follower()
    disks[follower.me].level = Room.FULL
    await until(lambda: follower.ordering.dropped_messages)
    commits = disks[follower.me].commits
    leader = next(host for host in on_disks.hosts.values() if host.leads())
    assert leader.ordering.propose(batch("b"))
    await until(lambda: leader.names() == ["a", "b"])
    dropped = follower.ordering.dropped_messages
    await until(lambda: follower.ordering.dropped_messages > dropped)
    assert (follower.names(), disks[follower.me].commits) == (["a"], commits)
    disks[follower.me].level = Room.OK
    await on_disks.all_read(2)
    assert follower.broken == []


async def test_a_disk_that_stalls_keeps_no_leader(on_disks: Cluster, disks: dict[ReplicaId, Disk]) -> None:
    leader = await on_disks.leader()
    disks[leader.me].moving.clear()
    assert leader.ordering.propose(batch("b"))
    await until(lambda: any(host.leads() for host in on_disks.hosts.values() if host is not leader))
    disks[leader.me].moving.set()
    await write(on_disks, "c")
    assert all(host.names() == list("abc") for host in on_disks.hosts.values())
