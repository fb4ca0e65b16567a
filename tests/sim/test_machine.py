"""Lives, deaths, pauses and doors of machines."""

from __future__ import annotations

from tests.sim.worlds import PEACE, Cluster

from quorate.consensus.paxos.messages import PaxosMessage, Preempted
from quorate.sim.app import DONE
from quorate.sim.disk import Image
from quorate.sim.reads import Answer
from quorate.types import Ballot, ReplicaId
from quorate.wire import Channel, MessageCodec

ALONE = PEACE._replace(replicas=1)


def test_a_dead_machine_is_out_of_reach() -> None:
    cluster = Cluster(ALONE)
    cluster[1].crash()
    assert cluster.write(cluster[1]) == ["unreachable"]
    assert not cluster[1].leads()
    assert not cluster[1].up


def test_each_life_starts_from_the_disk() -> None:
    cluster = Cluster(ALONE)
    assert cluster.write(cluster[1]) == [Answer(1, DONE)]
    first = cluster[1].process
    cluster[1].crash()
    cluster[1].boot()
    cluster.ticks(40)
    assert cluster[1].process is not first
    assert cluster[1].leads()
    assert cluster[1].disk.image.promised.round == 2
    answers: list[object] = []
    cluster.submit(cluster[1], 1, answers)
    assert answers == [Answer(1, DONE)]


def test_a_crash_leaves_nothing_of_the_old_life_running() -> None:
    cluster = Cluster(ALONE)
    answers: list[object] = []
    cluster.submit(cluster[1], 1, answers)
    cluster[1].crash()
    cluster[1].boot()
    cluster.ticks(40)
    assert answers == []
    assert cluster[1].leads()


def test_a_paused_machine_finds_everything_it_missed_in_order() -> None:
    cluster = Cluster()
    leader, other = cluster.leader, cluster.follower
    leader.pause()
    answers = cluster.write(leader)
    message = MessageCodec(PaxosMessage).encode(Preempted(Ballot(9, other.me)))
    leader.surroundings.network.send(other.me, leader.me, Channel.ORDER, message)
    cluster.ticks(5)
    assert answers == []
    assert leader.leads()
    leader.resume()
    assert not leader.leads()


def test_a_crash_forgets_what_a_paused_machine_missed() -> None:
    cluster = Cluster(ALONE)
    cluster[1].pause()
    answers = cluster.write(cluster[1])
    cluster[1].crash()
    cluster[1].boot()
    cluster.ticks(40)
    assert not cluster[1].paused
    assert answers == []


def test_a_machine_that_is_gone_starts_no_more() -> None:
    cluster = Cluster()
    cluster[1].retire("for a test")
    cluster[1].boot()
    assert not cluster[1].up
    assert not cluster[1].intact
    assert cluster[1].gone == "for a test"


# --- the door --------------------------------------------------------------------------------------------------------


def test_who_comes_back_with_an_empty_disk_is_sent_away() -> None:
    cluster = Cluster()
    victim = cluster.follower
    cluster.write(cluster.leader, 3)
    victim.crash()
    victim.disk.image = Image(store=-victim.me)
    victim.condemned = True
    victim.boot()
    cluster.ticks(40)
    assert victim.gone == "its disk is less than it was"


def test_who_comes_back_with_an_old_disk_is_sent_away() -> None:
    cluster = Cluster()
    victim = cluster.follower
    backup = victim.disk.image.copied()
    cluster.write(cluster.leader, 3)
    cluster.ticks(5)
    victim.crash()
    victim.disk.image = backup
    victim.condemned = True
    victim.boot()
    cluster.ticks(40)
    assert victim.gone == "its disk is less than it was"


def test_who_was_removed_works_on_until_somebody_knows_for_good() -> None:
    cluster = Cluster()
    cluster.admin.begin()
    cluster.admin.remove()
    cluster.ticks(60)
    (removed,) = {ReplicaId(1), ReplicaId(2), ReplicaId(3)} - set(cluster.invariants.membership.voters)
    assert cluster.machines[removed].gone == "it was removed"
    remaining = [machine for machine in cluster.machines.values() if machine.me != removed]
    assert all(machine.disk.image.membership is not None for machine in remaining)


def test_a_removed_replica_that_takes_no_notice_changes_nothing() -> None:
    cluster = Cluster()
    cluster.admin.begin()
    for machine in cluster.machines.values():
        machine.disturbs = True
    cluster.admin.remove()
    cluster.ticks(100)
    (removed,) = {ReplicaId(1), ReplicaId(2), ReplicaId(3)} - set(cluster.invariants.membership.voters)
    assert cluster.machines[removed].up
    assert cluster.write(cluster.leader, 2)[-1] == Answer(len(cluster.invariants.chosen), DONE)
