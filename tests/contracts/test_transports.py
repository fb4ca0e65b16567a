"""What every transport must do, whatever it is made of: over real sockets, on loopback, on either event loop."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from quorate import limits, registry
from quorate.errors import Broken, IdentityRefused
from quorate.ops import tls
from quorate.transport import Channel, MeshOptions, StoreFacts, Transport
from quorate.transport.tls import Credentials, TlsFiles
from quorate.types import Membership, ReplicaId, founding

ONE, TWO, THREE, FOUR = (ReplicaId(n) for n in (1, 2, 3, 4))
STORE = bytes(16)


class Member:
    """One end of a mesh, and what it heard."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.heard: list[tuple[ReplicaId, bytes]] = []
        self.heard_state: list[tuple[ReplicaId, bytes]] = []
        self.refused: list[Broken] = []
        transport.on_refused = self.refused.append
        transport.subscribe(Channel.ORDER, lambda sender, payload: self.heard.append((sender, payload)))
        transport.subscribe(Channel.STATE, lambda sender, payload: self.heard_state.append((sender, payload)))

    def say(self, to: tuple[ReplicaId, ...], *payloads: bytes, channel: Channel = Channel.ORDER) -> None:
        for payload in payloads:
            self.transport.send(to, payload, channel)
        self.transport.flush()


class Mesh:
    """Three members, each with its address and directory, that come and go."""

    def __init__(self, make: Callable[..., Transport], directory: Path, certificates: Path | None) -> None:
        self._make = make
        self._certificates = certificates
        self._directory = directory
        self._lives = dict.fromkeys((ONE, TWO, THREE, FOUR), 0)
        self.peers = dict(zip((ONE, TWO, THREE), free_addresses(3), strict=True))
        self.members: list[Member] = []

    async def join(
        self,
        replica: ReplicaId,
        cluster: str = "bank",
        epoch: int = 1,
        *,
        listen: str | None = None,
        membership: Membership | None = None,
        store: StoreFacts | None = None,
    ) -> Member:
        """Start a replica; `store` overrides that this is its next life on the store it had, which holds 100 commits.

        An empty `membership` makes it a joiner, which knows the founders by its settings.
        """
        self._lives[replica] += 1
        directory = self._directory / f"r{replica}"
        directory.mkdir(exist_ok=True)
        addresses = {} if membership is None or membership.members else self.peers
        secret = self._certificates
        credentials = None if secret is None else Credentials(TlsFiles.of(secret, f"r{replica}"))
        options = MeshOptions(cluster, epoch, listen or self.peers[replica], addresses, credentials)
        facts = store or StoreFacts(STORE, self._lives[replica], random.randbytes(8), lambda: 100)
        known = founding(self.peers) if membership is None else membership
        member = Member(self._make(replica, known, options, facts, directory, random.Random(replica)))
        self.members.append(member)
        await member.transport.start()
        return member


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    tls.init(directory, "bank", (ONE, TWO, THREE, FOUR))
    return directory


@pytest.fixture(params=[(name, way) for name in sorted(registry.TRANSPORTS) for way in ("clear", "tls")], ids="-".join)
async def mesh(request: pytest.FixtureRequest, certificates: Path, tmp_path: Path) -> AsyncIterator[Mesh]:
    name, way = request.param
    mesh = Mesh(registry.resolve(registry.TRANSPORTS, name), tmp_path, certificates if way == "tls" else None)
    yield mesh
    for member in mesh.members:
        await member.transport.close()


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def linked(one: Member, *others: tuple[ReplicaId, Member], me: ReplicaId = ONE) -> bool:
    """Say whether `one` and each of the others reach each other."""
    reach = one.transport.connected()
    return all(peer in reach and me in other.transport.connected() for peer, other in others)


# --- payloads --------------------------------------------------------------------------------------------------------


async def test_two_members_talk_both_ways(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected() == {TWO} and two.transport.connected() == {ONE})
    one.say((TWO,), b"a", b"", b"c")
    two.say((ONE,), b"d")
    await until(lambda: len(two.heard) == 3 and one.heard)
    assert two.heard == [(ONE, b"a"), (ONE, b""), (ONE, b"c")]
    assert one.heard == [(TWO, b"d")]


