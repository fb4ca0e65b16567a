"""What is broken in each part, seen close; that it is caught is shown in `test_table`."""

from __future__ import annotations

from tests.sim.worlds import Cluster

from quorate.sim.app import App, command_of
from quorate.sim.kits import PAXOS
from quorate.sim.planted import parts


def test_a_dump_without_sessions_leaves_the_running_application_as_it_was() -> None:
    app = parts.LeavesOutTheSessions()
    app.apply(command_of(7, 0, 0))
    restored = App.load(app.dump())
    assert app.answered(7)
    assert restored.answered(7) is None
    assert restored.digest == app.digest


def test_without_sessions_a_repeated_command_takes_effect_twice() -> None:
    app = parts.ExecutesEverything()
    assert app.apply(command_of(7, 0, 0)).executed
    assert app.apply(command_of(7, 0, 0)).executed


def test_keyed_by_connection_a_retry_elsewhere_is_another_request() -> None:
    cluster = Cluster(kit=PAXOS._replace(process=parts.KeysByConnection))
    cluster.submit(cluster.leader, 7, [])
    cluster.ticks(5)
    process = cluster.follower.process
    assert process is not None
    assert process.app.answered(7) is None
    assert cluster.invariants.executed == {7: 1}


def test_snapshots_say_too_much_or_too_little() -> None:
    for part in (parts.CompactsOneTooMany, parts.LeavesOutTheMembers):
        cluster = Cluster(kit=PAXOS._replace(process=part))
        process = cluster.leader.process
        assert process is not None
        cluster.write(cluster.leader, 2)
        cluster.ticks(5)
        snapshot = process.snapshot()
        right = (snapshot.base.slot == process.delivered, snapshot.membership == process.membership)
        assert sorted(right) == [False, True]
