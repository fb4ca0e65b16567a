"""The TCP mesh against strangers, garbage, silence, and peers that are less than they were."""

from __future__ import annotations

import asyncio
import random
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
from tests.transport.host import FACTS, HELLO, ME, PEER, Host, at_end, free_address, greeting, read_hello, until

from quorate import limits
from quorate.errors import Misbehaviour, Misuse, NetworkRefused
from quorate.transport import Channel, MeshOptions
from quorate.transport.tcp import TcpMesh
from quorate.types import Membership, ReplicaId, founding
from quorate.wire import Refusal, encode_commits, encode_frame


class TestAccepting:
    async def test_a_peer_is_greeted_and_heard(self, host: Host) -> None:
        _, writer, answer = await host.greet()
        assert answer == host.own_hello
        writer.write(encode_frame(b"one") + encode_frame(b"two"))
        await until(lambda: len(host.heard) == 2)
        assert host.heard == [(PEER, b"one"), (PEER, b"two")]

    @pytest.mark.parametrize(
        "changed",
        [
            {"cluster": "shop"},
            {"epoch": 2},
            {"sender": ME},
            {"sender": 0},
            {"receiver": 3},
            {"receiver": 0},
            {"address": "nowhere"},
        ],
        ids=str,
    )
    async def test_a_stranger_is_told_and_closed(self, host: Host, changed: dict[str, object]) -> None:
        reader, writer, answer = await host.greet(msgspec.structs.replace(HELLO, **changed))
        assert (answer.refusal, answer.store) == (Refusal.STRANGER, b"")
        assert answer.why
        writer.write(encode_frame(b"believe me"))
        assert await at_end(reader)
        assert host.refused() == 1
        assert host.heard == []

    @pytest.mark.parametrize(
        "garbage",
        [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\xff" * 100,
            encode_frame(b"no greeting", Channel.MESH),
            encode_frame(HELLO.encode(), Channel.ORDER),
            encode_frame(b"x" * (limits.HELLO_BYTES_MAX + 1), Channel.MESH),
            greeting(msgspec.structs.replace(HELLO, version=1)),
            greeting(msgspec.structs.replace(HELLO, magic=b"etcd")),
            b"\x00\x00\x00\x01\x00\x00\x00\x00x",
            b"\x00\x00\x00\x00\x00\x00\x00\x00",
        ],
        ids=["http", "huge", "no hello", "channel", "large hello", "version", "magic", "checksum", "empty"],
    )
    async def test_garbage_is_closed_without_a_word(self, host: Host, garbage: bytes) -> None:
        reader, writer = await host.connect()
        writer.write(garbage)
        assert await reader.read() == b""
        assert host.refused() == 1

    @pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\x00\x00\x00\x01\x00\x00\x00\x00x"], ids=["length", "checksum"])
    async def test_garbage_after_the_greeting_is_closed(self, host: Host, garbage: bytes) -> None:
        reader, writer, _ = await host.greet()
        writer.write(encode_frame(b"good"))
        await until(lambda: host.heard)
        writer.write(garbage)
        assert await at_end(reader)
        assert host.refused() == 1

    async def test_misbehaviour_found_by_the_listener_closes_too(self, host: Host) -> None:
        def refuse(sender: ReplicaId, payload: bytes) -> None:
            raise Misbehaviour("nonsense")

        host.mesh.subscribe(Channel.STATE, refuse)
        reader, writer, _ = await host.greet()
        writer.write(encode_frame(b"\xff", Channel.STATE))
        assert await at_end(reader)
        assert host.refused() == 1

    @pytest.mark.parametrize(
        "frame",
        [encode_frame(b"chunk", Channel.STATE), b"\x00\x00\x00\x01" + zlib.crc32(b"\x63").to_bytes(4, "big") + b"\x63"],
        ids=["nobody listens", "unknown"],
    )
    async def test_a_channel_of_nobody_closes(self, host: Host, frame: bytes) -> None:
        reader, writer, _ = await host.greet()
        writer.write(frame)
        assert await at_end(reader)
        assert host.refused() == 1
        assert host.heard == []

    @pytest.mark.parametrize("payload", [b"", b"\xff", b"\xa1x", b"\xc3", b"\x01\x01", b"\xcf" + b"\xff" * 8])
    async def test_commits_that_are_no_number_close(self, host: Host, payload: bytes) -> None:
        reader, writer, _ = await host.greet()
        writer.write(encode_frame(payload, Channel.MESH))
        assert await at_end(reader)
        assert host.refused() == 1

    async def test_a_member_that_was_removed_is_told(self, host: Host) -> None:
        host.mesh.reconfigure(Membership(1, (ME,), (), ((ME, host.address),), PEER))
        reader, _, answer = await host.greet()
        assert (answer.refusal, answer.why) == (Refusal.REMOVED, "replica 2 was removed from the cluster")
        assert await at_end(reader)

    async def test_a_member_that_is_removed_is_heard_no_more(self, host: Host) -> None:
        def remove(sender: ReplicaId, payload: bytes) -> None:
            host.mesh.reconfigure(Membership(1, (ME,), (), ((ME, host.address),), PEER))

        host.mesh.subscribe(Channel.STATE, remove)
        reader, writer, _ = await host.greet()
        commits = encode_frame(encode_commits(60), Channel.MESH)
        writer.write(encode_frame(b"", Channel.STATE) + encode_frame(b"late") + commits)
        assert await at_end(reader)
        assert host.heard == []

    async def test_a_member_without_a_readable_address_has_to_tell_it(self, host: Host) -> None:
        third = ReplicaId(3)
        addresses = ((ME, host.address), (PEER, host.peer_address), (third, "nowhere"))
        host.mesh.reconfigure(Membership(1, (ME, PEER), (third,), addresses, third))
        async with host.playing_peer() as connections:
            await connections.get()
            await host.greet(msgspec.structs.replace(HELLO, sender=third, address=host.peer_address))
            while (await read_hello((await connections.get())[0])).receiver != third:
                host.mesh.reconfigure(Membership(2, (ME,), (third,), addresses, third))

    async def test_a_newer_connection_replaces_the_older(self, host: Host) -> None:
        older, _, _ = await host.greet()
        _, writer, _ = await host.greet()
        assert await at_end(older)
        writer.write(encode_frame(b"still here"))
        await until(lambda: host.heard)
        assert host.refused() == 0

    async def test_silence_is_closed(self, host: Host) -> None:
        reader, writer = await host.connect()
        writer.write(greeting()[:-1])
        assert await reader.read() == b""
        assert host.refused() == 1

    async def test_strangers_are_bounded_and_peers_do_not_count(self, host: Host) -> None:
        await host.greet()
        waiting = [await host.connect() for _ in range(limits.UNGREETED_CONNECTIONS_MAX)]
        reader, _ = await host.connect()
        assert await reader.read() == b""
        assert host.refused() == 1
        waiting[0][1].close()
        await at_end(waiting[0][0])
        await host.greet()


