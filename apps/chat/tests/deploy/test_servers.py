"""Every server, twice at once: a real client writes, and reads again after a restart and after a crash."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aio_pika
import aiokafka
import asyncpg
import httpx2
import psutil
import pytest
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.process import PORTS, Server, ServerFailed, is_free
from deploy.servers import Kafka, ObjectStore, PostgreSQL, RabbitMQ, Redis

Write = Callable[[Any, str], Awaitable[None]]
Read = Callable[[Any], Awaitable[list[str]]]


async def _insert(server: PostgreSQL, text: str) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (number serial, body text)")
    await connection.execute("INSERT INTO kept (body) VALUES ($1)", text)
    await connection.close()


async def _select(server: PostgreSQL) -> list[str]:
    connection = await asyncpg.connect(server.url())
    found = [row["body"] for row in await connection.fetch("SELECT body FROM kept ORDER BY number")]
    await connection.close()
    return found


async def _push(server: Redis, text: str) -> None:
    async with redis.asyncio.from_url(server.url) as client:
        await client.rpush("kept", text)


async def _range(server: Redis) -> list[str]:
    async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
        return [str(text) for text in await client.lrange("kept", 0, -1)]


async def _publish(server: RabbitMQ, text: str) -> None:
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue("kept", durable=True)
        message = aio_pika.Message(text.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")


async def _peek(server: RabbitMQ) -> list[str]:
    """Messages that aren't acknowledged stay in the queue, and in order."""
    async with await aio_pika.connect(server.url) as connection:
        queue = await (await connection.channel()).declare_queue("kept", durable=True)
        found = []
        while (message := await queue.get(fail=False)) is not None:
            found.append(message.body.decode())
        return found


async def _produce(server: Kafka, text: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=_brokers(server))
    await admin.start()
    if "kept" not in await admin.list_topics():
        await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=_brokers(server), acks="all") as producer:
        await producer.send_and_wait("kept", text.encode())


async def _consume(server: Kafka) -> list[str]:
    partition = aiokafka.TopicPartition("kept", 0)
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=_brokers(server), auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found = []
        while await consumer.position(partition) < end:
            found.append((await consumer.getone()).value.decode())
        return found


def _brokers(server: Kafka) -> str:
    return urllib.parse.urlsplit(server.url).netloc


async def _put(server: ObjectStore, text: str) -> None:
    await _s3(server, f"/{len(await _list(server)):04}", "--request", "PUT", "--data-binary", "@-", stdin=text)


async def _list(server: ObjectStore) -> list[str]:
    listing = await _s3(server, "?list-type=2")
    return [await _s3(server, f"/{key.partition('</Key>')[0]}") for key in listing.split("<Key>")[1:]]


async def _s3(server: ObjectStore, what: str, *options: str, stdin: str = "") -> str:
    url = urllib.parse.urlsplit(server.url)
    signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{url.username}:{url.password}"]
    signing += ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    command = ["curl", "-sS", "--fail", *signing, *options, f"http://{url.hostname}:{url.port}{url.path}{what}"]
    return (
        await asyncio.to_thread(subprocess.run, command, input=stdin, check=True, capture_output=True, text=True)
    ).stdout


CLIENTS: dict[type[Server], tuple[Write, Read]] = {
    PostgreSQL: (_insert, _select),
    Redis: (_push, _range),
    RabbitMQ: (_publish, _peek),
    Kafka: (_produce, _consume),
    ObjectStore: (_put, _list),
}


def _family(server: Server) -> list[psutil.Process]:
    """All processes that have to do with a server."""
    return _working_in(server.directory)


def _working_in(directory: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _works_in(process, directory)]


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(directory)
    except psutil.Error:  # gone, or none of ours
        return False


