"""Members of a run that come and go, over real replicas and their admin listeners in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.ops.test_admin import STATUS
from tests.ordering.cluster import Cluster, Host, free_addresses, on_disk, until

from quorate import limits
from quorate.config import AppConfig, SidecarConfig
from quorate.errors import Misuse, NetworkRefused
from quorate.intercept.server import HttpServer
from quorate.ops.admin import Admin
from quorate.ops.changes import Changes, names
from quorate.ops.members import Members
from quorate.types import ReplicaId

ONE, TWO, THREE, FOUR = (ReplicaId(number) for number in (1, 2, 3, 4))


class InProcess:
    """A run whose replicas live in this process, each with its admin listener; `record` is what is on disk."""

    def __init__(self, directory: Path) -> None:
        self.cluster = Cluster(directory, on_disk)
        self.configs = {f"r{number}": self.config(number) for number in self.cluster.addresses}
        self.record = list(self.configs)
        self.admins: dict[str, HttpServer] = {}
        self.starting: set[asyncio.Task[None]] = set()
        self.ending: list[asyncio.Task[None]] = []
        self.said: list[str] = []

    def config(self, number: int) -> SidecarConfig:
        client, admin, app = free_addresses(3)
        peers = {str(replica): address for replica, address in self.cluster.addresses.items()}
        return SidecarConfig(
            cluster="bank",
            replica=number,
            peers=peers,
            data_dir=str(self.cluster.directory_of(ReplicaId(number))),
            client=client,
            admin=admin,
            app=AppConfig(app),
        )

    async def start(self, name: str) -> None:
        me = ReplicaId(int(name[1:]))
        await self.cluster.start(me)
        members = Members(self.cluster.hosts[me].ordering)
        self.admins[name] = HttpServer(Admin(lambda: STATUS, members, CollectorRegistry()))
        await self.admins[name].listen(self.configs[name].admin)
        self.ending.append(asyncio.create_task(self.end_with(name, self.cluster.hosts[me])))

    async def end_with(self, name: str, host: Host) -> None:
        """Answer no more once a real process would have ended."""
        while not host.broken:
            await asyncio.sleep(0.01)
        self.admins[name].close()

    async def stop(self, name: str) -> None:
        self.admins[name].close()
        await self.cluster.stop(ReplicaId(int(name[1:])))

    def expect(self, number: int) -> SidecarConfig:
        self.said.append(f"expect r{number}")
        self.record.append(f"r{number}")
        (self.cluster.addresses[ReplicaId(number)],) = free_addresses(1)
        return self.config(number)

    def welcome(self, config: SidecarConfig) -> None:
        name = f"r{config.replica}"
        self.said.append(f"welcome {name}")
        if name not in self.configs:
            self.configs[name] = config
            self.starting.add(asyncio.create_task(self.start(name)))

    def dismiss(self, name: str) -> None:
        self.said.append(f"dismiss {name}")
        self.record.remove(name)
        self.configs.pop(name, None)

    def voters(self) -> set[tuple[ReplicaId, ...]]:
        return {host.ordering.membership.voters for host in self.cluster.hosts.values() if not host.broken}

    async def close(self) -> None:
        await asyncio.gather(*self.starting)
        for task in self.ending:
            task.cancel()
        await asyncio.gather(*self.ending, return_exceptions=True)
        for admin in self.admins.values():
            admin.close()
        await self.cluster.stop()


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InProcess]:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.03)
    monkeypatch.setattr(limits, "CHANGE_SECONDS_MAX", 1)
    run = InProcess(tmp_path)
    for name in tuple(run.configs):
        await run.start(name)
    await run.cluster.leader()
    yield run
    await run.close()


async def test_a_newcomer_is_on_record_before_the_cluster_hears_of_it_and_then_votes(run: InProcess) -> None:
    answer = await Changes(run).add()
    assert (answer["name"], names(answer)) == ("r4", ["r1", "r2", "r3", "r4"])
    assert run.said == ["expect r4", "welcome r4"]
    await until(lambda: run.voters() == {(ONE, TWO, THREE, FOUR)})

    await run.cluster.leader()
    answer = await Changes(run).remove("r4")
    assert (answer["name"], names(answer)) == ("r4", ["r1", "r2", "r3"])
    assert run.said == ["expect r4", "welcome r4", "dismiss r4"]
    answer = await Changes(run).add()
    assert answer["name"] == "r5", "an id is not given again"
    assert run.record == ["r1", "r2", "r3", "r5"]


async def test_a_leader_hands_over_before_it_leaves(run: InProcess) -> None:
    await Changes(run).add()
    await until(lambda: run.voters() == {(ONE, TWO, THREE, FOUR)})
    leader = await run.cluster.leader()
    await Changes(run).remove(f"r{leader.me}")
    assert run.said[-1] == f"dismiss r{leader.me}"
    await until(lambda: leader.broken)
    await until(lambda: run.voters() == {tuple(sorted({ONE, TWO, THREE, FOUR} - {leader.me}))})


async def test_a_refusal_says_why_and_leaves_no_trace(run: InProcess) -> None:
    gone = f"r{(await run.cluster.leader()).me}"
    await run.stop(gone)
    leader = await run.cluster.leader()
    (other,) = run.cluster.hosts.keys() - {leader.me}
    why = f"without replica {other} the quorum would be lost: nothing is heard of {gone[1]}"
    with pytest.raises(Misuse, match=why):
        await Changes(run).remove(f"r{other}")
    with pytest.raises(Misuse, match="no replica r9 - known are r1, r2, r3"):
        await Changes(run).remove("r9")
    assert run.said == []
    assert run.voters() == {(ONE, TWO, THREE)}


async def test_a_second_newcomer_waits_until_the_first_votes(run: InProcess) -> None:
    (address,) = free_addresses(1)
    assert await run.cluster.hosts[ONE].change(FOUR, address) == "", "by hand, and nobody starts it"
    with pytest.raises(Misuse, match="replica 4 is still catching up"):
        await Changes(run).add()
    assert run.said == ["expect r5", "dismiss r5"]
    assert run.record == ["r1", "r2", "r3"]


async def test_a_replica_that_is_down_is_passed_over(run: InProcess) -> None:
    changes = Changes(run)
    await run.stop("r1")
    assert names(await changes.members()) == ["r1", "r2", "r3"]
    assert (await changes.remove("r1"))["version"] == 1
    await run.stop("r2")
    await run.stop("r3")
    with pytest.raises(NetworkRefused, match="no replica answers"):
        await changes.members()


async def test_who_may_have_been_added_is_started_and_taken_up_by_the_next_attempt(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader without a quorum proposes the change, and nobody can tell whether it will be chosen."""
    monkeypatch.setattr(limits, "CHANGE_SECONDS_MAX", 0.2)
    before = await run.cluster.leader()
    others = [name for name in run.configs if name != f"r{before.me}"]
    for name in others:
        await run.stop(name)
    with pytest.raises(NetworkRefused):
        await Changes(run).add()
    assert run.said == ["expect r4", "welcome r4"]
    assert "r4" in run.record
    for name in others:
        await run.start(name)
    while FOUR not in before.ordering.membership.members:
        with contextlib.suppress(Misuse):
            await Changes(run).add()
    await until(lambda: run.voters() == {(ONE, TWO, THREE, FOUR)})
    assert run.record == ["r1", "r2", "r3", "r4"]