async def test_three_members_hear_what_is_sent_to_them_alone(mesh: Mesh) -> None:
    one, two, three = [await mesh.join(replica) for replica in (ONE, TWO, THREE)]
    await until(lambda: all(len(member.transport.connected()) == 2 for member in (one, two, three)))
    one.say((TWO, THREE), b"all")
    two.say((THREE,), b"three")
    await until(lambda: two.heard and len(three.heard) == 2)
    assert two.heard == [(ONE, b"all")]
    assert sorted(three.heard) == [(ONE, b"all"), (TWO, b"three")]
    assert one.heard == []


async def test_nothing_leaves_before_the_flush(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    one.transport.send((TWO,), b"a")
    assert one.transport.statistics().sent_frames == 0
    one.transport.flush()
    await until(lambda: two.heard)
    assert one.transport.statistics().sent_frames == 1


async def test_to_send_to_an_absent_peer_is_to_lose_and_count(mesh: Mesh) -> None:
    one = await mesh.join(ONE)
    one.say((TWO, THREE), b"a")
    statistics = one.transport.statistics()
    assert (statistics.dropped_frames, statistics.sent_frames, statistics.buffered_bytes) == (2, 0, 0)
    assert one.transport.connected() == frozenset()


async def test_a_peer_that_starts_later_or_anew_is_found(mesh: Mesh) -> None:
    one = await mesh.join(ONE)
    for life in range(3):
        two = await mesh.join(TWO)
        await until(lambda: TWO in one.transport.connected() and ONE in two.transport.connected())  # noqa: B023
        one.say((TWO,), b"%d" % life)
        two.say((ONE,), b"%d" % life)
        await until(lambda: two.heard and len(one.heard) == life + 1)  # noqa: B023
        assert two.heard == [(ONE, b"%d" % life)]
        await two.transport.close()
        await until(lambda: not one.transport.connected())
    assert one.transport.statistics().connects == 3


async def test_a_large_payload_passes(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    large = random.Random(1).randbytes(8 * 1024 * 1024)
    one.say((TWO,), large, b"after")
    await until(lambda: len(two.heard) == 2)
    assert [payload for _, payload in two.heard] == [large, b"after"]
    await until(lambda: one.transport.statistics().buffered_bytes == 0)


async def test_many_small_payloads_keep_their_order(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    payloads = [b"%d" % number for number in range(20_000)]
    for start in range(0, len(payloads), 100):
        one.say((TWO,), *payloads[start : start + 100])
        await asyncio.sleep(0)
    await until(lambda: len(two.heard) == len(payloads))
    assert [payload for _, payload in two.heard] == payloads
    statistics = two.transport.statistics()
    assert (statistics.received_frames, statistics.received_bytes) == (20_000, sum(map(len, payloads)))


@pytest.mark.parametrize(("cluster", "epoch"), [("shop", 1), ("bank", 2)])
async def test_another_cluster_or_epoch_is_refused_by_both(mesh: Mesh, cluster: str, epoch: int) -> None:
    one, stranger = await mesh.join(ONE), await mesh.join(TWO, cluster, epoch)
    both = [one.transport, stranger.transport]
    await until(lambda: all(transport.statistics().refused_connections >= 3 for transport in both))
    one.say((TWO,), b"a")
    stranger.say((ONE,), b"b")
    assert not one.transport.connected()
    assert not stranger.transport.connected()
    assert one.heard == stranger.heard == []


async def test_a_closed_transport_leaves_no_task_and_no_port(mesh: Mesh) -> None:
    before = asyncio.all_tasks()
    one, _ = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    for member in mesh.members:
        await member.transport.close()
    assert asyncio.all_tasks() == before
    again = await mesh.join(ONE)
    assert again.transport.connected() == frozenset()


# --- channels --------------------------------------------------------------------------------------------------------


async def test_each_channel_has_its_own_listener(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    one.say((TWO,), b"snapshot", channel=Channel.STATE)
    one.say((TWO,), b"vote")
    await until(lambda: two.heard and two.heard_state)
    assert (two.heard, two.heard_state) == ([(ONE, b"vote")], [(ONE, b"snapshot")])


async def test_state_past_its_bound_is_dropped_and_counted(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    chunk = bytes(200_000)
    for _ in range(10):
        one.transport.send((TWO,), chunk, Channel.STATE)
    one.transport.send((TWO,), bytes(limits.STATE_BUFFER_BYTES_MAX))
    statistics = one.transport.statistics()
    assert (statistics.dropped_state_frames, statistics.dropped_frames) == (5, 5)
    one.transport.flush()
    await until(lambda: len(two.heard_state) == 5 and two.heard)
    one.say((TWO,), chunk, channel=Channel.STATE)
    await until(lambda: len(two.heard_state) == 6)


# --- members ---------------------------------------------------------------------------------------------------------


def with_fourth(mesh: Mesh) -> Membership:
    before = founding(mesh.peers)
    (address,) = free_addresses(1)
    addresses = (*before.addresses, (FOUR, address))
    return Membership(1, before.voters, (FOUR,), addresses, FOUR)


def without_third(mesh: Mesh) -> Membership:
    addresses = {replica: address for replica, address in mesh.peers.items() if replica != THREE}
    return Membership(1, (ONE, TWO), (), tuple(addresses.items()), THREE)


async def test_a_joiner_is_let_in_before_its_peers_have_heard_of_it(mesh: Mesh) -> None:
    """One that comes back after a long time may know none of those who are left."""
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    grown = with_fourth(mesh)
    four = await mesh.join(FOUR, listen=dict(grown.addresses)[FOUR], membership=founding({}))
    await until(lambda: linked(four, (ONE, one), (TWO, two), me=FOUR))
    for each in (one, two, four):
        each.transport.reconfigure(grown)
    assert FOUR in one.transport.connected()
    one.say((FOUR,), b"welcome")
    four.say((ONE, TWO), b"thanks")
    await until(lambda: four.heard and one.heard and two.heard)
    assert (four.heard, one.heard) == ([(ONE, b"welcome")], [(FOUR, b"thanks")])


async def test_a_member_that_went_is_cut_off_and_told(mesh: Mesh) -> None:
    one, three = await mesh.join(ONE), await mesh.join(THREE)
    await until(lambda: linked(one, (THREE, three)))
    one.transport.reconfigure(without_third(mesh))
    assert one.transport.connected() == frozenset()
    await until(lambda: three.refused)
    assert [type(error) for error in three.refused] == [IdentityRefused]
    assert "was removed" in three.refused[0].what
    one.say((THREE,), b"to nobody")
    three.say((ONE,), b"from nobody")
    assert one.transport.statistics().dropped_frames == 1
    assert one.heard == []


async def test_a_peer_that_moved_is_found(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: linked(one, (TWO, two)))
    await two.transport.close()
    two = await mesh.join(TWO, listen=free_addresses(1)[0])
    await until(lambda: linked(one, (TWO, two)))
    one.say((TWO,), b"there you are")
    await until(lambda: two.heard)


# --- stores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "why"),
    {
        "emptied": (StoreFacts(b"another store id", 1, bytes(8), lambda: 1), "another store"),
        "older life": (StoreFacts(STORE, 2, bytes(8), lambda: 100), "life 2 of its store, after life 3"),
        "older commits": (StoreFacts(STORE, 9, bytes(8), lambda: 99), "99 commits in its store, after 100"),
        "twin": (StoreFacts(STORE, 3, bytes(8), lambda: 100), "twice in life 3"),
    }.values(),
    ids=["emptied", "older life", "older commits", "twin"],
)
@pytest.mark.parametrize("witness_restarts", [False, True], ids=["", "after a restart of its peer"])
async def test_a_peer_that_is_less_than_it_was_is_refused_for_good(
    mesh: Mesh, facts: StoreFacts, why: str, witness_restarts: bool
) -> None:
    one = await mesh.join(ONE)
    two = await mesh.join(TWO, store=StoreFacts(STORE, 3, b"the life", lambda: 100))
    await until(lambda: linked(one, (TWO, two)))
    await two.transport.close()
    if witness_restarts:
        await one.transport.close()
        one = await mesh.join(ONE)
    two = await mesh.join(TWO, store=facts)
    await until(lambda: two.refused)
    assert [error.exit_code for error in two.refused] == [3]
    assert why in two.refused[0].what
    assert "rejoin as a new member" in two.refused[0].hint
    assert not one.transport.connected()
    assert not one.refused
    assert not one.heard


async def test_a_peer_in_its_next_life_is_welcome(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: linked(one, (TWO, two)))
    await two.transport.close()
    two = await mesh.join(TWO)
    await until(lambda: linked(one, (TWO, two)))
    assert not two.refused