@contextlib.asynccontextmanager
async def _pair(kind: type[Server], directory: Path) -> AsyncIterator[tuple[Server, Server]]:
    one, two = kind(directory / "one"), kind(directory / "two")
    try:
        await asyncio.gather(one.start(), two.start())
        yield one, two
    finally:
        await asyncio.gather(one.kill(), two.kill())


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
async def test_what_was_acknowledged_survives_restarts_and_crashes(directory: Path, kind: type[Server]) -> None:
    write, read = CLIENTS[kind]
    async with _pair(kind, directory) as (one, two):
        await write(one, "first")
        await write(two, "other")
        # RabbitMQ may forget a queue that was declared moments before a crash; what is in an older one, it keeps.
        await asyncio.gather(one.restart(), two.restart())
        await write(one, "second")
        await write(two, "another")
        assert await read(one) == (["second"] if kind is Redis else ["first", "second"])
        await asyncio.gather(one.kill(), two.kill())
        assert not _family(two)
        await asyncio.gather(one.start(), two.start())
        if kind is not Redis:
            assert await read(one) == ["first", "second"]
            assert await read(two) == ["other", "another"]
        for server in (one, two):
            assert _family(server)
            await server.stop()
            assert not _family(server)
            assert is_free(server.port)


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
async def test_a_port_that_is_taken_is_named(directory: Path, kind: type[Server]) -> None:
    server = kind(directory / "server")
    with (
        socket.create_server(("127.0.0.1", server.port)),
        pytest.raises(ServerFailed, match=f"^{kind.name} can't listen on 127.0.0.1:{server.port}: somebody else does$"),
    ):
        await server.start()
    assert not _family(server)


async def test_a_server_that_ends_at_its_start_shows_its_log(directory: Path) -> None:
    server = PostgreSQL(directory)
    await server.start()
    await server.stop()
    (directory / "data/global/pg_control").unlink()
    with pytest.raises(
        ServerFailed, match=r"^PostgreSQL ended at its start with status \d+; .*/log ends:\n(.*\n)*.*pg_control"
    ):
        await server.start()
    assert not _family(server)


async def test_a_directory_that_holds_something_else_is_refused(directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data/letter").write_text("not a database")
    with pytest.raises(ServerFailed, match=r"^initdb failed for PostgreSQL; (.*\n)*.*not empty"):
        await PostgreSQL(directory).start()
    assert (directory / "data/letter").exists()


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
async def test_a_directory_that_cannot_be_is_named(directory: Path, kind: type[Server]) -> None:
    (directory / "file").touch()
    with pytest.raises(
        ServerFailed, match=f"^{kind.name} can't have {directory}/file/x as its directory: Not a directory$"
    ):
        await kind(directory / "file/x").start()


async def test_a_directory_that_postgres_may_not_enter_is_named(tmp_path: Path) -> None:
    """Those that pytest makes are for one user only."""
    server = PostgreSQL(tmp_path / "x")
    server.user = "postgres"
    with pytest.raises(ServerFailed, match=r"^PostgreSQL runs as postgres, who may not enter /.*: take another"):
        await server.start()


async def test_a_program_that_is_missing_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(ServerFailed, match=r"^redis-server is not installed: run `.ci/ensure redis`$"):
        await Redis(directory).start()


async def test_the_object_store_turns_away_whoever_has_no_key(directory: Path) -> None:
    async with ObjectStore(directory) as server, httpx2.AsyncClient() as client:
        address = urllib.parse.urlsplit(server.url)
        answer = await client.get(f"http://{address.hostname}:{address.port}{address.path}?list-type=2")
    assert answer.status_code == 403


async def test_several_databases(directory: Path) -> None:
    async with PostgreSQL(directory, ("users", "notifications")) as server:
        for name in ("users", "notifications"):
            connection = await asyncpg.connect(server.url(name))
            assert await connection.fetchval("SHOW fsync") == "on"
            await connection.close()


def test_ports_are_not_among_those_of_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert PORTS.stop <= first


async def test_a_server_that_ends_by_itself_is_noticed(directory: Path) -> None:
    server = Redis(directory)
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.wait_for(server.ended(), 10) == 0
    assert server.pid is None
    await server.stop()


STARTER = """
import asyncio, sys
from pathlib import Path
from deploy.servers import PostgreSQL, RabbitMQ, Redis
async def main():
    for kind in (PostgreSQL, RabbitMQ, Redis):
        await kind(Path(sys.argv[1]) / kind.name).start()
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_nothing_outlives_whoever_started_it(directory: Path) -> None:
    root = Path(__file__).parents[2]
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, directory, cwd=root, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    try:
        assert await starter.stdout.readline() == b"started\n"
        assert {process.name() for process in _working_in(directory)} >= {
            "postgres",
            "redis-server",
            "beam.smp",
            "epmd",
        }
    finally:
        starter.kill()
        await starter.wait()
    async with asyncio.timeout(15):
        while _working_in(directory):
            await asyncio.sleep(0.1)
