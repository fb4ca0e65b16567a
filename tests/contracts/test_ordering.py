"""What every ordering engine must do, whatever it is made of."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from tests.ordering.cluster import Cluster, Host, batch, on_disk, until

from quorate import registry
from quorate.types import Slot

ENGINES: dict[str, Callable[[Path], Cluster]] = {
    f"embedded-{core}": partial(Cluster, open_store=on_disk, core=core) for core in registry.CORES
}
"""Three replicas of each engine, whose state outlives a stop."""


@pytest.fixture(params=sorted(ENGINES))
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = ENGINES[request.param](tmp_path)
    await cluster.start()
    yield cluster
    await cluster.stop()


async def write(host: Host, *names: str) -> None:
    """Propose each command by itself until this replica was given it: a proposal may get lost, as a leader may."""
    for name in names:
        while name not in host.names():
            host.ordering.propose(batch(name))
            with contextlib.suppress(TimeoutError):
                await until(lambda: name in host.names(), seconds=2)  # noqa: B023


async def test_all_replicas_are_given_the_same_commands_in_the_same_order(cluster: Cluster) -> None:
    await cluster.leader()
    for number in range(30):
        for host in cluster.hosts.values():
            host.ordering.propose(batch(f"{host.me}.{number}"))
    await cluster.all_read(90)
    orders = [host.names() for host in cluster.hosts.values()]
    assert orders[0] == orders[1] == orders[2]
    assert len(set(orders[0])) == 90


async def test_commands_of_one_proposer_keep_their_order(cluster: Cluster) -> None:
    follower = await cluster.follower()
    for number in range(50):
        assert follower.ordering.propose(batch(str(number)))
    await cluster.all_read(50)
    assert follower.names() == [str(number) for number in range(50)]


async def test_indexes_count_commands_without_gaps(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for size in (3, 1, 4, 1, 5):
        leader.ordering.propose(batch(*(f"{size}.{n}" for n in range(size))))
    await cluster.all_read(14)
    for host in cluster.hosts.values():
        index = 1
        for entry in host.read:
            assert entry.first_index == index
            index += entry.batch.size
        assert host.ordering.status().last_index == index - 1 == 14


async def test_points_rise_and_a_cursor_may_start_anywhere(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await write(leader, *"abcde")
    points = [entry.point for entry in leader.read]
    assert points == sorted(set(points))
    for position, entry in enumerate(leader.read):
        assert leader.ordering.entries(entry.point)[:1] == leader.read[position + 1 : position + 2]
    assert leader.ordering.entries(0)[0] == leader.read[0]


async def test_a_barrier_covers_every_write_that_was_delivered_anywhere(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for number in range(10):
        await write(leader, str(number))
        for host in cluster.hosts.values():
            point = await host.barrier()
            await until(lambda: host.read and host.read[-1].point >= point)  # noqa: B023
            assert str(number) in host.names()


async def test_what_was_not_taken_is_never_ordered(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await write(leader, "a")
    others = [host.me for host in cluster.hosts.values() if host is not leader]
    await cluster.stop(*others)
    await until(lambda: leader.ordering.status().leader is None)
    assert not leader.ordering.propose(batch("refused"))
    await cluster.start(*others)
    await write(leader, "b")
    assert leader.names() == ["a", "b"]


async def test_a_minority_gets_neither_order_nor_barrier(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await write(leader, "a")
    await cluster.stop(*(host.me for host in tuple(cluster.hosts.values()) if host is not leader))
    answers: list[Slot] = []
    leader.ordering.propose(batch("b"))
    leader.ordering.read_barrier(answers.append)
    await until(lambda: leader.ordering.status().leader is None)
    assert leader.names() == ["a"]
    assert answers == []


async def test_a_majority_goes_on_and_who_returns_is_given_what_it_missed(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await write(leader, "a")
    gone = leader.me
    await cluster.stop(gone)
    successor = await cluster.leader()
    await write(successor, "b", "c")
    await cluster.start(gone)
    await cluster.all_read(3)
    assert cluster.hosts[gone].names() == ["a", "b", "c"]


async def test_nothing_delivered_is_lost_when_all_stop(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await write(leader, *"abc")
    before = leader.read[:]
    await cluster.stop()
    await cluster.start()
    await cluster.leader()
    await cluster.all_read(3)
    for host in cluster.hosts.values():
        assert host.read[: len(before)] == before


async def test_all_know_a_leadership_by_one_name_and_the_next_by_another(cluster: Cluster) -> None:
    """Whoever leads next: the same replica may have forgotten what it was told when it led before."""
    names = []
    for _ in range(3):
        leader = await cluster.leader()
        name = leader.ordering.status().leadership
        assert name is not None
        assert name.replica == leader.me
        names.append(name)
        await until(lambda: {host.ordering.status().leadership for host in cluster.hosts.values()} == {names[-1]})
        await cluster.stop()
        await cluster.start()
    assert names == sorted(set(names))


async def test_the_status_tells_where_the_order_stands(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await write(leader, "a")
    status = leader.ordering.status()
    assert (status.role, status.leader) == ("leader", f"r{leader.me}")
    assert (status.point, status.last_index) == (leader.read[-1].point, 1)
    assert status.point_known >= status.point
