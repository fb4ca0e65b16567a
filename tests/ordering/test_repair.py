"""Repair of damaged logs from peers: real stores with flipped bits, real replicas and some played by the test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from tests.ordering.cluster import Cluster, Host, Peer, batch, on_disk, until
from tests.storage.spoiling import spoil

from quorate.consensus.messages import Behind, Learn, Learned
from quorate.consensus.paxos import messages as m
from quorate.errors import StorageBroken
from quorate.types import Ballot, ReplicaId, Slot, Vote

ONE, TWO, THREE = (ReplicaId(number) for number in (1, 2, 3))
NAMES = [f"command {number}" for number in range(12)]


async def filled(cluster: Cluster) -> dict[str, tuple[Slot, Vote]]:
    """Order some commands, one to a slot; return slot and vote of each that all stores know to be chosen."""
    await cluster.start()
    leader = await cluster.leader()
    for count, name in enumerate(NAMES, 1):
        assert leader.ordering.propose(batch(name))
        await cluster.all_read(count)
    votes = leader.store.read(1, leader.read[-1].point, 1 << 20)
    await cluster.stop()
    slots = {vote.batch: (slot, vote) for slot, vote in enumerate(votes, 1)}
    return {name: slots[batch(name)] for name in NAMES[:-2]}


def damage(cluster: Cluster, votes: Mapping[str, tuple[Slot, Vote]], where: Mapping[ReplicaId, list[str]]) -> None:
    for replica, names in where.items():
        for name in names:
            spoil(cluster.directory_of(replica), votes[name][1])


async def refusals(hosts: list[Host]) -> list[str]:
    """Start replicas that are all beyond repair; return why."""
    errors = await asyncio.gather(*(host.ordering.start() for host in hosts), return_exceptions=True)
    assert all(isinstance(error, StorageBroken) for error in errors), errors
    return [str(error) for error in errors]


async def test_each_slot_is_mended_as_long_as_one_replica_has_it(durable: Cluster) -> None:
    """The damage is spread like a thread around a screw: no replica is whole, every slot is somewhere."""
    votes = await filled(durable)
    damage(durable, votes, {ONE: [NAMES[2], NAMES[5]], TWO: [NAMES[3], NAMES[5]], THREE: [NAMES[4]]})
    await durable.start()
    await durable.leader()
    await durable.all_read(len(NAMES))
    for host in durable.hosts.values():
        assert host.store.damaged == ()
        assert host.names() == NAMES
    await durable.stop()
    await durable.start()
    assert all(host.names()[: len(votes)] == list(votes) for host in durable.hosts.values()), "it is durable"


async def test_a_slot_that_is_damaged_everywhere_is_named(durable: Cluster) -> None:
    votes = await filled(durable)
    lost, found = NAMES[6], NAMES[3]
    damage(durable, votes, {ONE: [lost], TWO: [found, lost], THREE: [lost]})
    errors = await refusals([durable.make(me) for me in (ONE, TWO, THREE)])
    assert all(f"slot {votes[lost][0]} is damaged here and no peer has it" in error for error in errors)
    assert durable.hosts[TWO].store.damaged == (votes[lost][0],), "the other was mended"


async def test_the_only_replica_can_ask_nobody(tmp_path: Path, core: str) -> None:
    cluster = Cluster(tmp_path, on_disk, 1, core=core)
    votes = await filled(cluster)
    damage(cluster, votes, {ONE: [NAMES[0]]})
    (error,) = await refusals([cluster.make(ONE)])
    assert f"slot {votes[NAMES[0]][0]} is damaged" in error
    await cluster.stop()


@pytest.mark.parametrize("trimmers", [(TWO,), (TWO, THREE)])
async def test_peers_that_have_trimmed_the_slot_lack_it(durable: Cluster, trimmers: tuple[ReplicaId, ...]) -> None:
    votes = await filled(durable)
    damaged, behind = votes[NAMES[2]][0], votes[NAMES[4]][0]
    damage(durable, votes, {ONE: [NAMES[2]]})
    await durable.start(TWO, THREE)
    for trimmer in trimmers:
        host = durable.hosts[trimmer]
        host.ordering.trim(host.ordering.base_at(behind))
    host = durable.make(ONE)
    if len(trimmers) == 2:
        (error,) = await refusals([host])
        assert f"slot {damaged} is damaged" in error
    else:
        await host.ordering.start()
        host.pull()
        assert host.names()[: len(votes)] == list(votes)


async def test_a_trimmed_log_is_mended_behind_its_base(durable: Cluster) -> None:
    votes = await filled(durable)
    await durable.start()
    host = durable.hosts[ONE]
    commits = host.store.commits
    host.ordering.trim(host.ordering.base_at(votes[NAMES[4]][0]))
    await until(lambda: host.store.commits > commits)
    await durable.stop()
    damage(durable, votes, {ONE: [NAMES[6]]})
    await durable.start()
    assert durable.hosts[ONE].names()[:5] == NAMES[5:10]


# --- what peers may say meanwhile, played ----------------------------------------------------------------------------


class Plight:
    """Replica 1 with two damaged slots; 2 and 3 are played by the test."""

    def __init__(self, cluster: Cluster, votes: list[tuple[Slot, Vote]]) -> None:
        self.cluster = cluster
        self.votes = votes
        self.two, self.three = Peer(cluster, TWO), Peer(cluster, THREE)
        self.host = cluster.make(ONE)
        self.starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        await self.two.mesh.start()
        await self.three.mesh.start()
        await self.host.ordering.start()

    async def asked(self, times: int = 1) -> None:
        """Wait until each peer was asked so many times more for what is damaged first."""
        for peer in (self.two, self.three):
            before = peer.heard.count(Learn(self.host.store.damaged[0]))
            await until(lambda: peer.heard.count(Learn(self.host.store.damaged[0])) >= before + times)  # noqa: B023

    async def close(self) -> None:
        self.starting.cancel()
        await asyncio.gather(self.starting, return_exceptions=True)
        await self.two.mesh.close()
        await self.three.mesh.close()


@pytest.fixture
async def plight(tmp_path: Path) -> AsyncIterator[Plight]:
    cluster = Cluster(tmp_path, on_disk)
    votes = await filled(cluster)
    damage(cluster, votes, {ONE: [NAMES[2], NAMES[4]]})
    for replica in (TWO, THREE):
        shutil.rmtree(cluster.directory_of(replica))
    (cluster.directory_of(ONE) / "acquaintances.json").unlink()
    plight = Plight(cluster, [votes[NAMES[2]], votes[NAMES[4]]])
    yield plight
    await plight.close()
    await cluster.stop()


async def test_a_peer_that_is_behind_is_asked_again(plight: Plight) -> None:
    await plight.asked()
    for peer in (plight.two, plight.three):
        peer.say(ONE, Learned(plight.votes[0][0], (), plight.votes[0][0] - 1))
    await plight.asked(2)
    for slot, vote in plight.votes:
        plight.three.say(ONE, Learned(slot, (vote,), slot))
    await plight.starting
    assert plight.host.store.damaged == ()


async def test_a_refusal_that_comes_late_does_not_count_for_the_next_slot(plight: Plight) -> None:
    (first, vote), (second, other) = plight.votes
    await plight.asked()
    plight.two.say(ONE, Learned(first, (vote,), first))
    await until(lambda: plight.host.store.damaged == (second,))
    for peer in (plight.two, plight.three):
        peer.say(ONE, Learned(first, (), second), Behind(first))
    await plight.asked(2)
    plight.two.say(ONE, Learned(first, (vote, vote, other), second))
    await plight.starting
    assert plight.host.store.damaged == ()


async def test_it_answers_others_from_what_is_whole_and_promises_nothing(plight: Plight) -> None:
    first, second = (slot for slot, _ in plight.votes)
    await plight.asked()
    plight.two.say(ONE, Learn(first - 1), Learn(first), Learn(second - 1), Learn(1000), m.Prepare(Ballot(9, TWO), 1))
    plight.two.say_bytes(ONE, b"\xc1 nonsense")
    await until(lambda: plight.two.count(Learned) == 4)
    answers = [(one.first, len(one.votes)) for one in plight.two.heard if isinstance(one, Learned)]
    assert answers == [(first - 1, 1), (first, 0), (second - 1, 1), (1000, 0)]
    await plight.asked()
    assert plight.two.count(m.Promise) == 0
