"""The way to a peer, which the test plays: dialling, what is queued, refusals, and addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.transport.host import HELLO, PEER, Host, at_end, free_address, greeting, read_hello, refusal, until

from quorate import limits
from quorate.transport import Channel
from quorate.wire import FrameReader, Refusal, encode_frame


class TestDialling:
    async def test_the_peer_is_dialled_and_greeted(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            assert await read_hello(reader) == host.own_hello
            host.mesh.send((PEER,), b"too early")
            assert host.mesh.statistics().dropped_frames == 1
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
            host.mesh.send((PEER,), b"now")
            host.mesh.flush()
            assert await reader.readexactly(12) == encode_frame(b"now")

    async def test_another_replica_at_the_address_is_refused(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            writer.write(greeting(msgspec.structs.replace(HELLO, sender=3)))
            assert await at_end(reader)
            assert host.refused() == 1
            assert not host.mesh.connected()

    async def test_frames_on_a_dialled_connection_are_refused(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            writer.write(greeting() + encode_frame(b"psst"))
            assert await at_end(reader)
            assert host.heard == []
            assert host.refused() == 1

    async def test_a_peer_that_never_greets_is_dialled_again(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            silent, _ = await connections.get()
            assert await at_end(silent)
            reader, writer = await connections.get()
            await read_hello(reader)
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})

    async def test_a_peer_that_reads_nothing_fills_its_buffer_and_then_loses(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
            megabytes = bytes(8 * 1024 * 1024)
            for _ in range(20):
                host.mesh.send((PEER,), megabytes)
                host.mesh.flush()
            statistics = host.mesh.statistics()
            assert statistics.dropped_frames >= 5
            assert statistics.sent_frames == 20 - statistics.dropped_frames
            assert limits.PEER_BUFFER_BYTES_MAX - 2 * len(megabytes) < statistics.buffered_bytes
            assert statistics.buffered_bytes <= limits.PEER_BUFFER_BYTES_MAX
            writer.transport.abort()
            await until(lambda: not host.mesh.connected())
            assert host.mesh.statistics().buffered_bytes == 0

    async def test_unflushed_frames_of_a_lost_connection_count_as_dropped(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            _, writer = await connections.get()
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
            host.mesh.send((PEER,), b"a")
            host.mesh.send((PEER,), b"b")
            writer.transport.abort()
            await until(lambda: not host.mesh.connected())
            statistics = host.mesh.statistics()
            assert (statistics.dropped_frames, statistics.sent_frames, statistics.buffered_bytes) == (2, 0, 0)

    @pytest.mark.parametrize("kind", [Refusal.REMOVED, Refusal.OTHER_STORE, Refusal.ROLLED_BACK, Refusal.TWIN])
    async def test_a_final_refusal_is_handed_on_once(self, host: Host, kind: Refusal) -> None:
        async with host.playing_peer() as connections:
            for _ in range(2):
                reader, writer = await connections.get()
                writer.write(refusal(kind, "for a reason"))
                assert await at_end(reader)
            assert [error.exit_code for error in host.dismissed] == [3]

    @pytest.mark.parametrize("kind", [Refusal.STRANGER, 77])
    async def test_any_other_refusal_is_tried_again(self, host: Host, kind: Refusal) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            writer.write(refusal(kind, "not yet"))
            assert await at_end(reader)
            reader, writer = await connections.get()
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
            assert host.dismissed == []

    async def test_a_refusal_by_who_comes_here_is_no_reason_to_end(self, host: Host) -> None:
        reader, writer = await host.connect()
        writer.write(refusal(Refusal.REMOVED, "says a stranger"))
        assert await at_end(reader)
        assert host.dismissed == []
        assert host.refused() == 1


class TestState:
    async def test_state_waits_while_anything_is_unsent_and_the_rest_overtakes_it(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            reader, writer = await connections.get()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
            chunk = bytes(limits.STATE_YIELD_BYTES)
            while host.mesh.statistics().dropped_state_frames == 0:
                host.mesh.send((PEER,), chunk, Channel.STATE)
                host.mesh.flush()
            host.mesh.send((PEER,), b"heartbeat")
            host.mesh.flush()
            sent = host.mesh.statistics().sent_frames - 1
            assert host.mesh.statistics().buffered_bytes <= limits.STATE_BUFFER_BYTES_MAX + 3 * len(chunk)
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            frames = await read_frames(reader, lambda frames: (Channel.ORDER, b"heartbeat") in frames)
            assert [channel for channel, _ in frames].index(Channel.ORDER) == 1 + sent
            await until(lambda: host.mesh.statistics().buffered_bytes == 0)

    async def test_state_of_a_lost_connection_counts_as_dropped(self, host: Host) -> None:
        async with host.playing_peer() as connections:
            _, writer = await connections.get()
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
            host.mesh.send((PEER,), b"chunk", Channel.STATE)
            writer.transport.abort()
            await until(lambda: not host.mesh.connected())
            statistics = host.mesh.statistics()
            assert (statistics.dropped_state_frames, statistics.buffered_bytes) == (1, 0)


async def read_frames(
    reader: asyncio.StreamReader, enough: Callable[[list[tuple[int, bytes]]], bool]
) -> list[tuple[int, bytes]]:
    frames: list[tuple[int, bytes]] = []
    frame_reader = FrameReader()
    async with asyncio.timeout(10):
        while not enough(frames):
            frames += frame_reader.feed(await reader.read(65536))
    return frames


class TestAddresses:
    async def test_the_address_that_works_is_kept(self, host: Host) -> None:
        elsewhere = free_address()
        async with host.playing_peer() as connections:
            for _ in range(2):
                _, writer = await connections.get()
                writer.write(greeting())
                await until(lambda: host.mesh.connected() == {PEER})
                await host.greet(msgspec.structs.replace(HELLO, address=elsewhere))
                writer.transport.abort()
                await until(lambda: not host.mesh.connected())

    @pytest.mark.parametrize("told", ["..:7101", "no-such-host.invalid:7101", "a\0b:7101"])
    async def test_an_address_that_is_no_good_is_left_again(self, host: Host, told: str) -> None:
        with capture_logs() as logs:
            await host.greet(msgspec.structs.replace(HELLO, address=told))
            await until(lambda: [entry["event"] for entry in logs].count("peer is tried elsewhere") >= 2)
        async with host.playing_peer() as connections:
            _, writer = await connections.get()
            writer.write(greeting())
            await until(lambda: host.mesh.connected() == {PEER})