class TestStores:
    async def test_commits_are_told_between_greetings(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            await read_hello(reader)
            writer.write(greeting())
            frame = encode_frame(encode_commits(40), Channel.MESH)
            assert await reader.readexactly(len(frame)) == frame

    async def test_commits_that_were_told_are_remembered(self, host: Host) -> None:
        _, writer, _ = await host.greet()
        writer.write(encode_frame(encode_commits(60), Channel.MESH))
        writer.write(encode_frame(encode_commits(55), Channel.MESH) + encode_frame(b"and"))
        await until(lambda: host.heard)
        _, _, answer = await host.greet(msgspec.structs.replace(HELLO, life=6, commits=59))
        assert answer.refusal == Refusal.ROLLED_BACK
        _, _, answer = await host.greet(msgspec.structs.replace(HELLO, life=6, commits=60))
        assert answer == host.own_hello

    async def test_commits_that_were_told_are_on_disk_a_beat_later(self, host: Host, tmp_path: Path) -> None:
        _, writer, _ = await host.greet()
        writer.write(encode_frame(encode_commits(60), Channel.MESH))
        await until(lambda: b'"commits":60' in (tmp_path / "acquaintances.json").read_bytes())


class TestAddresses:
    async def test_a_taken_address_is_refused_by_name(self, host: Host, tmp_path: Path) -> None:
        second = mesh_of_one(tmp_path, host.address)
        with pytest.raises(NetworkRefused, match=f"{host.address} can't be listened on"):
            await second.start()
        await second.close()

    async def test_what_is_no_address_is_misuse(self, tmp_path: Path) -> None:
        with pytest.raises(Misuse, match="is not host:port"):
            mesh_of_one(tmp_path, "localhost")
        with pytest.raises(Misuse, match="is not host:port"):
            mesh_of_one(tmp_path, "localhost:7101", {PEER: "r2"})

    async def test_ipv6_addresses_are_bracketed(self, tmp_path: Path) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
        mesh = mesh_of_one(tmp_path, f"[::1]:{port}")
        await mesh.start()
        _, writer = await asyncio.open_connection("::1", port)
        writer.transport.abort()
        await mesh.close()

    @pytest.mark.parametrize(
        ("listen", "own", "told"),
        [
            ("127.0.0.1:{}", {}, "127.0.0.1:{}"),
            ("0.0.0.0:{}", {}, ""),
            ("0.0.0.0:{}", {ME: "r1.bank:7101"}, "r1.bank:7101"),
        ],
        ids=["where it listens", "everywhere", "as the operator says"],
    )
    async def test_a_replica_tells_where_it_is_reached(
        self, tmp_path: Path, listen: str, own: dict[ReplicaId, str], told: str
    ) -> None:
        port = free_address().partition(":")[2]
        mesh = mesh_of_one(tmp_path, listen.format(port), own, insecure=True)
        await mesh.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(greeting())
        assert (await read_hello(reader)).address == told.format(port)
        writer.transport.abort()
        await mesh.close()

    @pytest.mark.parametrize("listen", ["0.0.0.0:7101", "192.0.2.1:7101", "[::]:7101", "r1.bank:7101"])
    async def test_plaintext_off_loopback_is_misuse(self, tmp_path: Path, listen: str) -> None:
        with pytest.raises(Misuse, match="in the clear") as refused:
            mesh_of_one(tmp_path, listen)
        assert "`quorate tls init`" in refused.value.hint
        assert "--insecure" in refused.value.hint
        mesh_of_one(tmp_path, listen, insecure=True)


def mesh_of_one(
    directory: Path, listen: str, addresses: Mapping[ReplicaId, str] = MappingProxyType({}), *, insecure: bool = False
) -> TcpMesh:
    options = MeshOptions("bank", 1, listen, addresses, insecure=insecure)
    founders = founding({ME: "127.0.0.1:7101", PEER: "127.0.0.1:7102"})
    return TcpMesh(ME, founders, options, FACTS, directory, random.Random(1))
